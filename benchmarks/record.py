# SPDX-License-Identifier: MIT
"""What a run of the benchmarks leaves behind: records, as dataclasses and as JSON.

This file is the schema; schema.json is made from it (``python -m benchmarks.record``).  Times are
in the unit of their name, sizes in bytes.  A figure that could not be had is null, never 0.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

SCHEMA_VERSION = 1
SCHEMA_FILE = Path(__file__).with_name("schema.json")
RESULTS = Path(__file__).with_name("results")

Placement = Literal["near", "far"]
Loader = Literal["qemu-img", "fio", "qemu-io"]
WorkloadName = Literal[
    "randread", "randwrite", "randrw", "read", "write", "flush", "openloop", "idle"
]

_CONFIG = ConfigDict(use_attribute_docstrings=True, extra="forbid", allow_inf_nan=False)
_record = dataclass(frozen=True, config=_CONFIG)


@_record
class Cost:
    """What the two sides of the interface spend."""

    client: float
    """The process that makes the load, and its children."""

    server: float
    """All processes of the peer; 0 when it has none."""

    @property
    def total(self) -> float:
        return self.client + self.server


@_record
class Latency:
    """Percentiles of the time a request takes, in microseconds."""

    p50: float
    p99: float
    p999: float


@_record
class Idle:
    """What open volumes cost that nobody uses, per second, all volumes together."""

    cpu_us_per_second: Cost
    wakeups_per_second: Cost
    """Voluntary context switches: each is a thread that woke up and went to sleep again."""


@_record
class Record:
    """One sample: one peer, one load, one round."""

    peer: str
    store: Literal["memory", "file", "null", "none"]
    loader: Loader
    workload: WorkloadName
    """read and write are sequential; rand* uniformly random; randrw 70 % reads; flush: randwrite
    with fdatasync after each write; openloop: randread, requests arrive by themselves; idle: none.
    """

    block_size: int
    """Bytes of a request; 0: idle."""

    depth: int
    """Requests in flight per volume; openloop: at most; 0: idle."""

    volumes: int
    """Volumes in use at once."""

    round: int
    """Number of the repetition, from 0. Peers of one round ran one after the other."""

    placement: Placement | None
    """Of the two CPUs, by probes before and after the sample; null: not known, they were too busy
    to tell, or they were moved meanwhile."""

    handover_ns: int | None
    """Round trip of a polled hand-over between the CPUs, the slower of just before and just after
    the sample."""

    noise: float
    """Share of all CPU time that neither client nor server used during the sample."""

    seconds: float
    """Length of the sample."""

    iops: float
    """Requests completed per second, all volumes together; idle: 0."""

    bandwidth: float
    """Payload bytes per second."""

    cpu_us_per_io: Cost | None
    """CPU, user and system, spinning included; null: idle."""

    latency_us: Latency | None = None
    """Null where the loader does not say."""

    latency_cdf: list[tuple[float, float]] | None = None
    """Rising pairs: microseconds, share of the requests that took no longer."""

    rate: float | None = None
    """Requests per second that were offered; openloop only."""

    wakeups_per_io: float | None = None
    """Threads that client and server woke up, by tracepoint sched_waking; see counted_ios."""

    context_switches_per_io: Cost | None = None
    """Voluntary ones: a thread went to sleep."""

    syscalls_per_io: Cost | None = None
    doorbells_per_io: float | None = None
    """Rung in both directions, by our server's counters; null: not our shared memory."""

    copied_bytes_per_io: float | None = None
    """Payload bytes copied by a CPU on the way, as documented for the peer; not measured."""

    instructions_per_io: float | None = None
    """Of client and server; null where the machine does not count them."""

    counted_ios: int | None = None
    """Wake-ups, context switches, system calls and instructions were counted in a separate pass of
    this many requests, because counting slows down; null: not counted in such a pass."""

    idle: Idle | None = None


@_record
class Instructions:
    """Of a request without its data through our rings; nobody polls.  By callgrind on a fixed
    script, for machines that do not count instructions."""

    depth: int
    client: float
    server: float
    """All threads but the one that submits."""


@_record
class PeerInfo:
    """What ran under a peer's name."""

    family: str
    variant: str
    copies: dict[str, float]
    """Times the payload of an operation is copied on its way."""

    command: str | None = None


@_record
class Environment:
    """The machine and the programs; null: not there."""

    cpu: str
    cpus: int
    memory_bytes: int
    kernel: str
    system: str
    version: str
    """Of this project."""

    commit: str | None
    """The commit it was built from, "-dirty" when changed."""

    handover_ns: int | None
    """When the run began; each record has its own."""

    programs: dict[str, str | None]
    """Program or library to its version."""


@_record
class Results:
    """A whole run."""

    started: str
    """ISO 8601 with time zone."""

    command: str
    environment: Environment
    records: list[Record]
    peers: dict[str, PeerInfo] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    """Peer, or "peer: load", to the reason why it did not run."""

    instructions: list[Instructions] = field(default_factory=list)
    """By depth; empty: not measured."""

    notes: list[str] = field(default_factory=list)
    """What a reader should know: lengths of samples, counters that the machine lacks, an end before
    the end."""

    finished: bool = True
    """False: interrupted, or out of time; the rounds that were measured are here."""

    schema: Literal[1] = SCHEMA_VERSION


_RESULTS = TypeAdapter(Results)


def load(path: Path) -> Results:
    """Reads a run; OSError, or ValueError that says what is wrong with which file, and where."""
    try:
        return _RESULTS.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise ValueError(
            f"{path}: no results of python -m benchmarks: {where}{first['msg']}"
        ) from None


def dumps(results: Results) -> str:
    """JSON with a line per record: they are many, and long."""
    whole = _RESULTS.dump_python(results, mode="json")
    records = ",\n  ".join(json.dumps(one) for one in whole["records"])
    text = json.dumps(whole | {"records": []}, indent=1)
    return text.replace('"records": []', f'"records": [\n  {records}\n ]', 1) + "\n"


def save(results: Results, path: Path) -> None:
    """Writes a run; a reader sees the old file or all of the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(dumps(results))
    partial.replace(path)


def schema() -> Mapping[str, Any]:
    """JSON Schema of a run."""
    made = _RESULTS.json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def schema_text() -> str:
    return json.dumps(schema(), indent=1) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text())
