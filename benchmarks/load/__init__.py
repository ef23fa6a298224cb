# SPDX-License-Identifier: MIT
"""Programs that make load, behind one interface: a command line, and what its output says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.peers import Disk
from benchmarks.record import Latency, Loader, WorkloadName
from benchmarks.units import Load


@dataclass(frozen=True)
class Workload:
    """One shape of load, as in a record."""

    name: WorkloadName
    block_size: int
    depth: int
    loader: Loader = "qemu-img"
    volumes: int = 1
    rate: float | None = None

    @property
    def load(self) -> Load:
        """As the records of it are grouped and titled."""
        shape = (self.block_size, self.depth, self.volumes, self.rate)
        return Load(self.loader, self.name, *shape)

    def __str__(self) -> str:
        return str(self.load)


@dataclass(frozen=True)
class Command:
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What the loader says of a sample."""

    requests: int
    seconds: float
    latency_us: Latency | None = None
    latency_cdf: list[tuple[float, float]] | None = None
    client_ns: float | None = None
    """CPU of the client without its start, where the loader knows it."""

    @property
    def iops(self) -> float:
        return self.requests / self.seconds


class NoLoad(Exception):
    """This loader cannot put this load on this disk; the text says why."""


class LoadFailed(Exception):
    """The program failed; the text has its output."""


class LoadProgram(Protocol):
    """A module of this package."""

    TIMED: bool
    """It can load for a time; otherwise the rate must be known to ask for so many requests."""

    def command(
        self, disks: Sequence[Disk], workload: Workload, requests: int, seconds: float | None
    ) -> Command:
        """Load for so long, or about as long as so many requests take, as the program can;
        seconds None: exactly so many requests per volume.  Raises NoLoad."""

    def outcome(self, output: str, workload: Workload, requests: int) -> Outcome:
        """Of its standard output.  Raises LoadFailed."""
