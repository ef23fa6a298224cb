# SPDX-License-Identifier: MIT
"""``fio``: random requests, latencies, several volumes, arrivals by themselves.

A latency is fio's ``lat``: from before the call that submits a request to the look that finds it
complete.  For "flush" it is that of the fdatasync.  fio's other two (slat, clat) are off: each
looks at the clock once more per request.  What is in the page cache stays there (invalidate=0):
caches are among what is compared.

The open loop (rate_iops, rate_process=poisson): fio issues a request that is late at once, and
takes its time from then; before it sleeps it waits for all in flight (io_submit_mode=inline; with
offload, each request goes to another thread, whose wake-up would be most of what is measured).
So while a slow request holds up fio, requests that should have started do not count their waiting:
coordinated omission.  `expected` adds them.
"""

from __future__ import annotations

import bisect
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.load import Command, LoadFailed, NoLoad, Outcome, Workload
from benchmarks.peers import Disk
from benchmarks.record import Latency

TIMED = True
CDF_POINTS = 200
_PATTERNS = {
    "randread": ("--rw=randread",),
    "randwrite": ("--rw=randwrite",),
    "randrw": ("--rw=randrw", "--rwmixread=70"),
    "read": ("--rw=read",),
    "write": ("--rw=write",),
    "flush": ("--rw=randwrite",),
    "openloop": ("--rw=randread", "--rate_process=poisson"),
}

Histogram = Counter[int]  # nanoseconds to number of requests


def command(
    disks: Sequence[Disk], workload: Workload, requests: int, seconds: float | None
) -> Command:
    targets = [disk.fio for disk in disks if disk.fio is not None]
    if workload.name not in _PATTERNS:
        raise NoLoad(f"fio cannot do {workload}")
    if len(targets) < len(disks):
        raise NoLoad("no disk for fio")
    argv = ["fio", "--output-format=json+", "--group_reporting", "--lat_percentiles=1"]
    argv += ["--invalidate=0", "--norandommap"]
    argv += [f"--bs={workload.block_size}", f"--iodepth={workload.depth}"]
    argv += _PATTERNS[workload.name]
    if workload.name == "flush":  # its latencies are among those that disable_clat turns off
        argv.append(f"--{targets[0].flush}=1")
    else:
        argv += ["--disable_slat=1", "--disable_clat=1"]
    if workload.rate is not None:
        argv.append(f"--rate_iops={workload.rate / len(disks):.0f}")
    if seconds is None:
        argv.append(f"--number_ios={requests}")
    else:
        argv += ["--time_based", f"--runtime={max(seconds, 0.02) * 1000:.0f}ms"]
    env: dict[str, str] = {}
    for number, target in enumerate(targets):
        argv += [f"--name=volume{number}", *target.arguments]
        env |= target.env
    prefix = next((target.prefix for target in targets), ())
    return Command((*prefix, *argv), env)


def outcome(output: str, workload: Workload, requests: int) -> Outcome:
    del requests
    start = output.find("{\n")
    try:
        (job,) = json.loads(output[start:])["jobs"]
    except (ValueError, KeyError) as error:
        raise LoadFailed(output) from error
    if job["error"] or start < 0:
        raise LoadFailed(output)
    directions = [job["read"], job["write"]]
    count = sum(one["total_ios"] for one in directions)
    seconds = max(one["runtime"] for one in directions) / 1e3
    if not count or not seconds:
        raise LoadFailed(f"fio did nothing\n{output}")
    if workload.name == "flush":
        histogram = _bins(job["sync"]["lat_ns"])
    else:
        histogram = sum((_bins(one["lat_ns"]) for one in directions), Counter())
    if workload.rate is not None:
        histogram = expected(histogram, 1e9 * workload.volumes / workload.rate)
    busy = (job["usr_cpu"] + job["sys_cpu"]) / 100  # of the run time of all volumes
    client_ns = busy * job["job_runtime"] * 1e6
    return Outcome(count, seconds, percentiles(histogram), cdf(histogram), client_ns)


def _bins(latency: Mapping[str, Any]) -> Histogram:
    return Counter({int(ns): count for ns, count in latency.get("bins", {}).items()})


def expected(measured: Histogram, interval_ns: float) -> Histogram:
    """With the requests that a slow one held up: one per interval of the time it took, each having
    waited for the rest of it.  The usual correction of HdrHistogram.  It says too little for a peer
    that does not keep up, which iops beside rate shows."""
    whole = Counter(measured)
    for ns, count in measured.items():
        held_up = int(ns / interval_ns)
        for number in range(1, held_up + 1):
            whole[int(ns - number * interval_ns)] += count
    return whole


def _cumulated(histogram: Histogram) -> tuple[list[int], list[int]]:
    values = sorted(ns for ns, count in histogram.items() if count)
    sums, total = [], 0
    for ns in values:
        total += histogram[ns]
        sums.append(total)
    return values, sums


def percentiles(histogram: Histogram) -> Latency | None:
    """None: nothing was counted."""
    values, sums = _cumulated(histogram)
    if not values:
        return None

    def at(share: float) -> float:
        return values[bisect.bisect_left(sums, share * sums[-1])] / 1e3

    return Latency(at(0.5), at(0.99), at(0.999))


def cdf(histogram: Histogram) -> list[tuple[float, float]] | None:
    """At most about CDF_POINTS of it, evenly by share, with all of the last percent's steps thinned
    the same way: the tail is what one looks for."""
    values, sums = _cumulated(histogram)
    if not values:
        return None
    points, last = [], -1
    for ns, count in zip(values, sums, strict=True):
        share = count / sums[-1]
        step = int(share * CDF_POINTS / 2) + int(max(0.0, share - 0.99) * 100 * CDF_POINTS / 2)
        if step != last or share == 1:
            points.append((ns / 1e3, round(share, 6)))
            last = step
    return points
