# SPDX-License-Identifier: MIT
"""What a program and the servers it uses cost from its start to its end.

Exact counters, no samples: CPU by the scheduler's clocks, doorbells by our server, the rest by
tracepoints through perf(1).  Tracepoints slow down whoever has many system calls, so they are on
only in a pass whose rate does not count.
"""

from __future__ import annotations

import functools
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import shmclient
from benchmarks.load import Command, LoadFailed
from benchmarks.record import Cost

TIMEOUT_S = 120.0
WORDS = 2000
"""Of what a program that failed has said, so many characters are kept: the last."""

EVENTS = {
    "syscalls": ["-e", "raw_syscalls:sys_enter"],
    # the low bits: why it sleeps; none: it was preempted or yielded
    "switches": ["-e", "sched:sched_switch", "--filter", "prev_state & 255"],
    "wakeups": ["-e", "sched:sched_waking"],
    "instructions": ["-e", "instructions"],
}


class NotCounted(Exception):
    """perf, which counted before, does not; the text has the command."""


@dataclass(frozen=True)
class Target:
    """Whose cost to count, besides the client's."""

    server_pids: tuple[int, ...] = ()
    socket: Path | None = None
    """Of our server, for its own counters."""


@dataclass(frozen=True)
class Usage:
    """Totals. Both: client's and server's."""

    seconds: float
    client_ns: float
    server_ns: float
    others_ns: float
    doorbells: float | None = None

    def less(self, start_up: Usage) -> Usage:
        """Without what starting and ending costs."""
        doorbells = None
        if self.doorbells is not None:
            doorbells = max(0.0, self.doorbells - (start_up.doorbells or 0))
        return Usage(
            self.seconds,
            max(0.0, self.client_ns - start_up.client_ns),
            max(0.0, self.server_ns - start_up.server_ns),
            self.others_ns,
            doorbells,
        )


# ---- CPU ----


def cpu_ns(pids: Sequence[int]) -> int:
    """CPU time of these processes, ended threads included: what clock_getcpuclockid(3) gives."""
    scheduled = 2  # CPUCLOCK_SCHED: user and system, by the scheduler's own count
    return sum(time.clock_gettime_ns((~pid << 3) | scheduled) for pid in pids)


def busy_ns() -> int:
    """CPU time that all of the machine has used, stolen time included; by the clock tick."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, words[1:9])
    ticks = user + nice + system + irq + softirq + steal
    return ticks * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


# ---- our server's own counters ----


def doorbells(target: Target) -> int | None:
    """Rung in both directions: the server rings clients, and each of its sleeps ends by a ring."""
    if target.socket is None:
        return None
    with shmclient.connect(target.socket) as connection:
        status = connection.status()
    return status.doorbells + status.sleeps


# ---- tracepoints ----


def _perf_words(names: Sequence[str]) -> list[str]:
    return [word for name in names for word in EVENTS[name]]


@functools.cache
def countable() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keys of EVENTS that this machine counts, and for the others the reasons."""
    if shutil.which("perf") is None:
        return (), ("perf is not installed: no system calls, switches, wake-ups, instructions",)
    found, reasons = [], []
    for name in EVENTS:
        with tempfile.NamedTemporaryFile("r", prefix="ovs-bench-") as out:
            argv = ["perf", "stat", "-x,", "-o", out.name, *_perf_words([name]), "--", "true"]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
            counts = _parse([name], out.read())
        if done.returncode == 0 and name in counts:
            found.append(name)
        else:
            reasons.append(f"this machine does not count {name} (perf stat -e {EVENTS[name][1]})")
    return tuple(found), tuple(reasons)


def _parse(names: Sequence[str], text: str) -> dict[str, float]:
    """Of perf stat -x, : a line per event, its count first, or in <> why there is none."""
    counts = {}
    for name in names:
        event = re.escape(EVENTS[name][1])
        if found := re.search(rf"^(\d+),[^,]*,{event}", text, re.M):
            counts[name] = float(found[1])
    return counts


@contextmanager
def _counting_servers(pids: Sequence[int], names: Sequence[str]) -> Iterator[dict[str, float]]:
    """Counts from the block's begin to its end; the dictionary is full after the block."""
    counts: dict[str, float] = dict.fromkeys(names, 0.0)
    if not pids:
        yield counts
        return
    control, control_far = os.pipe()
    ack, ack_far = os.pipe()
    with (
        tempfile.NamedTemporaryFile("r", prefix="ovs-bench-") as out,
        os.fdopen(control_far, "wb", buffering=0) as to_perf,
        os.fdopen(ack, "rb", buffering=0) as from_perf,
    ):
        argv = ["perf", "stat", "-x,", "-o", out.name, "--delay=-1"]
        argv += [f"--control=fd:{control},{ack_far}", *_perf_words(names)]
        argv += ["-p", ",".join(map(str, pids))]
        quiet = subprocess.DEVNULL
        try:
            perf = subprocess.Popen(
                argv, stdin=quiet, stdout=quiet, stderr=quiet, pass_fds=(control, ack_far)
            )
        finally:
            os.close(control)
            os.close(ack_far)
        try:
            with suppress(BrokenPipeError):  # its end is seen by the next line
                to_perf.write(b"enable\n")
            if not select.select([from_perf], [], [], 20)[0] or not from_perf.read(4):
                raise NotCounted(f"{shlex.join(argv)} did not begin to count")
            yield counts
        finally:
            perf.send_signal(signal.SIGINT)
            perf.wait(20)
        found = _parse(names, out.read())
        if len(found) < len(names):
            raise NotCounted(f"{shlex.join(argv)} did not count")
        counts.update(found)


# ---- a run ----


def _wait(process: subprocess.Popen[bytes]) -> float:
    """CPU nanoseconds of a process and its children, when it has ended; it is killed when that
    takes too long or this is interrupted."""
    pidfd = os.pidfd_open(process.pid)
    try:
        if not select.select([pidfd], [], [], TIMEOUT_S)[0]:
            raise LoadFailed(f"{process.args} took more than {TIMEOUT_S:.0f} s")
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        os.close(pidfd)
    process.returncode = os.waitstatus_to_exitcode(status)
    return (usage.ru_utime + usage.ru_stime) * 1e9


def _failure(argv: Sequence[str], status: int, errors: str, output: str) -> str:
    """Its last words first: a table shows one line."""
    words = errors.strip() or output.strip() or "it said nothing"
    last = words.splitlines()[-1]
    return f"{argv[0]} ended with status {status}: {last}\n{shlex.join(argv)}\n{words[-WORDS:]}"


def _run(argv: Sequence[str], env: Mapping[str, str]) -> tuple[str, float]:
    """Standard output of a client and its CPU nanoseconds."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env={**os.environ, **env}
        )
        cpu = _wait(process)
        out.seek(0)
        text = out.read()
        if process.returncode:
            errors.seek(0)
            raise LoadFailed(_failure(argv, process.returncode, errors.read(), text))
    return text, cpu


def run(command: Command, target: Target) -> tuple[str, Usage]:
    """Output and cost of a client from start to end; raises LoadFailed."""
    rung, server, busy = doorbells(target), cpu_ns(target.server_pids), busy_ns()
    start = time.monotonic()
    output, client_ns = _run(command.argv, command.env)
    seconds = time.monotonic() - start
    server_ns = cpu_ns(target.server_pids) - server
    others_ns = max(0.0, busy_ns() - busy - client_ns - server_ns)
    rings = None if rung is None else (doorbells(target) or 0) - rung
    return output, Usage(seconds, client_ns, server_ns, others_ns, rings)


def count(command: Command, target: Target) -> tuple[str, dict[str, Cost]]:
    """Output and counted events of a client, by the keys of EVENTS that there are; slows down.
    Raises LoadFailed, NotCounted."""
    names = countable()[0]
    if not names:
        return _run(command.argv, command.env)[0], {}
    with tempfile.NamedTemporaryFile("r", prefix="ovs-bench-") as out:
        perf = ["perf", "stat", "-x,", "-o", out.name, *_perf_words(names), "--"]
        with _counting_servers(target.server_pids, names) as servers:
            output, _ = _run([*perf, *command.argv], command.env)
        clients = _parse(names, out.read())
    counts = {name: Cost(clients.get(name, 0.0), servers[name]) for name in names}
    return output, counts
