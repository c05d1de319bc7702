#!/usr/bin/env python3
"""skycap beside its peers, in one run, as ratios.

usage: bench/bench.py [--dir DIR] [--runs N] [--only NAME[,NAME]]

Needs a release build of skycap and Debian's docker-registry, skopeo, umoci, buildah and mmdebstrap; root, because umoci
and buildah then do the same work as skycap (owners are kept). Commands of one comparison take turns (A B A B ...), so a
drift of the machine hits both. Every extraction goes to a fresh directory that is not removed between runs: removing
a large tree on ext4 makes the next extraction slow. Prints Markdown.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PORT = 5099
REGISTRY = f"127.0.0.1:{PORT}"


def run(command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)


def binary():
    host = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    triple = next(line.split()[1] for line in host.splitlines() if line.startswith("host:"))
    return str(ROOT / "target" / triple / "release" / "skycap")


class Machine:
    """Where everything of this run lives."""

    def __init__(self, directory, skycap):
        self.directory = Path(directory)
        self.skycap = skycap
        self.counter = 0
        self.directory.mkdir(parents=True, exist_ok=True)

    def fresh(self, name):
        self.counter += 1
        path = self.directory / "runs" / f"{os.getpid()}-{self.counter}-{name}"
        path.mkdir(parents=True)
        return path

    def serve(self):
        data = self.directory / "registry"
        config = self.directory / "registry.yml"
        config.write_text(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {data}}}, delete: {{enabled: true}}}}\nhttp: {{addr: {REGISTRY}}}\n"
        )
        return subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def build_and_push(name, directory, dockerfile):
    """An image with one gzip layer a file of the directory, made by buildah."""
    (directory / "Dockerfile").write_text(dockerfile)
    storage = ["--root", str(directory.parent / "storage"), "--runroot", str(directory.parent / "run"), "--storage-driver", "vfs"]
    reference = f"{REGISTRY}/{name}:1"
    run(["buildah", *storage, "bud", "--isolation", "chroot", "--layers", "-t", reference, str(directory)])
    run(["buildah", *storage, "push", "--tls-verify=false", reference])


def prepare_debian(machine):
    """About 700 MB of Debian with gcc, perl and python in six layers."""
    root = machine.directory / "debian-root"
    include = "gcc,g++,make,perl,python3,git,cmake,gdb,golang-go"
    run(["mmdebstrap", "--variant=minbase", f"--include={include}", "bookworm", str(root)])
    layers = machine.directory / "debian-layers"
    layers.mkdir()
    parts = [["usr/lib/gcc", "usr/lib/go-1.19"], ["usr/lib/x86_64-linux-gnu"], ["usr/share"], ["usr/bin", "usr/libexec"], ["var", "etc"]]
    excluded = []
    for number, part in enumerate(parts):
        present = [path for path in part if (root / path).exists()]
        run(["tar", "-C", str(root), "--numeric-owner", "--xattrs", "-cf", str(layers / f"{number}.tar"), *present])
        excluded += [f"--exclude=./{path}" for path in present]
    run(["tar", "-C", str(root), "--numeric-owner", "--xattrs", *excluded, "--exclude=./dev/*", "-cf", str(layers / "base.tar"), "."])
    adds = "".join(f"ADD {tar}.tar /\n" for tar in ["base", *range(len(parts))])
    build_and_push("debian-ish", layers, f"FROM scratch\n{adds}")
    shutil.rmtree(layers)


def prepare_many(machine):
    """60,000 small files in one layer."""
    tree = machine.directory / "many"
    for number in range(60_000):
        path = tree / f"d{number // 1000}" / f"s{number // 50 % 20}" / f"file-{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"file {number}\n" * 20)
    context = machine.directory / "many-context"
    context.mkdir()
    run(["tar", "-C", str(tree), "-cf", str(context / "many.tar"), "."])
    build_and_push("many-small", context, "FROM scratch\nADD many.tar /\n")


def prepare(machine):
    for name, make in [("debian-ish", prepare_debian), ("many-small", prepare_many)]:
        done = machine.directory / f"{name}.done"
        if not done.exists():
            print(f"making {name} (once) ...", file=sys.stderr)
            make(machine)
            done.touch()


def measure(command, env=None, cwd=None, stdin=None):
    """Wall seconds, CPU seconds, peak MiB of the largest process."""
    started = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, **(env or {})}, cwd=cwd,
    )
    if stdin:
        process.stdin.write(stdin.encode())
        process.stdin.close()
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command} failed:\n{errors.decode()[-2000:]}")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def compare(title, contestants, runs):
    """Runs each contestant in turn; a contestant is a name and a function that returns what to measure."""
    samples = {name: [] for name, _ in contestants}
    for _ in range(runs):
        for name, make in contestants:
            total = [0.0, 0.0, 0.0]
            for step in make():
                wall, cpu, peak = measure(**step)
                total = [total[0] + wall, total[1] + cpu, max(total[2], peak)]
            samples[name].append(total)
    median = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in samples.items()}
    own = median["skycap"]
    print(f"\n### {title}\n\n| | wall s | CPU s | peak MiB | times skycap's wall |\n|---|---|---|---|---|")
    for name, (wall, cpu, peak) in median.items():
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {peak:.0f} | {wall / own[0]:.1f} |", flush=True)


def get(machine, image, runs):
    source = {"repository": f"{REGISTRY}/{image}", "tag": "1"}
    reference = f"docker://{REGISTRY}/{image}:1"
    output = subprocess.run(["skopeo", "inspect", "--tls-verify=false", reference], capture_output=True, text=True, check=True)
    version = {"tag": "1", "digest": json.loads(output.stdout)["Digest"]}
    request = json.dumps({"source": source, "version": version})

    def skycap():
        directory = machine.fresh("skycap")
        return [{"command": [machine.skycap, "registry-image", "in", str(directory)], "stdin": request}]

    def skopeo_umoci():
        directory = machine.fresh("umoci")
        layout = f"{directory}/layout"
        return [
            {"command": ["skopeo", "copy", "--src-tls-verify=false", reference, f"oci:{layout}:1"]},
            {"command": ["umoci", "raw", "unpack", "--image", f"{layout}:1", f"{directory}/rootfs"]},
        ]

    compare(f"get of {image} to a rootfs", [("skycap", skycap), ("skopeo copy, umoci unpack", skopeo_umoci)], runs)


DOCKERFILES = {
    "small": "FROM {registry}/tiny:1\nCOPY a /a\nRUN echo one > /one\nCOPY b /b\nRUN echo two > /two\nCOPY c /c\n",
    "touch": "FROM {registry}/debian-ish:1\nRUN touch /etc/one /usr/share/two && echo three > /three\n",
}


def build(machine, name, runs):
    context = machine.directory / f"context-{name}"
    context.mkdir(exist_ok=True)
    for file in "abc":
        (context / file).write_text(f"file {file}\n" * 100)
    (context / "Dockerfile").write_text(DOCKERFILES[name].format(registry=REGISTRY))
    stores = {"skycap": None, "buildah": None}

    def skycap(cold):
        def make():
            if cold or not stores["skycap"]:
                stores["skycap"] = machine.fresh("store")
            out = machine.fresh("out") / "image.tar"
            command = [machine.skycap, "build", "--store", str(stores["skycap"]), "-o", f"docker-archive:{out}", str(context)]
            return [{"command": command}]
        return make

    def buildah(cold):
        def make():
            if cold or not stores["buildah"]:
                stores["buildah"] = machine.fresh("buildah")
            directory = stores["buildah"]
            storage = ["--root", f"{directory}/root", "--runroot", f"{directory}/run", "--storage-driver", "overlay"]
            out = machine.fresh("out") / "image.tar"
            return [
                {"command": ["buildah", *storage, "bud", "--isolation", "chroot", "--layers", "--tls-verify=false", "-t", "bench", str(context)]},
                {"command": ["buildah", *storage, "push", "bench", f"docker-archive:{out}:bench"]},
            ]
        return make

    compare(f"build `{name}`, cold, to a docker archive", [("skycap", skycap(True)), ("buildah bud --layers, push", buildah(True))], runs)
    compare(f"build `{name}`, nothing changed", [("skycap", skycap(False)), ("buildah bud --layers, push", buildah(False))], runs)


def push_tiny(machine):
    """busybox-static as an image, by buildah."""
    context = machine.directory / "tiny"
    context.mkdir(exist_ok=True)
    shutil.copy("/bin/busybox", context / "busybox")
    run(["tar", "-C", str(context), "--transform", "s,busybox,bin/busybox,", "-cf", str(context / "tiny.tar"), "busybox"])
    os.makedirs(context / "links/bin", exist_ok=True)
    for applet in ["sh", "echo", "touch", "cat", "ls", "sleep"]:
        link = context / "links/bin" / applet
        if not link.is_symlink():
            link.symlink_to("busybox")
    run(["tar", "-C", str(context / "links"), "-cf", str(context / "links.tar"), "bin"])
    build_and_push("tiny", context, "FROM scratch\nADD tiny.tar /\nADD links.tar /\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", default="/tmp/skycap-bench")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="get-debian,get-many,build-small,build-touch")
    arguments = parser.parse_args()
    machine = Machine(arguments.dir, binary())
    server = machine.serve()
    time.sleep(1)
    wanted = arguments.only.split(",")
    try:
        prepare(machine)
        push_tiny(machine)
        if "get-debian" in wanted:
            get(machine, "debian-ish", arguments.runs)
        if "get-many" in wanted:
            get(machine, "many-small", arguments.runs)
        if "build-small" in wanted:
            build(machine, "small", arguments.runs)
        if "build-touch" in wanted:
            build(machine, "touch", arguments.runs)
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
