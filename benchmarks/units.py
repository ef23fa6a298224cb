# SPDX-License-Identifier: MIT
"""How loads and quantities are written, everywhere the same."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.record import Record

_SAID = {
    "randread": "random read",
    "randwrite": "random write",
    "randrw": "random 70/30",
    "read": "read",
    "write": "write",
    "flush": "write and fdatasync",
    "openloop": "random read",
    "idle": "idle",
}


@dataclass(frozen=True)
class Load:
    """What was asked of a peer: all of a record that decides what it may be compared with."""

    loader: str
    workload: str
    block_size: int
    depth: int
    volumes: int
    rate: float | None = None

    @classmethod
    def of(cls, record: Record) -> Load:
        return cls(
            record.loader,
            record.workload,
            record.block_size,
            record.depth,
            record.volumes,
            record.rate,
        )

    @property
    def kind(self) -> str:
        """Without depth and volumes: "4k random read"."""
        if self.workload == "idle":
            return "idle"
        return f"{size(self.block_size)} {_SAID.get(self.workload, self.workload)}"

    def __str__(self) -> str:
        said = [self.kind]
        if self.rate is not None:
            said.append(f"{tick(self.rate)}/s offered")
        elif self.workload != "idle":
            said.append(f"depth {self.depth}")
        if self.volumes != 1:
            said.append(f"{self.volumes} volumes")
        return f"{', '.join(said)} ({self.loader})"


def size(count: int) -> str:
    """Bytes, as block sizes are written: 4k, 1M."""
    for unit, factor in (("M", 1 << 20), ("k", 1 << 10)):
        if count and count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)


def quantity(value: float) -> str:
    """Three digits that count: 1.03 M, 742 k, 17.2 k, 0.96."""
    for unit, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor * 0.9995:
            return f"{_digits(value / factor)} {unit}"
    return _digits(value)


def tick(value: float) -> str:
    """The same for a scale, without zeros that say nothing: 1 M, 0.5, 20 k."""
    number, _, unit = quantity(value).partition(" ")
    return f"{float(number):g} {unit}".strip()


def _digits(value: float) -> str:
    if abs(value) >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def times(ratio: float) -> str:
    """A ratio as one says it: 24x, 1.8x; well below one the other way round: 1/3.2x."""
    if ratio >= 0.995:
        return f"{_round(ratio)}x"
    return f"{ratio:.2f}x" if ratio >= 0.9 else f"1/{_round(1 / ratio)}x"


def duration(ns: float) -> str:
    """Nanoseconds in the unit that fits: 104 ns, 4.15 us, 2.72 ms."""
    for unit, factor in (("ms", 1e6), ("us", 1e3)):
        if ns >= factor:
            return f"{_digits(ns / factor)} {unit}"
    return f"{ns:.0f} ns"


def _round(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def share(text: str) -> float:
    """A share, written 5% or 0.05; ValueError unless it is at least 0 and under 1."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ValueError(f"{text!r} is no share: write 5% or 0.05") from None
    if not 0 <= value < 1:
        raise ValueError(f"{text!r} is not between 0 and 100%")
    return value
