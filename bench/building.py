"""Builds beside buildah."""

import json
import os
import shutil

from machine import REGISTRY, compare, measure, run, shell

SMALL = "FROM {registry}/tiny:1\nCOPY a /a\nRUN echo one > /one\nCOPY b /b\nRUN echo two > /two\nCOPY c /c\n"
STAGE = "FROM {registry}/tiny:1 AS s{n}\nRUN sleep 2 && echo {n} > /{n}\n"
DOCKERFILES = {
    "small": SMALL,
    "touch": "FROM {registry}/debian-ish:1\nRUN touch /etc/one /usr/share/two && echo three > /three\nCOPY c /c\n",
    "copy": "FROM {registry}/debian-ish:1\nCOPY a /a\nCOPY c /usr/share/c\n",
    "multi": "".join(STAGE.replace("{n}", str(n)) for n in range(3))
    + "FROM scratch\n" + "".join(f"COPY --from=s{n} /{n} /{n}\n" for n in range(3)),
    "many": "FROM {registry}/tiny:1\nCOPY . /files/\n",
}


class Builds:
    """One Dockerfile, and the stores that the builders keep between its builds."""

    def __init__(self, machine, name):
        self.machine = machine
        self.stores = {}
        self.context = machine.directory / ("many" if name == "many" else f"context-{name}")
        self.dockerfile = machine.directory / f"{name}.Dockerfile"
        self.dockerfile.write_text(DOCKERFILES[name].format(registry=REGISTRY))
        if name != "many":
            self.context.mkdir(exist_ok=True)
            for file in "abc":
                (self.context / file).write_text(f"file {file}\n" * 100)

    def task_room(self, cold):
        """The working directory of the task. Each build gets new inputs and outputs, and the cache of the one before."""
        room = self.machine.fresh("task")
        for name in ["image", "context"]:
            (room / name).mkdir()
        shutil.copytree(self.context, room / "context", dirs_exist_ok=True)
        shutil.copy(self.dockerfile, room / "context/Dockerfile")
        cache = self.stores.get("task")
        if cold or cache is None:
            (room / "cache").mkdir()
        else:
            cache.rename(room / "cache")
        self.stores["task"] = room / "cache"
        return room

    def store(self, builder, cold):
        if cold or builder not in self.stores:
            self.stores[builder] = self.machine.fresh(builder)
        return self.stores[builder]

    def late_change(self):
        """Makes the last COPY another one."""
        self.machine.counter += 1
        (self.context / "c").write_text(f"change {self.machine.counter}\n")

    def skycap(self, cold, change=False, form="docker-archive"):
        def make():
            if change:
                self.late_change()
            store, out = self.store("skycap", cold), self.machine.fresh("out") / "image"
            self.output = out
            output = ["-o", f"{form}:{out}", "-f", str(self.dockerfile)]
            return [{"command": [self.machine.skycap, "build", "--insecure", "--store", str(store), *output, str(self.context)]}]
        return make

    def task(self, cold):
        """The same Dockerfile as the task of Concourse."""
        def make():
            room = self.task_room(cold)
            return [{"command": [self.machine.skycap, "oci-build"], "env": {"CONTEXT": "context"}, "cwd": room}]
        return make

    def copied(self, sync=False):
        """The limit of an output: copying what skycap wrote just before, from memory; or also waiting for the disk, as it does."""
        def make():
            source, out = self.output, self.machine.fresh("copy") / "image"
            files = [path for path in [source, *source.rglob("*")] if path.is_file()]
            run(["cat", *map(str, files)])
            steps = [{"command": ["cp", "-r", str(source), str(out)]}]
            return [*steps, {"command": ["sync", *(str(out / path.relative_to(source)) for path in files)]}] if sync else steps
        return make

    def walked(self):
        """The limit of looking at a context: walking and hashing it with the same hash, on as many cores."""
        hashing = f"find {self.context} -type f -print0 | xargs -0 -n 2000 -P {os.cpu_count()} openssl dgst -sha256 -r"
        return lambda: [shell(hashing)]

    def buildah(self, cold, change=False, jobs=None, form="docker-archive"):
        def make():
            if change:
                self.late_change()
            directory, out = self.store("buildah", cold), self.machine.fresh("out") / "image"
            storage = ["--root", f"{directory}/root", "--runroot", f"{directory}/run", "--storage-driver", "overlay"]
            options = ["--isolation", "chroot", "--layers", "--tls-verify=false", "-t", "bench", "-f", str(self.dockerfile)]
            options += ["--jobs", str(jobs)] if jobs else []
            return [
                {"command": ["buildah", *storage, "bud", *options, str(self.context)]},
                {"command": ["buildah", *storage, "push", "bench", f"{form}:{out}:bench"]},
            ]
        return make


PEER = "buildah bud --layers, push"


def build(machine, name, runs):
    """Cold, then with nothing changed."""
    builds = Builds(machine, name)
    compare(f"build `{name}`, cold, to a docker archive", [("skycap", builds.skycap(True)), (PEER, builds.buildah(True))], runs)
    limits = {
        "many": [("the limit: find, openssl sha256 on every core", builds.walked())],
        "small": [],
    }.get(name, [("the limit: cp of the output", builds.copied()), ("the limit: cp, sync", builds.copied(sync=True))])
    again = [("skycap", builds.skycap(False)), (PEER, builds.buildah(False)), *limits]
    compare(f"build `{name}`, nothing changed", again, runs)
    if name in ("touch", "copy", "small"):
        changed = [("skycap", builds.skycap(False, change=True)), (PEER, builds.buildah(False, change=True)), *limits]
        compare(f"build `{name}`, the last COPY changed", changed, runs)


def outputs(machine, runs):
    """The other forms of output, nothing changed: a layout, and the task's, which waits for no disk."""
    builds = Builds(machine, "touch")
    for make in [builds.skycap(True), builds.buildah(True), builds.task(True)]:
        for step in make():
            measure(**step)
    peer, limits = ("buildah bud --layers, push oci:", builds.buildah(False, form="oci")), builds.copied
    contestants = [("skycap", builds.skycap(False, form="oci")), peer, ("the limit: cp -r", limits()), ("the limit: cp -r, sync", limits(sync=True))]
    compare("build `touch` to a layout, nothing changed", contestants, runs)
    archive = builds.skycap(False)
    for step in archive():
        measure(**step)
    contestants = [("skycap oci-build", builds.task(False)), (PEER, builds.buildah(False)), ("the limit: cp", limits())]
    compare("the task with `touch`, nothing changed", contestants, runs)


def stages(machine, runs):
    """Three stages of two seconds each."""
    builds = Builds(machine, "multi")
    contestants = [("skycap", builds.skycap(True)), ("buildah bud --layers --jobs 4, push", builds.buildah(True, jobs=4))]
    compare("build `multi`, cold: three independent stages, each RUN sleep 2", contestants, runs)


RUNS = 40


def sandbox(machine, runs):
    """What a RUN costs beside starting a container with runc: the slope of a build with many."""
    bundle = machine.fresh("bundle")
    run(["runc", "spec", "--bundle", str(bundle)])
    root = bundle / "rootfs/bin"
    root.mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "busybox")
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"].update(terminal=False, args=["/bin/busybox", "true"])
    (bundle / "config.json").write_text(json.dumps(spec))
    for count in [1, RUNS + 1]:
        lines = "".join(f"RUN [\"/bin/busybox\", \"true\", \"{number}\"]\n" for number in range(count))
        DOCKERFILES[f"runs-{count}"] = "FROM {registry}/tiny:1\n" + lines
    one, many = (Builds(machine, f"runs-{count}") for count in [1, RUNS + 1])
    containers = " && ".join(f"runc run --bundle {bundle} bench-{number}" for number in range(RUNS))
    contestants = [
        (f"skycap, {RUNS + 1} RUNs that do nothing", many.skycap(True)),
        ("skycap, 1 such RUN", one.skycap(True)),
        (f"runc run, {RUNS} times", lambda: [shell(containers)]),
    ]
    compare(f"what {RUNS} RUNs cost", contestants, runs)
