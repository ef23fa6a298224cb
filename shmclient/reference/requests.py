# SPDX-License-Identifier: MIT
"""What Volume.batch() takes: one request each."""

from __future__ import annotations

from typing import Any, NamedTuple


class Read(NamedTuple):
    buffer: Any
    offset_bytes: int


class Write(NamedTuple):
    data: Any
    offset_bytes: int
    fua: bool = False


class Flush(NamedTuple):
    pass


class Discard(NamedTuple):
    length_bytes: int
    offset_bytes: int


class WriteZeroes(NamedTuple):
    length_bytes: int
    offset_bytes: int
    may_unmap: bool = True
    fua: bool = False


Request = Read | Write | Flush | Discard | WriteZeroes
