# SPDX-License-Identifier: MIT
"""Types of the embedded server core."""

from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from types import TracebackType
from typing import Self

from shmserver.store import Store

__version__: str
DEPTH_MAX: int
QUEUES_MAX: int
PAGE_BYTES: int

def default_socket() -> str: ...
def stores() -> list[tuple[str, str, str]]: ...

class Server:
    def __init__(
        self,
        store: str | PathLike[str] | Store | Callable[..., object] = "file",
        *,
        socket: str | PathLike[str] | None = None,
        pool: str | PathLike[str] | None = None,
        options: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
        socket_mode: int = 0,
        socket_owner: tuple[int, int] | None = None,
        allow_uids: Iterable[int] = (),
        allow_gids: Iterable[int] = (),
        reactors: int = 0,
        depth_max: int = 0,
        queues_max: int = 0,
        request_bytes_max: int = 0,
        connections_max: int = 0,
        arena_bytes_max: int = 0,
        spin_ns_max: int = 0,
        mount: str | PathLike[str] | None = None,
        mount_options: Mapping[str, str] | None = None,
        volume_suffix: str = "",
        unmounted: Callable[[], object] | None = None,
        shared_memory: bool = True,
    ) -> None: ...
    def start(self) -> None: ...
    def stop(self, drain_s: float = 10.0) -> bool: ...
    def close(self) -> None: ...
    def status(self) -> dict[str, int]: ...
    @property
    def limits(self) -> dict[str, int]: ...
    @property
    def socket(self) -> str | None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
