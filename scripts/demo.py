# SPDX-License-Identifier: MIT
"""The main job, start to end, on the distribution's unmodified QEMU: ``make demo``.

A fresh vPool, a volume made by qemu-img, a Linux guest that puts a file system on it, a restart of
the server, a check by the host, and a short race against NBD and FUSE. What it prints is one page.
"""

from __future__ import annotations

import hashlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

TOP = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TOP), str(TOP / "tests")]

from guest import Guest  # noqa: E402
from guest.image import guest_image  # noqa: E402

from benchmarks.load import Workload  # noqa: E402
from benchmarks.peers import PEERS  # noqa: E402
from benchmarks.runner import Cell, Runner  # noqa: E402
from benchmarks.screen import Screen  # noqa: E402
from benchmarks.units import Load  # noqa: E402

OVS_QEMU = str(TOP / "build/qemu/ovs-qemu")
VOLUME = "openvstorage:demo"
DRIVE = f"file={VOLUME},if=virtio,cache=none,format=raw"
LIMIT_S = 120
WIDTH = range(80, 101)
BAR_WIDTH = 20

IN_GUEST = """
set -e
mkfs.ext4 -q /dev/vda
mount -t ext4 /dev/vda /mnt
for i in 1 2 3 4; do dd if=/dev/urandom of=/mnt/file$i bs=1M count=$((i * 4)) 2>/dev/null; done
sync
cd /mnt
sha256sum file1 file2 file3 file4
cd /
umount /mnt
"""

# Name on the page -> in the benchmarks. Ours comes first.
RACERS = {"shared memory": "shm file", "NBD": "nbdkit memory", "FUSE": "FUSE file direct"}
LOADS = {
    "4 KiB reads, one at a time": Workload("read", 4096, 1),
    "4 KiB reads, 32 at a time": Workload("read", 4096, 32),
    "4 KiB writes, 32 at a time": Workload("write", 4096, 32),
    "64 KiB reads, 8 at a time": Workload("read", 65536, 8),
}


class DemoError(Exception):
    """A step did not do what it had to; the text says which and why."""


class Page:
    """What is done, what came of it and how long it took, line by line."""

    def __init__(self, console: Console) -> None:
        self.console = console
        plain = console.options.ascii_only
        self.tick, self.block = ("ok", "#") if plain else ("✓", "█")

    def line(self, text: str = "") -> None:
        """A line is never broken: a command is there to be copied."""
        self.console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, what: str, spinner: bool = True) -> Iterator[list[str]]:
        """Times a step; the block appends what came of it."""
        found: list[str] = []
        start = time.monotonic()
        with self.console.status(what) if spinner else nullcontext():
            yield found
        seconds = f"{time.monotonic() - start:.1f} s"
        room = self.console.width - len(self.tick) - len(seconds) - 3
        self.line(f" [bold green]{self.tick}[/] {what:<{room}}[dim]{seconds}[/]")
        for text in found:
            self.line(f"   [dim]{text}[/]")


def run(argv: list[str], env: dict[str, str]) -> str:
    """Output of a command; DemoError with its words when it fails."""
    done = subprocess.run(
        argv, env=os.environ | env, capture_output=True, text=True, timeout=LIMIT_S
    )
    if done.returncode:
        raise DemoError(f"{' '.join(argv)}: status {done.returncode}\n{done.stderr}{done.stdout}")
    return done.stdout


@contextmanager
def server(page: Page, directory: Path, what: str) -> Iterator[dict[str, str]]:
    """shmserver on the pool in ``directory``; gives the environment its clients need."""
    socket, ready = directory / "shm.sock", directory / "ready"
    ready.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "shmserver", "--pool", str(directory / "vpool")]
    argv += ["--socket", str(socket), "--ready-file", str(ready), "--log-level", "error"]
    process = subprocess.Popen(argv)
    try:
        with page.step(what):
            deadline = time.monotonic() + 20
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise DemoError("shmserver did not start; its reason is above")
                time.sleep(0.01)
        yield {"OVS_SHM_SOCKET": str(socket)}
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def create(page: Page, env: dict[str, str]) -> None:
    """A volume is a file name to qemu-img."""
    with page.step("Make a volume with qemu-img") as said:
        run([OVS_QEMU, "qemu-img", "create", "-q", "-f", "raw", VOLUME, "2G"], env)
        info = run([OVS_QEMU, "qemu-img", "info", VOLUME], env)
        said.append(f"$ ovs-qemu qemu-img create {VOLUME} 2G")
        said.append(next(ln for ln in info.splitlines() if ln.startswith("virtual size")))


def checksums(text: str) -> dict[str, str]:
    """Name to digest, from the output of sha256sum."""
    lines = [line.split() for line in text.splitlines()]
    return {line[1]: line[0] for line in lines if len(line) == 2 and len(line[0]) == 64}


def boot(page: Page, env: dict[str, str]) -> dict[str, str]:
    """Boots the guest; the checksums it printed."""
    with page.step("Boot Linux with it as its disk") as said:
        guest = Guest(qemu=(OVS_QEMU, "qemu-system-x86_64"), drives=[DRIVE], environment=env)
        result = guest.run(IN_GUEST, timeout_s=LIMIT_S)
        sums = checksums(result.output)
        if result.status or len(sums) != 4:
            raise DemoError(f"the guest's script failed ({result.status}):\n{result.output}")
        said.append(f"$ ovs-qemu qemu-system-x86_64 -accel {result.accelerator} ...")
        said.append(f"    -drive {DRIVE}")
        said.append("in it: mkfs.ext4, mount, write 40 MiB in 4 files, sync, sha256sum, power off")
    return sums


def verify(page: Page, env: dict[str, str], directory: Path, wanted: dict[str, str]) -> None:
    """The host's own look at what the guest wrote, through the restarted server."""
    with page.step("Let the host check what the guest wrote") as said:
        image = directory / "demo.raw"
        run([OVS_QEMU, "qemu-img", "convert", "-f", "raw", "-O", "raw", VOLUME, str(image)], env)
        run(["/sbin/e2fsck", "-fn", str(image)], env)
        for name, digest in wanted.items():
            copy = directory / name
            run(["/sbin/debugfs", "-R", f"dump /{name} {copy}", str(image)], env)
            if hashlib.sha256(copy.read_bytes()).hexdigest() != digest:
                raise DemoError(f"{name} is not what the guest wrote")
        said.append(f"$ ovs-qemu qemu-img convert {VOLUME} demo.raw; e2fsck -fn demo.raw")
        said.append(f"file system clean, {len(wanted)} of {len(wanted)} checksums equal")
        image.unlink()


@dataclass(frozen=True)
class Result:
    """Medians of one racer on one load."""

    load: str
    racer: str
    iops: float
    cpu_us: float


def race(page: Page, scratch: Path) -> list[Result]:
    """About ten seconds of qemu-img bench on our volume, NBD and FUSE, all in the page cache."""
    cells = [Cell(workload, tuple(RACERS.values())) for workload in LOADS.values()]
    with (
        page.step("Race exports of the same size over NBD and FUSE, by qemu-img bench", False),
        Screen(page.console, log=False) as screen,
    ):
        runner = Runner(PEERS, scratch, screen, counting=False)
        runner.run(cells, seconds=0.28)
    results = []
    for load, workload in LOADS.items():
        for racer, peer in RACERS.items():
            samples = [
                one for one in runner.records if one.peer == peer and Load.of(one) == workload.load
            ]
            if samples:  # a peer that cannot run here has been named
                iops = statistics.median(one.iops for one in samples)
                cpu_us = statistics.median(
                    one.cpu_us_per_io.total for one in samples if one.cpu_us_per_io
                )
                results.append(Result(load, racer, iops, cpu_us))
    if not results or results[0].racer != next(iter(RACERS)):
        raise DemoError("the race went without shared memory, see above")
    return results


def standings(page: Page, results: list[Result]) -> None:
    """A bar for each, how much faster we are, and with how much less CPU."""
    faster, cheaper = [], []
    page.line()
    page.line(
        f"   [dim]{'requests/s':>26}{'':<{BAR_WIDTH + 2}}{'CPU each':>11}{'we are faster':>18}[/]"
    )
    for load in LOADS:
        ours, *others = (one for one in results if one.load == load)
        best = max(one.iops for one in (ours, *others))
        page.line(f"   [bold]{load}[/]")
        for one in (ours, *others):
            length = max(1, round(BAR_WIDTH * one.iops / best))
            bar = f"{page.block * length:<{BAR_WIDTH}}"
            color, times = "green", ""
            if one is not ours:
                faster.append(ours.iops / one.iops)
                cheaper.append(one.cpu_us / ours.cpu_us)
                color, times = "yellow", f"{faster[-1]:.1f} times"
            row = f"{one.racer:<14}{one.iops:>12,.0f}  [{color}]{bar}[/]"
            page.line(f"   {row}{one.cpu_us:>8.1f} us{times:>18}".rstrip())
    page.line()
    if faster:
        page.line(
            f" [bold green]Shared memory: {min(faster):.2g} to {max(faster):.2g} times the "
            f"requests per second, {min(cheaper):.2g} to {max(cheaper):.2g} times less CPU each.[/]"
        )


def demo(page: Page) -> None:
    """All steps; raises DemoError at the first that fails."""
    start = time.monotonic()
    qemu = run(["qemu-img", "--version"], {}).splitlines()[0].removeprefix("qemu-img version ")
    page.console.rule("[bold]Volumes over shared memory, in a QEMU that does not know them")
    page.line()
    with page.step("Have a kernel for the guest") as said:
        guest_image()
        said.append(f"QEMU {qemu}, unmodified")
    with tempfile.TemporaryDirectory(prefix="ovs-demo-") as name:
        directory = Path(name)
        (directory / "vpool").mkdir()
        with server(page, directory, "Start shmserver on a fresh vPool") as env:
            create(page, env)
            sums = boot(page, env)
        with server(page, directory, "Stop the server, start it again") as env:
            verify(page, env, directory, sums)
        results = race(page, directory)
    standings(page, results)
    page.line(
        " All disks were in memory: the page cache of a file, or nbdkit's own over a Unix socket."
    )
    page.line(f" {time.monotonic() - start:.0f} s in all. Nothing is left running.")
    page.line(" Next: README.md, 'Use it', and docs/QEMU.md.")


def main() -> int:
    """Exit status: 0, or 1 with the reason on standard error."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    console = Console()
    console.width = min(max(console.width, WIDTH.start), WIDTH.stop - 1)
    try:
        demo(Page(console))
    except KeyboardInterrupt:
        print("demo: interrupted; nothing is left running", file=sys.stderr)
        return 130
    except (DemoError, OSError, subprocess.SubprocessError, RuntimeError) as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
