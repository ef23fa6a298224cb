# SPDX-License-Identifier: MIT
"""benchmarks/micro: every part can be measured; the figures are not judged here."""

import json
import os
import sys
from pathlib import Path

from conftest import TOP, run


def test_every_part_has_a_time(tmp_path: Path) -> None:
    out = tmp_path / "micro.json"
    short = ["--benchmark-min-rounds=1", "--benchmark-max-time=0.001", "--benchmark-warmup=off"]
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    done = run([*argv, *short, f"--benchmark-json={out}", "benchmarks/micro"], cwd=TOP, timeout=120)
    times = {
        one["name"]: one["stats"]["median"] for one in json.loads(out.read_text())["benchmarks"]
    }
    assert {"test_ring_entry[32]", "test_pread", "test_stat", "test_open_and_close"} <= set(times)
    if len(os.sched_getaffinity(0)) > 1:
        assert {"test_polled_hand_over", "test_wake_up"} <= set(times), done.stdout
    assert min(times.values()) > 0
