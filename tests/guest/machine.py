# SPDX-License-Identifier: MIT
"""A guest that runs one shell script and powers off.

Its serial console is QEMU's stdio. The script's output lies between two lines with a mark that is
new for each start, so nothing the kernel or the script prints is taken for the end.

Guest.run() does all of it. With Guest.start() the caller acts in between:

    with Guest(drives=["id=disk,..."]).start(script, timeout_s=60) as guest:
        guest.wait_for("ready")
        guest.qmp.execute("block_resize", device="disk", size=2 << 30)
        guest.send("go on")                 # a line for `read` in the script
        result = guest.finish()

Times are limits for a whole run, never waited for. QEMU is ended when the block is left, and by the
kernel when the thread that started it dies.
"""

import os
import secrets
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from .image import cache_dir, guest_image, pack
from .qmp import Qmp

TAIL_LINES = 60
KVM_PROBE_TIMEOUT_S = 10
# Without its timer check: on a busy host the emulated timer may tick too late for it.
KERNEL_OPTIONS = "quiet panic=-1 random.trust_cpu=on no_timer_check"


class GuestError(RuntimeError):
    """The guest did not get to the end of its script, or not to what was waited for."""


@dataclass(frozen=True)
class GuestResult:
    status: int  # of the script
    output: str  # of the script, without the boot's
    seconds: float
    accelerator: str


@dataclass(frozen=True)
class Guest:
    """How to start: the program, e.g. ["ovs-qemu", "qemu-system-x86_64"], and values of -drive."""

    qemu: Sequence[str | Path] = ("qemu-system-x86_64",)
    drives: Sequence[str] = ()
    arguments: Sequence[str] = ()
    memory_mib: int = 256
    accelerator: str = ""  # kvm, tcg or what works here
    environment: dict[str, str] = field(default_factory=dict)
    echo: Callable[[str], None] | None = None  # gets each line of the script's output at once

    def run(self, script: str, timeout_s: float = 120) -> GuestResult:
        """The script's standard input is empty, so nothing in it asks questions."""
        with self._start(script, timeout_s, "/dev/null") as running:
            return running.finish()

    def start(self, script: str, timeout_s: float = 120) -> "RunningGuest":
        return self._start(script, timeout_s, "/dev/ttyS0")

    def _start(self, script: str, timeout_s: float, stdin: str) -> "RunningGuest":
        chosen = self.accelerator or _working_accelerator(self.qemu)
        return RunningGuest(replace(self, accelerator=chosen), script, timeout_s, stdin)

    def argv(self, kernel: Path, initrd: Path, qmp: Path) -> list[str]:
        argv = ["setpriv", "--pdeathsig", "KILL", "--", *map(str, self.qemu)]
        argv += ["-accel", self.accelerator, "-cpu", "max", "-machine", "q35"]
        argv += ["-m", f"{self.memory_mib}M"]
        argv += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
        argv += ["-serial", "stdio", "-qmp", f"unix:{qmp},server=on,wait=off"]
        argv += ["-kernel", str(kernel), "-initrd", str(initrd)]
        argv += ["-append", f"console=ttyS0 {KERNEL_OPTIONS}"]
        for drive in self.drives:
            argv += ["-drive", drive]
        return [*argv, *self.arguments]


def _working_accelerator(qemu: Sequence[str | Path]) -> str:
    """Inside another machine there may be a /dev/kvm that starts a guest but never gets it through
    its boot. So a guest is tried, once per boot of this machine."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = cache_dir() / "accelerator"
    if known.exists() and known.read_text().startswith(boot):
        return known.read_text().split()[1]
    try:
        Guest(qemu, accelerator="kvm").run("true", KVM_PROBE_TIMEOUT_S)
        works = "kvm"
    except GuestError:
        works = "tcg"
    known.write_text(f"{boot} {works}\n")
    return works


class RunningGuest:
    def __init__(self, guest: Guest, script: str, timeout_s: float, stdin: str) -> None:
        self._started = time.monotonic()
        self._deadline = self._started + timeout_s
        self._echo = guest.echo
        self._mark = f"guest-{secrets.token_hex(8)}"
        self._partial = b""
        self._boot: list[str] = []
        self._lines: list[str] = []
        self._blanks = 0  # not yet known to be the script's
        self._waited = 0  # lines that wait_for() has seen
        self._begun = False
        self._status: int | None = None
        self._qmp: Qmp | None = None
        kernel, initramfs = guest_image()
        self._accelerator = guest.accelerator
        with ExitStack() as undo:
            self._tmp = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="ovs-guest-")))
            self._errors = undo.enter_context((self._tmp / "stderr").open("w+b"))
            initrd = self._make_initrd(initramfs, {"script": script, "stdin": stdin})
            self._process = undo.enter_context(
                subprocess.Popen(
                    guest.argv(kernel, initrd, self._tmp / "qmp"),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    env=os.environ | guest.environment,
                )
            )
            undo.callback(self._process.kill)  # nothing happens if it has ended
            self._cleanup = undo.pop_all()

    def __enter__(self) -> "RunningGuest":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def qmp(self) -> Qmp:
        """Connected at the first use, which wants a guest that has printed something already."""
        if self._qmp is None:
            self._qmp = Qmp(self._tmp / "qmp", self._deadline)
            self._cleanup.callback(self._qmp.close)
        return self._qmp

    def wait_for(self, text: str) -> str:
        """The next line of the script's output with this text in it."""
        while True:
            while self._waited < len(self._lines):
                self._waited += 1
                if text in self._lines[self._waited - 1]:
                    return self._lines[self._waited - 1]
            if self._status is not None:
                raise self._error(f"the script ended ({self._status}) without printing {text!r}")
            self._read_more(f"for {text!r}")

    def send(self, line: str) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._error(f"QEMU ended before it could be sent {line!r}") from None

    def finish(self) -> GuestResult:
        """Wait for the end of the script and of QEMU."""
        while self._status is None:
            self._read_more("for the end of the script")
        try:
            code = self._process.wait(max(0.1, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise self._error("the guest did not power off in time") from None
        if code:
            raise self._error(f"QEMU ended with status {code} after the script")
        seconds = time.monotonic() - self._started
        return GuestResult(self._status, self.output, seconds, self._accelerator)

    @property
    def output(self) -> str:
        return "".join(f"{line}\n" for line in self._lines)

    def close(self) -> None:
        """End QEMU if it still runs, and free everything. Can be called again."""
        self._cleanup.close()

    def _make_initrd(self, initramfs: Path, run_files: dict[str, str]) -> Path:
        run = self._tmp / "overlay" / "run"
        run.mkdir(parents=True)
        for name, content in (run_files | {"mark": self._mark}).items():
            (run / name).write_text(content + "\n")
        overlay = self._tmp / "overlay.cpio"
        pack(self._tmp / "overlay", overlay)
        initrd = self._tmp / "initrd"
        with initrd.open("wb") as out:
            for part in (initramfs, overlay):
                with part.open("rb") as archive:
                    shutil.copyfileobj(archive, out)
        return initrd

    def _read_more(self, purpose: str) -> None:
        assert self._process.stdout
        left_s = self._deadline - time.monotonic()
        if left_s <= 0 or not select.select([self._process.stdout], [], [], left_s)[0]:
            raise self._error(f"the time is over while waiting {purpose}")
        data = os.read(self._process.stdout.fileno(), 65536)
        if not data:
            raise self._error(f"QEMU ended while waiting {purpose}")
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._take(line.decode(errors="replace").rstrip("\r"))

    def _take(self, line: str) -> None:
        if not self._begun:
            self._boot.append(line)
            self._begun = line == f"{self._mark} begin"
        elif self._status is None and line.startswith(f"{self._mark} end "):
            self._keep_blanks(but=1)  # init's own, in case the script's last line has no end
            self._status = int(line.rsplit(" ", 1)[1])
        elif self._status is None and line:
            self._keep_blanks()
            self._keep(line)
        else:
            self._blanks += 1

    def _keep_blanks(self, but: int = 0) -> None:
        for _ in range(self._blanks - but):
            self._keep("")
        self._blanks = 0

    def _keep(self, line: str) -> None:
        self._lines.append(line)
        if self._echo:
            self._echo(line)

    def _error(self, what: str) -> GuestError:
        self._errors.seek(0)
        stderr = self._errors.read().decode(errors="replace").splitlines()
        console = self._boot + self._lines + [self._partial.decode(errors="replace")]
        report = [what]
        for title, lines in (("QEMU", stderr), ("console", console)):
            report += [f"{title}: {line}" for line in lines[-TAIL_LINES:] if line]
        return GuestError("\n".join(report))
