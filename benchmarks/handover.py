# SPDX-License-Identifier: MIT
"""Where the CPUs are: the time of a polled hand-over between them, by handover.c."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks import TOP
from benchmarks.record import Placement

NEAR_NS = 200  # a hand-over there and back between CPUs that share a cache takes less
BUSY_NS = 1500  # more than any distance within a machine: others had the CPUs meanwhile
_SOURCE = Path(__file__).with_name("handover.c")
_PROBE = TOP / "build/handover"


def handover_ns() -> int | None:
    """Round trip now, measured for 20 ms; None when the probe cannot be built."""
    try:
        if not _PROBE.exists() or _PROBE.stat().st_mtime < _SOURCE.stat().st_mtime:
            _PROBE.parent.mkdir(exist_ok=True)
            build = ["gcc", "-O2", "-pthread", str(_SOURCE), "-o", str(_PROBE)]
            subprocess.run(build, check=True, timeout=60)
        done = subprocess.run([str(_PROBE)], capture_output=True, timeout=20, check=True)
        return int(done.stdout)
    except (OSError, subprocess.SubprocessError):
        return None


def agreed(before: int | None, after: int | None) -> tuple[int | None, Placement | None]:
    """Of a sample between two probes: the slower of those that could tell, and the placement; None
    when the CPUs were moved meanwhile.  A probe that could not tell leaves it to the other."""
    told = [ns for ns in (before, after) if ns is not None and placement(ns)]
    if not told:
        return before, None
    found = {placement(ns) for ns in told}
    return max(told), found.pop() if len(found) == 1 else None


def placement(handover: int | None) -> Placement | None:
    """None: not known, also when the CPUs were too busy to tell."""
    if handover is None or handover > BUSY_NS:
        return None
    return "near" if handover < NEAR_NS else "far"
