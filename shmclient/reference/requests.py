# SPDX-License-Identifier: MIT
"""What Volume.batch() takes, one request each, and the tasks that all calls become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from shmclient.reference import wire
from shmclient.reference.arguments import count
from shmclient.reference.memory import Ranges, flat
from shmclient.reference.task import Task


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


def range_task(name: str, length_bytes: int, offset_bytes: int, flags: int = 0) -> Task:
    return Task(
        name, count(offset_bytes, "offset_bytes"), count(length_bytes, "length_bytes"), flags
    )


def data_task(name: str, buffers: Sequence[Any], offset_bytes: int, *, fua: bool = False) -> Task:
    memory = Ranges([flat(one, writable=name == "read") for one in buffers])
    flags = wire.SQE_FUA if fua else 0
    return Task(name, count(offset_bytes, "offset_bytes"), memory.length_bytes, flags, memory)


def zeroes_task(length_bytes: int, offset_bytes: int, may_unmap: bool, fua: bool) -> Task:
    flags = (wire.SQE_MAY_UNMAP if may_unmap else 0) | (wire.SQE_FUA if fua else 0)
    return range_task("write-zeroes", length_bytes, offset_bytes, flags)


# By name, so that the requests of shmclient are understood as well.
_TASKS: dict[str, Callable[[Any], Task]] = {
    "Read": lambda one: data_task("read", [one.buffer], one.offset_bytes),
    "Write": lambda one: data_task("write", [one.data], one.offset_bytes, fua=one.fua),
    "Flush": lambda _: Task("flush"),
    "Discard": lambda one: range_task("discard", one.length_bytes, one.offset_bytes),
    "WriteZeroes": lambda one: zeroes_task(
        one.length_bytes, one.offset_bytes, one.may_unmap, one.fua
    ),
}


def task_of(request: Request) -> Task:
    kind = type(request).__name__
    if kind not in _TASKS:
        raise TypeError(f"{request!r} is no request")
    return _TASKS[kind](request)
