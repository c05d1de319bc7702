#!/usr/bin/env python3
"""skycap beside its peers, in one run, as ratios.

usage: bench/bench.py [--dir DIR] [--runs-dir DIR] [--runs N] [--only NAME[,NAME]]

Needs a release build of skycap and Debian's docker-registry, skopeo, umoci, buildah, mmdebstrap, isal (igzip), runc, curl and jq;
root, because umoci and buildah then do the same work as skycap (owners are kept). Commands of one comparison take turns
(A B A B ...), so a drift of the machine hits both. Every extraction goes to a fresh directory that is not removed between
runs: removing a large tree on ext4 makes the next extraction slow. Prints Markdown.
"""

import argparse
import os
import sys

import building
import moving
from machine import Machine, binary, prepare

BENCHES = {
    "get-debian": lambda machine, runs: moving.get_rootfs(machine, "debian-ish", runs),
    "get-many": lambda machine, runs: moving.get_rootfs(machine, "many-small", runs),
    "get-files": lambda machine, runs: moving.get_files(machine, "debian-ish", runs),
    "put": lambda machine, runs: moving.put(machine, "debian-ish", runs),
    "heads": moving.heads,
    "build-small": lambda machine, runs: building.build(machine, "small", runs),
    "build-touch": lambda machine, runs: building.build(machine, "touch", runs),
    "build-copy": lambda machine, runs: building.build(machine, "copy", runs),
    "build-many": lambda machine, runs: building.build(machine, "many", runs),
    "build-outputs": building.outputs,
    "build-stages": building.stages,
    "sandbox": building.sandbox,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", default="/tmp/skycap-bench")
    parser.add_argument("--runs-dir", help="where extractions go (default: below --dir)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default=",".join(BENCHES))
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    unknown = [name for name in wanted if name not in BENCHES]
    if unknown:
        sys.exit(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    machine = Machine(arguments.dir, binary(), arguments.runs_dir)
    server = machine.serve()
    try:
        prepare(machine)
        os.sync()
        for name in wanted:
            BENCHES[name](machine, arguments.runs)
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
