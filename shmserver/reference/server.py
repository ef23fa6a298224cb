# SPDX-License-Identifier: MIT
"""The server as a program sees it: the same interface as shmserver.Server, other insides."""

from __future__ import annotations

import atexit
import errno
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from typing import Any, Self

from shmserver._core import default_socket
from shmserver.dispatch import Dispatcher
from shmserver.load import C_STORE, is_python, load
from shmserver.reference.core import Core
from shmserver.reference.listener import Listener
from shmserver.reference.params import Params
from shmserver.reference.stores import STORES
from shmserver.store import Store

log = logging.getLogger("shmserver")

NEVER_SPIN = 2**64 - 1
STUCK_S = 10.0  # for a call of the store that does not return

_running: weakref.WeakSet[Server] = weakref.WeakSet()


class Server:
    """A server of one vPool on one socket, in a thread of this process.

        with Server("memory", socket="/run/demo/shm.sock") as server:
            ...

    store: "memory", "file", "null", or a store in Python as for shmserver.Server.  Arguments left
    at 0 mean the default.  Entering the context starts it, leaving stops it.  Not to be used from
    two threads at once.  OSError with the reason; stores of the C core are refused, and so are
    reactors and polling, which there are none of.
    """

    def __init__(
        self,
        store: str | PathLike[str] | Store | Callable[..., object] = "memory",
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
    ) -> None:
        self._core: Core | None = None
        _refuse("reactors", reactors, allowed=(0, 1), why="it has one thread")
        _refuse("spin_ns_max", spin_ns_max, allowed=(0, NEVER_SPIN), why="it never polls")
        self._params = Params(
            default_socket() if socket is None else os.fspath(socket),
            socket_owner=socket_owner,
            allow_uids=allow_uids,
            allow_gids=allow_gids,
            socket_mode=socket_mode,
            depth_max=depth_max,
            queues_max=queues_max,
            request_bytes_max=request_bytes_max,
            connections_max=connections_max,
            arena_bytes_max=arena_bytes_max,
        )
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._listener = Listener(self._params)
        try:
            name, made = _make_store(store, dict(options or {}), pool)
            self._dispatcher = Dispatcher(made, deadline_s)
            name = name or self._dispatcher.name
            self._core = Core(self._params, self._listener, self._dispatcher, name)
        except BaseException:
            self._listener.close()
            raise

    def start(self) -> None:
        """Begin to serve; clients can connect when it returns."""
        core = self._open()
        if self._thread is not None:
            raise OSError(errno.EALREADY, "a server is started once")
        self._dispatcher.start()
        self._listener.start()
        self._thread = threading.Thread(target=core.run, name="shmserver-reference", daemon=True)
        self._thread.start()
        _running.add(self)
        log.info(
            'serving store "%s" on "%s" by the reference', core.store_name, self._params.socket_path
        )

    def stop(self, drain_s: float = 10.0) -> bool:
        """Let requests in flight finish for at most drain_s, then end all sessions and close.

        Returns False when requests had to be dropped.
        """
        core, self._core = self._core, None
        if core is None or self._pid != os.getpid():  # a child's copy is no server
            return True
        clean = True
        if self._thread is not None:
            core.stop(drain_s)
            self._thread.join(drain_s + STUCK_S)
            if self._thread.is_alive():
                log.error("a call of the store does not return, and is left")
                return False
            clean = self._dispatcher.stop() and not core.dropped
        else:
            core.close()
        self._listener.close()
        _running.discard(self)
        return clean

    def close(self) -> None:
        """Stop without draining; again is fine."""
        self.stop(0)

    def _open(self) -> Core:
        if self._core is None:
            raise ValueError("the server is closed")
        return self._core

    def status(self) -> dict[str, int]:
        """Totals since the start, by name."""
        return self._open().status()

    @property
    def limits(self) -> dict[str, int]:
        """The limits that clients are told, defaults filled in, by name."""
        self._open()
        numbers = {**self._params.numbers, "reactors": 1, "spin_ns_max": NEVER_SPIN}
        del numbers["socket_mode"]
        return numbers

    @property
    def socket(self) -> str:
        self._open()
        return self._params.socket_path

    def __enter__(self) -> Self:
        if self._thread is None:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _refuse(option: str, value: int, *, allowed: tuple[int, ...], why: str) -> None:
    if value not in allowed:
        reason = f"the reference server cannot have {option} = {value}: {why}"
        raise OSError(errno.EINVAL, reason)


def _make_store(
    store: Any, options: dict[str, str], pool: str | PathLike[str] | None
) -> tuple[str | None, Store]:
    """The store, and its name if it is one of ours."""
    name = os.fspath(store) if isinstance(store, str | PathLike) else None
    if name is not None and not is_python(name):
        if name not in STORES:
            known = ", ".join(STORES)
            raise OSError(
                errno.EINVAL,
                f'the reference server has no store "{name}"; it has {known}, '
                "or package.module:Class",
            )
        if options:
            raise OSError(errno.EINVAL, f'store "{name}" has no option "{next(iter(options))}"')
        if pool is not None and name != "file":
            raise OSError(errno.EINVAL, f'store "{name}" has no pool, the file store has')
        return name, load(STORES[name], options, pool)
    found = load(store, options, pool)
    if hasattr(found, C_STORE):
        raise OSError(errno.EINVAL, f"the reference server cannot serve {store}: it is not Python")
    return None, found


@atexit.register
def _close_all() -> None:
    """A thread must not serve on while the interpreter goes."""
    for server in list(_running):
        server.close()
