# SPDX-License-Identifier: MIT
"""What has been done: for a session (section 4.7), and for the server (section 4.2)."""

from __future__ import annotations

from typing import Any

from shmclient.reference import wire

KINDS = {wire.OP_READ: "reads", wire.OP_WRITE: "writes"}
BYTES = {wire.OP_READ: "read_bytes", wire.OP_WRITE: "written_bytes"}


class Books:
    """Numbers that only grow; their names are those of `struct ovsshm_session_info`."""

    def __init__(self) -> None:
        self.reads = 0
        self.writes = 0
        self.others = 0
        self.errors = 0
        self.read_bytes = 0
        self.written_bytes = 0
        self.latency_ns = 0
        self.latency_counts = [0] * wire.LATENCY_BUCKETS
        self.doorbells = 0

    def completed(self, op: int, result: int) -> None:
        _add(self, KINDS.get(op, "others"), 1)
        if result < 0:
            self.errors += 1
        elif op in BYTES:
            _add(self, BYTES[op], result)

    def published(self, latency_ns: int) -> None:
        """Section 4.7, rule 3."""
        bucket = max(latency_ns.bit_length() - 1, 0)
        self.latency_ns += latency_ns
        self.latency_counts[min(bucket, wire.LATENCY_BUCKETS - 1)] += 1

    def add(self, other: Books) -> None:
        """Take over those of a session that has ended."""
        for name, value in vars(other).items():
            if name == "latency_counts":
                self.latency_counts = [
                    a + b for a, b in zip(self.latency_counts, value, strict=True)
                ]
            else:
                _add(self, name, value)

    @property
    def requests(self) -> int:
        return self.reads + self.writes + self.others


def _add(books: Any, name: str, value: int) -> None:
    setattr(books, name, getattr(books, name) + value)
