# SPDX-License-Identifier: MIT
"""Instructions per request, by callgrind on a fixed script: ``python -m benchmarks.instructions``.

For machines that do not count instructions.  Two runs of instructions.c that differ in the number
of requests; what they differ in, per request, is the figure.  It does not depend on other load or
on where the CPUs are, and only by a few in a hundred on how the threads meet.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks import TOP
from benchmarks.peers.base import PeerUnavailable
from benchmarks.record import Instructions

DEPTHS = (1, 8, 32)
REQUESTS = 1024  # that the longer run has more
TIMEOUT_S = 120.0


def _build(scratch: Path) -> Path:
    archive, source = TOP / "build/python/libovsshm.a", TOP / "benchmarks/instructions.c"
    if not archive.exists():
        raise PeerUnavailable(f"{archive} has not been built: scripts/venv")
    program = scratch / "instructions"
    build = ["gcc", "-std=c11", "-O2", "-pthread", f"-I{TOP}/csrc/include", str(source)]
    libraries = [str(archive), "-luring", "-lfuse3", "-ldl"]
    subprocess.run([*build, "-o", str(program), *libraries], check=True, timeout=TIMEOUT_S)
    return program


def _count(program: Path, scratch: Path, batches: int, depth: int) -> tuple[int, int]:
    """Instructions of the first thread, and of all others."""
    out = scratch / f"callgrind-{depth}-{batches}"
    argv = ["valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={out}"]
    argv += [str(program), str(scratch / "socket"), str(batches), str(depth)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
    threads = {}
    for file in scratch.glob(f"{out.name}-*"):
        total = re.search(r"^(?:totals|summary): (\d+)", file.read_text(), re.M)
        threads[int(file.name.rpartition("-")[2])] = int(total[1]) if total else 0
    return threads.pop(1), sum(threads.values())


def measure(depth: int) -> Instructions:
    """PeerUnavailable: callgrind or what to build with is missing."""
    if not shutil.which("valgrind") or not shutil.which("gcc"):
        raise PeerUnavailable("valgrind or gcc is not installed")
    with tempfile.TemporaryDirectory(prefix="ovs-bench-") as name:
        scratch = Path(name)
        program = _build(scratch)
        few, batches = 16, REQUESTS // depth
        short = _count(program, scratch, few, depth)
        long = _count(program, scratch, few + batches, depth)
    client, server = (
        (more - less) / (batches * depth) for less, more in zip(short, long, strict=True)
    )
    return Instructions(depth, client, server)


def measure_all() -> list[Instructions]:
    """PeerUnavailable: see measure."""
    return [measure(depth) for depth in DEPTHS]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Write JSON instead of a table.")
def main(as_json: bool) -> None:
    """Count the instructions of a request through the rings, on both sides."""
    try:
        found = measure_all()
    except PeerUnavailable as reason:
        click.echo(f"instructions: {reason}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=1))
        return
    click.echo("instructions per request without its data (discard, null store), without polling")
    for one in found:
        click.echo(f"  depth {one.depth:3}: client {one.client:6.0f}, server {one.server:6.0f}")


if __name__ == "__main__":
    main()
