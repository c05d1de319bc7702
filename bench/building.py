"""Builds beside buildah."""

from machine import REGISTRY, compare

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

    peer = "buildah bud --layers, push"
    compare(f"build `{name}`, cold, to a docker archive", [("skycap", skycap(True)), (peer, buildah(True))], runs)
    compare(f"build `{name}`, nothing changed", [("skycap", skycap(False)), (peer, buildah(False))], runs)
