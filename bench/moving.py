"""Getting and putting images beside skopeo, umoci and curl, and the machine's limit measured in the same run."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import EMPTY, REGISTRY, compare, measure, shell

HERE = Path(__file__).resolve().parent


def inspect(image):
    """The image's digest, the digests of its layers and of its config."""
    reference = f"docker://{REGISTRY}/{image}:1"
    skopeo = ["skopeo", "inspect", "--tls-verify=false"]
    digest = subprocess.run([*skopeo, "--format", "{{.Digest}}", reference], capture_output=True, text=True, check=True).stdout.strip()
    raw = subprocess.run([*skopeo, "--raw", reference], capture_output=True, text=True, check=True).stdout
    manifest = json.loads(raw)
    return digest, [layer["digest"] for layer in manifest["layers"]], manifest["config"]["digest"]


def request(image, digest, **params):
    source = {"repository": f"{REGISTRY}/{image}", "tag": "1", "insecure": True}
    return json.dumps({"source": source, "version": {"tag": "1", "digest": digest}, "params": params})


def fetch(image, blobs, directory):
    """curl of all blobs in one process, one after the other over one connection."""
    urls = " ".join(f"-o {directory}/{blob} http://{REGISTRY}/v2/{image}/blobs/{blob}" for blob in blobs)
    return f"curl -sf {urls}"


def limit(machine, image, blobs, runs):
    """Seconds of CPU of each piece that a verified get cannot do without, with the fastest tool for it."""
    blobs_at, tars = machine.fresh("limit"), machine.fresh("tars")
    subprocess.run(["bash", "-c", fetch(image, blobs, blobs_at)], check=True)
    order = " ".join(blobs)
    subprocess.run(["bash", "-c", f"for b in {order}; do igzip -dc < {blobs_at}/$b > {tars}/$b; done"], check=True)

    def create():
        return f"for b in {order}; do tar -C {machine.fresh('created')} --numeric-owner --xattrs -xf {tars}/$b; done"

    def to_null(tool, directory):
        return lambda: f"for b in {order}; do {tool} < {directory}/$b > /dev/null; done"

    pieces = {
        "fetching (curl to nowhere)": lambda: f"curl -sf {' '.join(f'http://{REGISTRY}/v2/{image}/blobs/{b}' for b in blobs)} > /dev/null",
        "sha256 of the blobs (openssl)": to_null("openssl dgst -sha256", blobs_at),
        "inflating (igzip)": to_null("igzip -dc", blobs_at),
        "sha256 of the tars (openssl)": to_null("openssl dgst -sha256", tars),
        "creating the files (GNU tar)": create,
    }
    total = 0.0
    print(f"\nThe limit for `{image}`, CPU seconds:\n\n| piece | CPU s |\n|---|---|")
    for name, make in pieces.items():
        seconds = statistics.median(measure(**shell(make()))[1] for _ in range(runs))
        total += seconds
        print(f"| {name} | {seconds:.2f} |")
    cores = os.cpu_count()
    print(f"| all, divided by {cores} cores | {total / cores:.2f} |", flush=True)
    return total / cores


def get_rootfs(machine, image, runs):
    digest, layers, _ = inspect(image)

    def skycap():
        directory = machine.fresh("skycap")
        return [{"command": [machine.skycap, "registry-image", "in", str(directory)], "stdin": request(image, digest)}]

    def skopeo_umoci():
        directory = machine.fresh("umoci")
        layout = f"{directory}/layout"
        return [
            {"command": ["skopeo", "copy", "--src-tls-verify=false", f"docker://{REGISTRY}/{image}:1", f"oci:{layout}:1"]},
            {"command": ["umoci", "raw", "unpack", "--image", f"{layout}:1", f"{directory}/rootfs"]},
        ]

    contestants = [("skycap", skycap), ("skopeo copy, umoci unpack", skopeo_umoci)]
    median = compare(f"get of {image} to a rootfs", contestants, runs)
    bound = limit(machine, image, layers, runs)
    print(f"\nskycap stands at {median['skycap'][0] / bound:.2f} times the limit.", flush=True)


def get_files(machine, image, runs):
    """As archive and as layout: nothing is inflated, so curl and sha256 of the blobs are what there is to do."""
    digest, layers, config = inspect(image)

    def skycap(form):
        def make():
            directory = machine.fresh(form)
            return [{"command": [machine.skycap, "registry-image", "in", str(directory)], "stdin": request(image, digest, format=form)}]
        return make

    def curl():
        directory = machine.fresh("curl")
        return [shell(f"{fetch(image, [*layers, config], directory)}; openssl dgst -sha256 {directory}/*")]

    def skopeo(transport):
        def make():
            return [{"command": ["skopeo", "copy", "--src-tls-verify=false", f"docker://{REGISTRY}/{image}:1", f"{transport}:{machine.fresh('skopeo')}/image:1"]}]
        return make

    plain = ("curl of the blobs, openssl sha256", curl)
    compare(f"get of {image} as an archive", [("skycap", skycap("oci")), plain, ("skopeo copy to oci-archive", skopeo("oci-archive"))], runs)
    compare(f"get of {image} as a layout", [("skycap", skycap("oci-layout")), plain, ("skopeo copy to oci", skopeo("oci"))], runs)


UPLOAD = """
put() {{ # one blob in one request, as a registry takes it
    location=$(curl -sf -o /dev/null -D - -X POST http://{registry}/v2/{repository}/blobs/uploads/ | tr -d '\\r' | sed -n 's/^[Ll]ocation: //p')
    curl -sf -o /dev/null -X PUT -H 'Content-Type: application/octet-stream' -T "{blobs}/$1" "$location&digest=$1"
}}
export -f put
printf '%s\\n' {order} | xargs -P 4 -I @ bash -c 'put @'
"""


def put(machine, image, runs):
    """From an OCI archive into an empty repository, and once more with everything there. The registry is an empty one of
    its own, because skopeo remembers where else a registry has a blob and would mount it from there."""
    _, layers, config = inspect(image)
    blobs, archive = machine.fresh("blobs"), machine.fresh("source") / "image.tar"
    subprocess.run(["bash", "-c", fetch(image, [*layers, config], blobs)], check=True)
    subprocess.run(["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{REGISTRY}/{image}:1", f"oci-archive:{archive}:1"], check=True)
    emptied = {}

    def skycap(repository):
        source = {"repository": f"{EMPTY}/{repository}", "tag": "1", "insecure": True}
        step = {"command": [machine.skycap, "registry-image", "out", str(archive.parent)]}
        return [{**step, "stdin": json.dumps({"source": source, "params": {"image": "image.tar"}})}]

    def skopeo(repository):
        return [{"command": ["skopeo", "copy", "--dest-tls-verify=false", f"oci-archive:{archive}:1", f"docker://{EMPTY}/{repository}:1"]}]

    def curl(repository):
        return [shell(UPLOAD.format(registry=EMPTY, repository=repository, blobs=blobs, order=" ".join([*layers, config])))]

    def into_empty(steps):
        def make():
            if emptied:
                emptied.pop("server").terminate()
            emptied["server"] = machine.serve(machine.fresh("empty"), EMPTY)
            return steps("put")
        return make

    try:
        contestants = [("skycap", into_empty(skycap)), ("curl, four blobs at once", into_empty(curl)), ("skopeo copy", into_empty(skopeo))]
        compare(f"put of {image} from an archive into an empty repository", contestants, runs)
        contestants = [("skycap", lambda: skycap("put")), ("skopeo copy", lambda: skopeo("put"))]
        compare(f"put of {image} with all present", contestants, runs)
    finally:
        emptied["server"].terminate()


def heads(machine, runs):
    """A check of 1,000 semver tags, each HEAD answered after 20 ms."""
    server = subprocess.Popen([sys.executable, str(HERE / "slow_registry.py"), "5098", "1000", "0.02"])
    time.sleep(1)
    address = "127.0.0.1:5098"
    source = {"repository": f"{address}/many", "semver_constraint": ">= 0.0.0", "insecure": True}

    def skycap():
        return [{"command": [machine.skycap, "registry-image", "check"], "stdin": json.dumps({"source": source})}]

    def curl():
        urls = f"curl -sf http://{address}/v2/many/tags/list | jq -r '.tags[] | \"url = http://{address}/v2/many/manifests/\\(.)\"'"
        return [shell(f"curl -sfI -K <({urls})")]

    try:
        compare("check of 1,000 tags at 20 ms an answer", [("skycap", skycap), ("curl, one after the other", curl)], min(runs, 3))
    finally:
        server.terminate()
