# SPDX-License-Identifier: MIT
"""Volumes that are open: one Volume however many have it open, one Opened for each session."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from shmclient.reference import region, wire
from shmserver.manage import OpenVolume
from shmserver.names import whole_sectors
from shmserver.reference import entry as entries
from shmserver.reference.books import Books
from shmserver.reference.queue import Queue
from shmserver.reference.request import ServerRequest

if TYPE_CHECKING:
    from shmserver.reference.core import Core
    from shmserver.reference.session import Session


class Volume:
    """Exists while somebody has it open, or requests of somebody are in the store."""

    def __init__(self, opened: OpenVolume) -> None:
        self.name = opened.name
        self.opened = opened
        self.size_bytes = whole_sectors(opened.size_bytes)
        self.users: list[Opened] = []
        self.pauses = 0  # commands that need it quiet (section 4.4)

    @property
    def in_flight(self) -> int:
        return sum(user.in_flight for user in self.users)

    def others(self, session: Session | None) -> list[Opened]:
        return [user for user in self.users if user.session is not session]


class Opened:
    """The data plane of a session: region, doorbells, queues (sections 5 to 8)."""

    def __init__(
        self, core: Core, session: Session, volume: Volume, request: Any, ident: int
    ) -> None:
        self.session = session
        self.volume = volume
        self.id = ident
        self.mode: int = request.mode
        self.books = Books()
        self.ended = False
        self._core = core
        self._since_ns = time.monotonic_ns()
        params = core.params
        self.limits = entries.Limits(
            params["request_bytes_max"], wire.RANGE_BYTES_MAX, request.arena_bytes, session.features
        )
        layout = region.plan(request.queues, request.depth, request.arena_bytes)
        layout |= {
            "features": session.features,
            "block_bytes": core.dispatcher.block_bytes,
            "volume_bytes": volume.size_bytes,
        }
        self.region = region.create(layout)
        self.queues: list[Queue] = []
        try:
            for index in range(request.queues):
                self.queues.append(Queue(self, self.region, index))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Memory and descriptors; views that a store still has keep the mapping (12.1, step 5)."""
        while self.queues:
            self.queues.pop().close()
        self.region.close()

    # ---- for its queues ----

    def against(self) -> entries.Volume:
        """What entries taken now are checked against."""
        return entries.Volume(
            self.volume.size_bytes,
            self._core.dispatcher.block_bytes,
            self.mode == wire.MODE_WRITE,
            self._core.capabilities,
        )

    def request(self, queue: Queue, checked: entries.Checked, arena: memoryview) -> ServerRequest:
        return ServerRequest(queue, checked, self.volume.opened, self._core.dispatcher, arena)

    def finished(self, queue: Queue, request: ServerRequest) -> None:
        self._core.finished(queue, request)

    # ---- what it is ----

    @property
    def in_flight(self) -> int:
        return sum(queue.in_flight for queue in self.queues)

    @property
    def takes_entries(self) -> bool:
        return not self.ended and not self.volume.pauses

    def fds(self) -> list[int]:
        """Those that go with the open reply (section 4.5)."""
        doorbells = [fd for queue in self.queues for fd in (queue.server_fd, queue.client_fd)]
        return [self.region.fd, *doorbells]

    def info(self) -> bytes:
        """Section 4.7."""
        peer = self.session.peer
        return wire.pack(
            "session_info",
            id=self.id,
            pid=peer.pid,
            uid=peer.uid,
            client=self.session.client,
            volume=self.volume.name,
            mode=self.mode,
            queues=len(self.queues),
            in_flight=self.in_flight,
            uptime_ns=time.monotonic_ns() - self._since_ns,
            **vars(self.books),
        )
