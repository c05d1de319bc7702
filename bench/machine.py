"""Where a benchmark's images, registry and runs live, and how one command is measured."""

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
EMPTY = "127.0.0.1:5097"


def run(command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)


def binary():
    host = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    triple = next(line.split()[1] for line in host.splitlines() if line.startswith("host:"))
    return str(ROOT / "target" / triple / "release" / "skycap")


class Machine:
    """Where everything of this run lives. Extractions go below `runs`, which may be on another file system."""

    def __init__(self, directory, skycap, runs=None):
        self.directory = Path(directory)
        self.skycap = skycap
        self.runs = Path(runs) if runs else self.directory / "runs"
        self.counter = 0
        self.directory.mkdir(parents=True, exist_ok=True)

    def fresh(self, name):
        self.counter += 1
        path = self.runs / f"{os.getpid()}-{self.counter}-{name}"
        path.mkdir(parents=True)
        return path

    def done_with(self, path):
        """On memory the room is needed again; on a disk, removing a large tree slows the next extraction."""
        if str(self.runs).startswith("/dev/shm"):
            shutil.rmtree(path)

    def serve(self, data=None, address=REGISTRY):
        """Debian's docker-registry over `data`; to be terminated."""
        data = data or self.directory / "registry"
        config = self.directory / f"registry-{address.rpartition(':')[2]}.yml"
        config.write_text(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {data}}}, delete: {{enabled: true}}}}\nhttp: {{addr: {address}}}\n"
        )
        command = ["docker-registry", "serve", str(config)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        return server


def build_and_push(name, directory, dockerfile):
    """An image with one gzip layer a file of the directory, made by buildah."""
    (directory / "Dockerfile").write_text(dockerfile)
    storage = ["--root", str(directory.parent / "storage"), "--runroot", str(directory.parent / "run"), "--storage-driver", "vfs"]
    reference = f"{REGISTRY}/{name}:1"
    run(["buildah", *storage, "bud", "--isolation", "chroot", "--layers", "-t", reference, str(directory)])
    run(["buildah", *storage, "push", "--tls-verify=false", reference])


def prepare_debian(machine):
    """About 1.1 GB of Debian with gcc, Go, perl and python in six layers."""
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


def prepare(machine):
    for name, make in [("debian-ish", prepare_debian), ("many-small", prepare_many), ("tiny", push_tiny)]:
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


def shell(script):
    """A step that is a shell pipeline; its CPU seconds are those of all its processes."""
    return {"command": ["bash", "-euo", "pipefail", "-c", script]}


def compare(title, contestants, runs):
    """Runs each contestant in turn, and returns the medians. A contestant is a name and a function that returns the steps
    to measure; the first one is skycap."""
    samples = {name: [] for name, _ in contestants}
    for _ in range(runs):
        for name, make in contestants:
            total = [0.0, 0.0, 0.0]
            for step in make():
                wall, cpu, peak = measure(**step)
                total = [total[0] + wall, total[1] + cpu, max(total[2], peak)]
            samples[name].append(total)
    median = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in samples.items()}
    own = median[contestants[0][0]]
    print(f"\n### {title}\n\n| | wall s | CPU s | peak MiB | times skycap's wall | skycap's wall is |\n|---|---|---|---|---|---|")
    for name, (wall, cpu, peak) in median.items():
        share = f"1/{wall / own[0]:.1f} of it" if wall > own[0] else f"{own[0] / wall:.2f} times it"
        share = "" if name == contestants[0][0] else share
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {peak:.0f} | {wall / own[0]:.2f} | {share} |", flush=True)
    return median
