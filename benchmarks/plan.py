# SPDX-License-Identifier: MIT
"""The matrix: which peers take which load, and how often.

Not every peer takes every load.  The figures table has all of them in at least five rounds; other
loads have those a reader would choose between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from benchmarks.load import Workload
from benchmarks.runner import Cell

ROUNDS = 5  # of the loads that the figures are taken from
FEWER = 3

# Patterns of peers' names.  Ours stands beside whom it is compared with, so that most pairs meet
# the CPUs in one placement.
STARS = ("shm memory", "FUSE memory direct", "nbdkit memory")
MEMORY = (
    *STARS,
    "shm memory *",
    "FUSE memory *",
    "qsd FUSE",
    "qemu-nbd",
    "vhost-user-blk*",
    "nbdkit python",
    "historical",
)
FILES = ("shm file", "FUSE file*", "qsd FUSE file", "nbdkit file", "plain file")
EVERYBODY = ("null-co", "shm null", *MEMORY, *FILES)
CHOICE = ("null-co", *STARS, "shm file", "FUSE file direct", "vhost-user-blk", "qemu-nbd")
FIO = (*STARS, "shm memory events", "FUSE memory *", "shm file", "FUSE file direct", "plain file")
FIO_CHOICE = (*STARS, "shm file", "FUSE file direct", "plain file")
DURABLE = ("shm file", "FUSE file direct", "qsd FUSE file", "nbdkit file", "plain file")
MANY = ("shm memory", "FUSE memory direct", "nbdkit memory")
QUICK = ("null-co", *STARS, "shm memory events", "FUSE memory direct one CPU", "historical")
QUICK += ("FUSE memory direct ST",)
QUICK += ("shm file", "FUSE file direct", "FUSE file direct one CPU")

KIB = 1 << 10
MIB = 1 << 20
RATES = (5_000, 20_000, 100_000)


def _qemu(name: str, size: int, depth: int) -> Workload:
    return Workload(name, size, depth)  # type: ignore[arg-type]


def _fio(name: str, size: int, depth: int, volumes: int = 1, rate: float | None = None) -> Workload:
    return Workload(name, size, depth, "fio", volumes, rate)  # type: ignore[arg-type]


def full() -> list[Cell]:
    """About a quarter of an hour."""
    qemu = [Cell(_qemu("read", 4 * KIB, depth), EVERYBODY, ROUNDS) for depth in (1, 32)]
    qemu += [Cell(_qemu("read", 4 * KIB, depth), CHOICE, FEWER) for depth in (8, 128)]
    qemu += [Cell(_qemu("write", 4 * KIB, depth), CHOICE, FEWER) for depth in (1, 8, 32, 128)]
    for size, depth in ((64 * KIB, 8), (MIB, 4)):
        qemu += [Cell(_qemu(name, size, depth), CHOICE, FEWER) for name in ("read", "write")]
    qemu += [Cell(_qemu("flush", 4 * KIB, 1), DURABLE, FEWER)]
    fio = [Cell(_fio("randread", 4 * KIB, depth), FIO, ROUNDS) for depth in (1, 32)]
    fio += [Cell(_fio("randread", 4 * KIB, depth), FIO_CHOICE, FEWER) for depth in (8, 128)]
    for name in ("randwrite", "randrw"):
        fio += [Cell(_fio(name, 4 * KIB, depth), FIO_CHOICE, FEWER) for depth in (1, 8, 32, 128)]
    fio += [Cell(_fio("flush", 4 * KIB, 1), DURABLE, FEWER)]
    fio += [Cell(_fio("openloop", 4 * KIB, 64, rate=rate), FIO_CHOICE, FEWER) for rate in RATES]
    many = [Cell(_fio("randread", 4 * KIB, 8), MANY, FEWER)]
    many += [Cell(_fio("randread", 4 * KIB, 8, volumes), MANY, FEWER) for volumes in (4, 16, 64)]
    return [*qemu, *fio, *many, Cell(Workload("idle", 0, 0, "qemu-io", 64), MANY, 1)]


def quick() -> list[Cell]:
    """About two minutes: the figures table, and a look at the rest."""
    cells = [Cell(_qemu("read", 4 * KIB, depth), QUICK, ROUNDS) for depth in (1, 32)]
    cells += [Cell(_fio("randread", 4 * KIB, depth), STARS, ROUNDS) for depth in (1, 32)]
    cells += [Cell(_qemu("write", 4 * KIB, 32), STARS, FEWER)]
    cells += [Cell(_fio("openloop", 4 * KIB, 64, rate=20_000), STARS, FEWER)]
    return cells


def resolved(cells: Iterable[Cell], registry: Sequence[str]) -> list[Cell]:
    """The cells with the names that their patterns stand for; a name without a pattern in it stays,
    there or not, so that who is missing can be named."""

    def names(pattern: str) -> list[str]:
        found = [name for name in registry if fnmatchcase(name, pattern)]
        return found or ([] if "*" in pattern else [pattern])

    return [
        replace(cell, peers=tuple(dict.fromkeys(n for one in cell.peers for n in names(one))))
        for cell in cells
    ]


def _words(text: str) -> set[str]:
    return set(re.findall(r"[\w./-]+", text))


def chosen(
    cells: Iterable[Cell], peers: Sequence[str], workloads: Sequence[str], rounds: int | None
) -> list[Cell]:
    """What a user wants of them: peers by pattern, loads by words that are in their title."""
    found = []
    for cell in cells:
        names = tuple(
            name
            for name in cell.peers
            if not peers or any(fnmatchcase(name, pattern) for pattern in peers)
        )
        wanted = not workloads or any(
            _words(words) <= _words(str(cell.workload)) for words in workloads
        )
        if names and wanted:
            found.append(replace(cell, peers=names, rounds=rounds or cell.rounds))
    return found
