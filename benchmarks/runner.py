# SPDX-License-Identifier: MIT
"""Runs a plan: starts the peers, counts what they do, then samples them round after round.

Peers of one load run one after the other in every round (A B C A B C), so that what the machine
does meanwhile meets all of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import SubprocessError
from typing import Protocol

from benchmarks import idle, measure
from benchmarks.budget import Budget
from benchmarks.handover import agreed, handover_ns
from benchmarks.load import LoadFailed, LoadProgram, NoLoad, Outcome, Workload, fio, qemu_img
from benchmarks.measure import Target, Usage
from benchmarks.peers import Disk, Maker, Peer, PeerUnavailable
from benchmarks.record import Cost, PeerInfo, Record

PROGRAMS: Mapping[str, LoadProgram] = {"qemu-img": qemu_img, "fio": fio}
SIZE_BYTES = 256 << 20
MANY_SIZE_BYTES = 16 << 20  # of each of many volumes
IDLE_S = 3.0
COUNT_S = 0.12  # about the length of the pass that counts
COUNT_SHARE = 0.4  # of the time, at most, for all such passes
OPEN_LOOP_WEIGHT = 4  # its percentiles need many requests, of which there are few per second
_PROBE_S = 0.02  # as long must a run take to tell the rate of the peer
_REQUESTS_MAX = 100_000_000


@dataclass(frozen=True)
class Cell:
    """One load, who takes it, and how often."""

    workload: Workload
    peers: tuple[str, ...]
    rounds: int = 3

    @property
    def weight(self) -> float:
        """Length of a sample, in usual ones."""
        return OPEN_LOOP_WEIGHT if self.workload.rate else 1

    def title(self, peer: str) -> str:
        return f"{peer}: {self.workload}"


class Watcher(Protocol):
    """Is told what goes on."""

    def phase(self, what: str, steps: int) -> None: ...
    def round(self, number: int, of: int) -> None: ...
    def doing(self, what: str) -> None: ...
    def step(self) -> None: ...
    def skipped(self, what: str, reason: str) -> None: ...


@dataclass
class _Series:
    """A peer under one load: what is known before and between the samples."""

    start_up: Usage
    iops: float
    counted: Mapping[str, Cost]
    counted_ios: int | None


class Runner:
    """Fills records, peers, skipped and notes as it goes: they are good whenever it ends."""

    def __init__(
        self,
        makers: Mapping[str, Maker],
        scratch: Path,
        watcher: Watcher,
        *,
        counting: bool = True,
    ) -> None:
        """counting False: nothing that takes a pass of its own."""
        self.records: list[Record] = []
        self.peers: dict[str, PeerInfo] = {}
        self.skipped: dict[str, str] = {}
        self.notes: list[str] = []
        self.finished = False
        self._makers = makers
        self._scratch = scratch
        self._watcher = watcher
        self._counting = counting
        self._start_ups: dict[tuple[str, str, int], Usage] = {}

    def run(
        self,
        cells: Sequence[Cell],
        budget_s: float = float("inf"),
        *,
        seconds: float | None = None,
    ) -> None:
        """All cells; those of one volume first, then those of many.  seconds: of every sample,
        instead of as many as the budget allows."""
        end = time.monotonic() + budget_s
        one = [cell for cell in cells if cell.workload.volumes == 1]
        stages = [stage for stage in (one, [cell for cell in cells if cell not in one]) if stage]
        lengths: list[float] = []
        try:
            complete = []
            for number, stage in enumerate(stages):
                share = _cost(stage) / sum(map(_cost, stages[number:]))
                stage_s = (end - time.monotonic()) * share
                complete.append(self._stage(stage, time.monotonic() + stage_s, seconds, lengths))
            self.finished = all(complete)
        finally:
            if lengths:
                why = "" if seconds else f", as {budget_s:.0f} s in all allow"
                self.notes.append(f"samples of {min(lengths):.2f} to {max(lengths):.2f} s{why}")
            if self._counting:
                self.notes += measure.countable()[1]

    # ---- a stage: peers that run at the same time ----

    def _stage(
        self, cells: Sequence[Cell], end: float, seconds: float | None, lengths: list[float]
    ) -> bool:
        """False: it ran out of time."""
        volumes = max(cell.workload.volumes for cell in cells)
        with ExitStack() as stack:
            names = dict.fromkeys(name for cell in cells for name in cell.peers)
            self._watcher.phase("starting", len(names))
            running = {}
            for name in names:
                self._watcher.doing(f"starting {name}")
                if peer := self._start(stack, name, volumes):
                    running[name] = peer
                self._watcher.step()
            counting_end = time.monotonic() + (end - time.monotonic()) * COUNT_SHARE
            series = self._calibrate(cells, running, counting_end)
            samples = [
                cell
                for cell in cells
                for name in cell.peers
                if (cell, name) in series
                for _ in range(cell.rounds)
            ]
            weight = sum(cell.weight for cell in samples)
            budget = Budget(end - time.monotonic(), len(samples), seconds, weight)
            self._watcher.phase("measuring", len(samples))
            try:
                return self._rounds(cells, running, series, budget)
            finally:
                lengths += budget.lengths

    def _start(self, stack: ExitStack, name: str, volumes: int) -> Peer | None:
        size = SIZE_BYTES if volumes == 1 else MANY_SIZE_BYTES
        if name not in self._makers:
            self._skip(name, "there is no such peer in this version")
            return None
        try:
            with ExitStack() as starting:
                peer = starting.enter_context(self._makers[name](volumes, size, self._scratch))
                for disk in peer.disks:
                    fill = qemu_img if disk.qemu else fio
                    chunk = Workload("write", 1 << 20, 4)
                    measure.run(fill.command([disk], chunk, size >> 20, None), Target())
                stack.push(starting.pop_all())
        except (PeerUnavailable, NoLoad, LoadFailed, OSError, SubprocessError) as reason:
            self._skip(name, str(reason))
            return None
        self.peers[name] = PeerInfo(peer.family, peer.variant, dict(peer.copies))
        return replace(peer, name=name)

    def _skip(self, what: str, reason: str) -> None:
        self.skipped[what] = reason
        self._watcher.skipped(what, reason)

    # ---- before the rounds ----

    def _calibrate(
        self, cells: Sequence[Cell], running: Mapping[str, Peer], counting_end: float
    ) -> dict[tuple[Cell, str], _Series]:
        series = {}
        pairs = [(cell, name) for cell in cells for name in cell.peers if name in running]
        self._watcher.phase("counting", len(pairs))
        for cell, name in pairs:
            self._watcher.doing(cell.title(name))
            try:
                one = self._prepare(cell.workload, running[name])
                if self._counting and cell.workload.name != "idle":
                    if time.monotonic() < counting_end:
                        self._count(cell.workload, running[name], one)
                    else:
                        self.notes.append(f"no time to count: {cell.title(name)}")
                series[cell, name] = one
            except (NoLoad, LoadFailed) as reason:
                self._skip(cell.title(name), str(reason))
            self._watcher.step()
        return series

    def _prepare(self, workload: Workload, peer: Peer) -> _Series:
        """What must be known before the first sample."""
        if workload.name == "idle":
            if any(disk.qemu is None for disk in peer.disks):
                raise NoLoad("no disk for QEMU")
            return _Series(Usage(0, 0, 0, 0), 0, {}, None)
        program, disks = PROGRAMS[workload.loader], peer.disks[: workload.volumes]
        start_up = self._start_up(workload, peer)
        iops = 0.0 if program.TIMED else _rate(program, disks, workload)
        return _Series(start_up, iops, {}, None)

    def _count(self, workload: Workload, peer: Peer, series: _Series) -> None:
        """A pass that counts, less what the loader costs from start to end without its load."""
        program, disks = PROGRAMS[workload.loader], peer.disks[: workload.volumes]
        requests = max(1, int(series.iops * COUNT_S))
        first = program.command(disks, workload, 1, None)
        command = program.command(disks, workload, requests, COUNT_S)
        try:
            _, started = measure.count(first, _target(peer))
            output, counts = measure.count(command, _target(peer))
        except measure.NotCounted as reason:
            self.notes.append(f"not counted: {peer.name}, {workload}: {reason}")
            return
        outcome = program.outcome(output, workload, requests)
        series.counted = {
            name: _per_io(cost, started[name], outcome) for name, cost in counts.items()
        }
        series.counted_ios = outcome.requests if counts else None

    def _start_up(self, workload: Workload, peer: Peer) -> Usage:
        """What the loader costs from start to end without its load: that of one request."""
        key = (peer.name, workload.loader, workload.volumes)
        if key not in self._start_ups:
            disks = peer.disks[: workload.volumes]
            command = PROGRAMS[workload.loader].command(disks, workload, 1, None)
            runs = [measure.run(command, _target(peer))[1] for _ in range(2)]
            self._start_ups[key] = min(runs, key=lambda run: run.client_ns + run.server_ns)
        return self._start_ups[key]

    # ---- the rounds ----

    def _rounds(
        self,
        cells: Sequence[Cell],
        running: Mapping[str, Peer],
        series: Mapping[tuple[Cell, str], _Series],
        budget: Budget,
    ) -> bool:
        rounds = max(cell.rounds for cell in cells)
        for number in range(rounds):
            self._watcher.round(number + 1, rounds)
            for cell in cells:
                for name in cell.peers if number < cell.rounds else ():
                    if (cell, name) not in series:
                        continue
                    if budget.spent:
                        self.notes.append(f"out of time in round {number + 1} at {cell.workload}")
                        return False
                    self._watcher.doing(f"round {number + 1}, {cell.title(name)}")
                    start, length = time.monotonic(), budget.length(cell.weight)
                    _warm(running[name])
                    self._sample(cell, running[name], series[cell, name], number, length)
                    _clean(running[name])
                    budget.used(length, time.monotonic() - start, cell.weight)
        return True

    def _sample(self, cell: Cell, peer: Peer, series: _Series, number: int, seconds: float) -> None:
        try:
            if cell.workload.name == "idle":
                record = _idle_record(cell.workload, peer, number)
            else:
                record = _record(cell.workload, peer, series, number, seconds)
        except LoadFailed as reason:
            self._skip(f"{cell.title(peer.name)}, round {number + 1}", str(reason))
            self._watcher.step()
            return
        self.records.append(record)
        self._watcher.step()


def _warm(peer: Peer) -> None:
    """What a file store has in the page cache may have left it since the last sample: there are
    machines that give up what was not used for a minute."""
    disk = peer.disks[0]
    if peer.store == "file" and disk.qemu:
        whole = qemu_img.command([disk], Workload("read", 1 << 20, 4), SIZE_BYTES >> 20, None)
        with suppress(LoadFailed):  # whoever cannot read will say so in the sample
            measure.run(whole, Target())


def _clean(peer: Peer) -> None:
    """Nothing that a sample wrote to files is still on its way to the disk during the next one."""
    if peer.store == "file":
        os.sync()


def _cost(cells: Sequence[Cell]) -> float:
    """Weight of a stage in seconds, roughly, for sharing the time among stages."""
    volumes = max(cell.workload.volumes for cell in cells)
    peers = {name for cell in cells for name in cell.peers}
    seconds = len(peers) * (1 + volumes / 8)
    for cell in cells:
        one = IDLE_S + volumes / 16 if cell.workload.name == "idle" else 0.7 + volumes / 64
        seconds += one * cell.rounds * len(cell.peers)
    return seconds


def _target(peer: Peer) -> Target:
    return Target(tuple(peer.server_pids), peer.server_socket)


def _rate(program: LoadProgram, disks: Sequence[Disk], workload: Workload) -> float:
    """About how many requests per second it will be."""
    requests = 512
    while True:
        command = program.command(disks, workload, requests, _PROBE_S)
        outcome = program.outcome(measure.run(command, Target())[0], workload, requests)
        if outcome.seconds >= _PROBE_S / 2 or requests > _REQUESTS_MAX:
            return outcome.iops
        requests *= 8


def _per_io(cost: Cost, start_up: Cost, outcome: Outcome) -> Cost:
    return Cost(
        max(0.0, cost.client - start_up.client) / outcome.requests,
        max(0.0, cost.server - start_up.server) / outcome.requests,
    )


def _copied(workload: Workload, peer: Peer) -> float | None:
    copies = peer.copies
    if workload.loader == "fio" and (disk := peer.disks[0].fio) and disk.copies is not None:
        copies = disk.copies
    reads = {"read": 1.0, "randread": 1.0, "openloop": 1.0, "randrw": 0.7}.get(workload.name, 0.0)
    if not {"read", "write"} <= set(copies):
        return None
    return workload.block_size * (reads * copies["read"] + (1 - reads) * copies["write"])


def _record(workload: Workload, peer: Peer, series: _Series, number: int, seconds: float) -> Record:
    """Takes one sample."""
    program, disks = PROGRAMS[workload.loader], peer.disks[: workload.volumes]
    before = handover_ns()
    requests = max(1, min(int(series.iops * seconds), _REQUESTS_MAX))
    command = program.command(disks, workload, requests, seconds)
    output, usage = measure.run(command, _target(peer))
    handover, where = agreed(before, handover_ns())
    outcome = program.outcome(output, workload, requests)
    series.iops = outcome.iops
    cost = usage.less(series.start_up)
    client_ns = cost.client_ns if outcome.client_ns is None else outcome.client_ns
    done, counted = outcome.requests, series.counted
    both = {name: one.total for name, one in counted.items()}
    return Record(
        peer=peer.name,
        store=peer.store,
        loader=workload.loader,
        workload=workload.name,
        block_size=workload.block_size,
        depth=workload.depth,
        volumes=workload.volumes,
        round=number,
        placement=where,
        handover_ns=handover,
        noise=min(1.0, usage.others_ns / 1e9 / usage.seconds / (os.cpu_count() or 1)),
        seconds=outcome.seconds,
        iops=outcome.iops,
        bandwidth=outcome.iops * workload.block_size,
        cpu_us_per_io=Cost(client_ns / 1e3 / done, cost.server_ns / 1e3 / done),
        latency_us=outcome.latency_us,
        latency_cdf=outcome.latency_cdf,
        rate=workload.rate,
        wakeups_per_io=both.get("wakeups"),
        context_switches_per_io=counted.get("switches"),
        syscalls_per_io=counted.get("syscalls"),
        doorbells_per_io=None if cost.doorbells is None else cost.doorbells / done,
        copied_bytes_per_io=_copied(workload, peer),
        instructions_per_io=both.get("instructions"),
        counted_ios=series.counted_ios,
    )


def _idle_record(workload: Workload, peer: Peer, number: int) -> Record:
    before = handover_ns()
    found, noise = idle.sample(peer.disks[: workload.volumes], peer.server_pids, IDLE_S)
    handover, where = agreed(before, handover_ns())
    return Record(
        peer=peer.name,
        store=peer.store,
        loader=workload.loader,
        workload="idle",
        block_size=0,
        depth=0,
        volumes=workload.volumes,
        round=number,
        placement=where,
        handover_ns=handover,
        noise=noise,
        seconds=IDLE_S,
        iops=0,
        bandwidth=0,
        cpu_us_per_io=None,
        idle=found,
    )
