#!/usr/bin/env python3
"""usage: slow_registry.py PORT TAGS SECONDS: a registry with one manifest under many tags, each answer late by SECONDS."""

import asyncio
import hashlib
import json
import sys

MANIFEST = json.dumps({
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": f"sha256:{'0' * 64}", "size": 2},
    "layers": [],
}).encode()


def answer(target, tags):
    if target.startswith("/v2/") and target.partition("?")[0].endswith("/tags/list"):
        body = json.dumps({"name": "many", "tags": tags}).encode()
        return "application/json", body, ""
    if "/manifests/" in target:
        digest = hashlib.sha256(MANIFEST + target.rpartition("/")[2].encode()).hexdigest()
        return "application/vnd.oci.image.manifest.v1+json", MANIFEST, f"Docker-Content-Digest: sha256:{digest}\r\n"
    return "application/json", b"{}", ""


async def serve(reader, writer, tags, seconds):
    try:
        while request := await reader.readuntil(b"\r\n\r\n"):
            method, target, _ = request.split(b" ", 2)
            kind, body, extra = answer(target.decode(), tags)
            await asyncio.sleep(seconds)
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode()
            writer.write(head + (b"" if method == b"HEAD" else body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    port, count, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    tags = [f"{number // 100}.{number // 10 % 10}.{number % 10}" for number in range(count)]
    server = await asyncio.start_server(lambda reader, writer: serve(reader, writer, tags, seconds), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
