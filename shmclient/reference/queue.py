# SPDX-License-Identifier: MIT
"""The client's side of a queue: entries in, completions out (sections 6 and 7).

One thread at a time.  Nothing in here waits for anything but sleep().
"""

from __future__ import annotations

import os
from typing import NamedTuple

from shmclient.reference import doorbell, wire
from shmclient.reference.region import QueueMemory
from shmclient.reference.ring import Ring


class Completion(NamedTuple):
    user_data: int
    result: int
    resv: int


class Queue:
    """Owns its two doorbells."""

    def __init__(self, memory: QueueMemory, server_fd: int, client_fd: int) -> None:
        self.words = memory.words
        self.sqes = memory.sqes
        self.cqes = memory.cqes
        self.sq = Ring(memory.words, "sq_tail", "sq_head", memory.entries)
        self.cq = Ring(memory.words, "cq_head", "cq_tail", memory.entries)
        self.server_fd = server_fd  # the server sleeps on it
        self.client_fd = client_fd  # we sleep on it

    def close(self) -> None:
        os.close(self.server_fd)
        os.close(self.client_fd)

    def push(self, entry: bytes) -> None:
        """Into the next slot, which is free as long as at most depth are in flight (rule 5)."""
        wire.ffi.memmove(self.sqes + self.sq.slot, entry, wire.sizeof("sqe"))
        self.sq.advance()

    def publish(self) -> None:
        """Everything that was pushed is the server's; wakes it if it sleeps."""
        self.sq.publish()
        if doorbell.needed(self.words, "server_armed"):
            doorbell.ring(self.server_fd)

    def reap(self) -> list[Completion]:
        """Take the completions that are there.  ImpossibleIndex: the server is broken."""
        found = []
        for _ in range(self.cq.available()):
            entry = self.cqes[self.cq.slot]
            found.append(Completion(entry.user_data, entry.result, entry.resv))
            self.cq.advance()
        self.cq.publish()  # before the sq_tail that counts on the room (rule 4)
        return found

    def sleep(self, socket_fd: int, timeout_s: float | None = None) -> list[int]:
        """Sleep until there are completions, or the socket has something; who woke us."""
        doorbell.arm(self.words, "client_armed")
        woken: list[int] = [self.client_fd]
        if not self.cq.available():
            woken = doorbell.wait([self.client_fd, socket_fd], timeout_s)
            if self.client_fd in woken:
                doorbell.clear(self.client_fd)
        doorbell.disarm(self.words, "client_armed")
        return woken
