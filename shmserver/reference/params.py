# SPDX-License-Identifier: MIT
"""What a server may be told, with defaults and bounds (section 13)."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import NamedTuple

from shmclient.reference import wire


class Bound(NamedTuple):
    default: int
    least: int
    most: int


BOUNDS = {
    "socket_mode": Bound(0o660, 0, 0o777),
    "depth_max": Bound(wire.DEPTH_MAX, wire.DEPTH_MIN, wire.DEPTH_MAX),
    "queues_max": Bound(wire.QUEUES_MAX, 1, wire.QUEUES_MAX),
    "request_bytes_max": Bound(wire.REQUEST_BYTES_DEFAULT, wire.PAGE_BYTES, wire.RANGE_BYTES_MAX),
    "connections_max": Bound(1024, 1, 1 << 20),
    "arena_bytes_max": Bound(256 << 20, wire.PAGE_BYTES, 1 << 40),
}


class Params:
    """Checked, defaults filled in.  A number that is 0 means the default."""

    def __init__(
        self,
        socket_path: str,
        *,
        socket_owner: tuple[int, int] | None,
        allow_uids: Iterable[int],
        allow_gids: Iterable[int],
        **numbers: int,
    ) -> None:
        if not socket_path:
            raise OSError(errno.EINVAL, "a path for the socket is required")
        self.socket_path = socket_path
        self.socket_owner = socket_owner
        self.allow_uids = frozenset(allow_uids)
        self.allow_gids = frozenset(allow_gids)
        self.numbers = {name: _checked(name, numbers.get(name, 0)) for name in BOUNDS}

    def __getitem__(self, name: str) -> int:
        return self.numbers[name]


def _checked(name: str, value: int) -> int:
    bound = BOUNDS[name]
    value = value or bound.default
    if not bound.least <= value <= bound.most:
        raise OSError(errno.EINVAL, f"{name} is {value}, it must be {bound.least} to {bound.most}")
    return value
