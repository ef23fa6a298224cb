# SPDX-License-Identifier: MIT
"""Stores of the reference server: ordinary shmserver.Stores, which the C server serves too.

memory    volumes in POSIX shared memory that has no name
file      sparse files, in a pool that the C server's file store can serve as well
null      forgets what is written
"""

from __future__ import annotations

from collections.abc import Callable

from shmserver.reference.stores.file import File
from shmserver.reference.stores.memory import Memory
from shmserver.reference.stores.null import Null
from shmserver.store import Store

STORES: dict[str, Callable[..., Store]] = {"memory": Memory, "file": File, "null": Null}
