# SPDX-License-Identifier: MIT
"""The machine and the programs that a run was made with."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from benchmarks import TOP
from benchmarks.handover import handover_ns
from benchmarks.record import Environment

VERSIONS = {
    "qemu-img": ["qemu-img", "--version"],
    "fio": ["fio", "--version"],
    "nbdkit": ["nbdkit", "--version"],
    "libfuse": ["fusermount3", "--version"],
    "perf": ["perf", "--version"],
    "gcc": ["gcc", "-dumpfullversion"],
}


def output(argv: list[str]) -> str | None:
    """What a program prints; None when it is not there or fails."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=20, check=True, cwd=TOP, errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def version(argv: list[str]) -> str | None:
    """The first thing that looks like one."""
    found = re.search(r"\d+(\.\d+)+", output(argv) or "")
    return found[0] if found else None


def commit() -> str | None:
    found = output(["git", "describe", "--always", "--dirty", "--exclude=*"])
    return found or None


def cpu() -> str:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^(model name|Processor)\s*:\s*(.*)$", text, re.M)
    return found[2] if found else platform.machine()


def environment() -> Environment:
    return Environment(
        cpu=cpu(),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        system=platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        version=(TOP / "VERSION").read_text().strip(),
        commit=commit(),
        handover_ns=handover_ns(),
        programs={name: version(argv) for name, argv in VERSIONS.items()},
    )
