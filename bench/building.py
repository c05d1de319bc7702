"""Builds beside buildah."""

import json
import shutil

from machine import REGISTRY, compare, run, shell

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

    def store(self, builder, cold):
        if cold or builder not in self.stores:
            self.stores[builder] = self.machine.fresh(builder)
        return self.stores[builder]

    def late_change(self):
        """Makes the last COPY another one."""
        self.machine.counter += 1
        (self.context / "c").write_text(f"change {self.machine.counter}\n")

    def skycap(self, cold, change=False):
        def make():
            if change:
                self.late_change()
            store, out = self.store("skycap", cold), self.machine.fresh("out") / "image.tar"
            output = ["-o", f"docker-archive:{out}", "-f", str(self.dockerfile)]
            return [{"command": [self.machine.skycap, "build", "--insecure", "--store", str(store), *output, str(self.context)]}]
        return make

    def buildah(self, cold, change=False, jobs=None):
        def make():
            if change:
                self.late_change()
            directory, out = self.store("buildah", cold), self.machine.fresh("out") / "image.tar"
            storage = ["--root", f"{directory}/root", "--runroot", f"{directory}/run", "--storage-driver", "overlay"]
            options = ["--isolation", "chroot", "--layers", "--tls-verify=false", "-t", "bench", "-f", str(self.dockerfile)]
            options += ["--jobs", str(jobs)] if jobs else []
            return [
                {"command": ["buildah", *storage, "bud", *options, str(self.context)]},
                {"command": ["buildah", *storage, "push", "bench", f"docker-archive:{out}:bench"]},
            ]
        return make


PEER = "buildah bud --layers, push"


def build(machine, name, runs):
    """Cold, then with nothing changed."""
    builds = Builds(machine, name)
    compare(f"build `{name}`, cold, to a docker archive", [("skycap", builds.skycap(True)), (PEER, builds.buildah(True))], runs)
    again = [("skycap", builds.skycap(False)), (PEER, builds.buildah(False))]
    if name == "many":
        hashing = f"find {builds.context} -type f -print0 | xargs -0 -n 2000 -P 2 openssl dgst -sha256 -r"
        again.append(("walking and hashing the context: find, openssl sha256, two at once", lambda: [shell(hashing)]))
    compare(f"build `{name}`, nothing changed", again, runs)
    if name in ("touch", "copy", "small"):
        changed = [("skycap", builds.skycap(False, change=True)), (PEER, builds.buildah(False, change=True))]
        compare(f"build `{name}`, the last COPY changed", changed, runs)


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
