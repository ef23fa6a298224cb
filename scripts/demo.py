# SPDX-License-Identifier: MIT
"""The main job, start to end, on the distribution's unmodified QEMU: ``make demo``.

A fresh vPool, a volume made by qemu-img, a Linux guest that puts a file system on it, a restart of
the server, a check by the host, and a short comparison with NBD and FUSE. One page at the end.
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
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

TOP = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TOP), str(TOP / "tests")]

from guest import Guest  # noqa: E402

from benchmarks import sidebyside  # noqa: E402
from benchmarks.qemu_bench import Workload  # noqa: E402

OVS_QEMU = str(TOP / "build/qemu/ovs-qemu")
VOLUME = "openvstorage:demo"
LIMIT_S = 120

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


class DemoError(Exception):
    """A step did not do what it had to; the text says which and why."""


@dataclass
class Page:
    """What was done and how long it took, printed as it happens and once more at the end."""

    console: Console
    rows: list[tuple[str, str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """Times a step; the block appends what came of it."""
        found: list[str] = []
        start = time.monotonic()
        with self.console.status(what):
            yield found
        seconds = time.monotonic() - start
        self.rows.append((what, "; ".join(found), seconds))
        self.console.print(f"[green]done[/] {what} [dim]({seconds:.1f} s)[/]")

    def table(self) -> Table:
        """The steps as a table."""
        out = Table(title="What was done", title_justify="left")
        out.add_column("step")
        out.add_column("result")
        out.add_column("s", justify="right")
        for what, found, seconds in self.rows:
            out.add_row(what, found, f"{seconds:.1f}")
        return out


def run(argv: list[str], env: dict[str, str]) -> str:
    """Output of a command; DemoError with its words when it fails."""
    done = subprocess.run(
        argv, env=os.environ | env, capture_output=True, text=True, timeout=LIMIT_S
    )
    if done.returncode:
        raise DemoError(f"{' '.join(argv)}: status {done.returncode}\n{done.stderr}{done.stdout}")
    return done.stdout


@contextmanager
def server(directory: Path) -> Iterator[dict[str, str]]:
    """shmserver on the pool in ``directory``; gives the environment its clients need."""
    socket, ready = directory / "shm.sock", directory / "ready"
    ready.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "shmserver", "--pool", str(directory / "vpool")]
    argv += ["--socket", str(socket), "--ready-file", str(ready), "--log-level", "error"]
    process = subprocess.Popen(argv)
    try:
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


def checksums(text: str) -> dict[str, str]:
    """Name to digest, from the output of sha256sum."""
    lines = [line.split() for line in text.splitlines()]
    return {line[1]: line[0] for line in lines if len(line) == 2 and len(line[0]) == 64}


def boot(page: Page, env: dict[str, str]) -> dict[str, str]:
    """Boots the guest; the checksums it printed."""
    with page.step("boot Linux on it: mkfs.ext4, write 40 MiB, sync, sha256sum, power off") as said:
        drive = f"file={VOLUME},if=virtio,cache=none,format=raw"
        guest = Guest(qemu=(OVS_QEMU, "qemu-system-x86_64"), drives=[drive], environment=env)
        result = guest.run(IN_GUEST, timeout_s=LIMIT_S)
        sums = checksums(result.output)
        if result.status or len(sums) != 4:
            raise DemoError(f"the guest's script failed ({result.status}):\n{result.output}")
        said.append(f"{len(sums)} files, accelerator {result.accelerator}")
    return sums


def verify(page: Page, env: dict[str, str], directory: Path, wanted: dict[str, str]) -> None:
    """The host's own look at what the guest wrote, through the restarted server."""
    with page.step(f"read {VOLUME} on the host: e2fsck, the same checksums") as said:
        image = directory / "demo.raw"
        run([OVS_QEMU, "qemu-img", "convert", "-f", "raw", "-O", "raw", VOLUME, str(image)], env)
        run(["/sbin/e2fsck", "-fn", str(image)], env)
        for name, digest in wanted.items():
            copy = directory / name
            run(["/sbin/debugfs", "-R", f"dump /{name} {copy}", str(image)], env)
            if hashlib.sha256(copy.read_bytes()).hexdigest() != digest:
                raise DemoError(f"{name} is not what the guest wrote")
        said.append(f"file system clean, {len(wanted)} of {len(wanted)} checksums equal")
        image.unlink()


def compare(console: Console, scratch: Path) -> Table:
    """About ten seconds of qemu-img bench on our volume, NBD and FUSE, all in the page cache."""
    makers = {
        "shm file": sidebyside.ALL_PEERS["shm file"],
        "nbdkit memory": sidebyside.ALL_PEERS["nbdkit memory"],
        "FUSE (qsd)": sidebyside.ALL_PEERS["FUSE (qsd)"],
    }
    workloads = (Workload(4096, 1), Workload(4096, 32), Workload(65536, 8))
    records = sidebyside.measure(makers, workloads, 3, 0.35, console, scratch)
    out = Table(title="4 KiB and 64 KiB reads, side by side", title_justify="left")
    for heading in ("load", "disk", "requests/s", "CPU us each", "shared memory is"):
        out.add_column(heading, justify="left" if heading in ("load", "disk") else "right")
    for workload in workloads:
        ours = 0.0
        for peer in dict.fromkeys(r.peer for r in records):
            samples = [r.sample for r in records if (r.peer, r.workload) == (peer, workload)]
            iops = statistics.median(s.iops for s in samples)
            cpu = statistics.median(s.client_us + s.server_us for s in samples)
            ours = ours or iops
            times = "" if iops == ours else f"{ours / iops:.1f} times as fast"
            out.add_row(str(workload), peer, f"{iops:,.0f}", f"{cpu:.1f}", times)
        out.add_section()
    return out


def demo(console: Console) -> None:
    """All steps; raises DemoError at the first that fails."""
    page = Page(console)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ovs-demo-") as name:
        directory = Path(name)
        (directory / "vpool").mkdir()
        with server(directory) as env:
            with page.step(f"qemu-img create {VOLUME} 2G") as said:
                run([OVS_QEMU, "qemu-img", "create", "-q", "-f", "raw", VOLUME, "2G"], env)
                info = run([OVS_QEMU, "qemu-img", "info", VOLUME], env)
                said.append(next(ln for ln in info.splitlines() if ln.startswith("virtual")))
            sums = boot(page, env)
        with server(directory) as env:
            verify(page, env, directory, sums)
        with page.step("compare with an NBD and a FUSE export"):
            figures = compare(console, directory)
    console.print()
    console.print(page.table())
    console.print(figures)
    console.print(
        Panel(
            "All with the distribution's unmodified QEMU. Reads come from the page cache; nbdkit "
            "serves its memory over a Unix socket, qemu-storage-daemon a sparse file over FUSE. "
            f"Nothing is left running. {time.monotonic() - start:.0f} s in all.",
            title="make demo",
        )
    )


def main() -> int:
    """Exit status: 0, or 1 with the reason on standard error."""
    console = Console(width=max(Console().width, 100))
    try:
        demo(console)
    except (DemoError, OSError, subprocess.SubprocessError, RuntimeError) as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
