# SPDX-License-Identifier: MIT
"""The one thread that serves: it sleeps on everything there is, and then does what there is.

One thing at a time: while the store is busy with a call that it does not put off (an `async def`
method, or a store with threads), nobody else is served.

Threads: run() is the thread.  finished() and stop() may be called from any.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import threading
import time
from collections import deque
from contextlib import suppress

from shmclient.reference import atomic, tables, wire
from shmclient.reference.tables import Input
from shmserver.dispatch import Dispatcher
from shmserver.reference import peer
from shmserver.reference.books import Books
from shmserver.reference.entry import Violation
from shmserver.reference.handlers import Command
from shmserver.reference.listener import Listener
from shmserver.reference.opened import Opened, Volume
from shmserver.reference.params import Params
from shmserver.reference.queue import Queue
from shmserver.reference.request import ServerRequest
from shmserver.reference.ringer import Ringer
from shmserver.reference.session import Session

log = logging.getLogger("shmserver")

ACCEPTS = 16  # per round
ACCEPT_RETRY_S = 1.0  # when there were no descriptors left
REFUSED_MAX = 16  # connections that wait for their refusal
HUNG_UP = select.EPOLLHUP | select.EPOLLRDHUP | select.EPOLLERR
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


class Core:
    def __init__(
        self, params: Params, listener: Listener, dispatcher: Dispatcher, store_name: str
    ) -> None:
        self.params = params
        self.dispatcher = dispatcher
        self.store_name = store_name
        self.capabilities = capabilities(dispatcher)
        self.sessions: dict[int, Session] = {}  # by descriptor of the socket
        self.volumes: dict[str, Volume] = {}  # those that are open
        self.violations = 0
        self.draining = False
        self.dropped = 0  # requests that were in the store at the end
        self._listener = listener
        self._accepting_from = 0.0
        self._waiting: list[Session] = []
        self._id = 0
        self._refused = 0
        self._sleeps = 0
        self._past = Books()  # of sessions that have ended
        self._started_ns = time.monotonic_ns()
        self._finished: deque[tuple[Queue, ServerRequest]] = deque()
        self._drain_until: float | None = None
        self._ringer = Ringer()
        self._bell_lock = threading.Lock()  # it may be rung by threads of a store at the end
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._watching = False
        self._thread = 0

    # ---- from any thread ----

    def stop(self, drain_s: float) -> None:
        """Begin to stop (section 12.3); run() returns when that is done."""
        self._drain_until = time.monotonic() + drain_s
        self._wake()

    def finished(self, queue: Queue, request: ServerRequest) -> None:
        """The store has ended a request."""
        self._finished.append((queue, request))
        if threading.get_ident() != self._thread:
            self._wake()

    def _wake(self) -> None:
        with self._bell_lock:
            if self._bell >= 0:  # else the thread has ended before its store
                os.eventfd_write(self._bell, 1)

    def status(self) -> dict[str, int]:
        """`struct ovsshm_status` by its members' names."""
        users = self._users()
        books = Books()
        for one in (self._past, *(user.books for user in users)):
            books.add(one)
        welcome = [one for one in list(self.sessions.values()) if not one.refused]
        return {
            "uptime_ns": time.monotonic_ns() - self._started_ns,
            "connections": len(welcome),
            "sessions": len(users),
            "reactors": 1,
            "pid": os.getpid(),
            "requests": books.requests,
            "errors": books.errors,
            "read_bytes": books.read_bytes,
            "written_bytes": books.written_bytes,
            "doorbells": books.doorbells,
            "sleeps": self._sleeps,
            "violations": self.violations,
        }

    def _users(self) -> list[Opened]:
        return [user for volume in list(self.volumes.values()) for user in list(volume.users)]

    # ---- the thread ----

    def run(self) -> None:
        """Serve until stop()."""
        self._thread = threading.get_ident()
        try:
            while not self._is_over():
                events = self._sleep()
                self._notice_the_gone(events)
                self._serve_rings()  # entries were there before a message that was sent after them
                self._handle(events)
                self._settle()
        finally:
            self._end()

    def _end(self) -> None:
        """Section 12.3, step 4."""
        for session in list(self.sessions.values()):
            session.drained()
        self._settle()
        self.dropped = sum(user.in_flight for user in self._users())
        log.info("stopped; %d requests were dropped", self.dropped)
        self.close()

    def _is_over(self) -> bool:
        """Section 12.3, steps 1 to 3."""
        if self._drain_until is None:
            return False
        if not self.draining:
            log.info("stopping")
            self.draining = True
            self._watch_listener(False)
            self._listener.stop()
            for session in list(self.sessions.values()):
                session.begin_to_stop()
        busy = any(user.in_flight for user in self._users()) or self._has_entries()
        return not busy or time.monotonic() >= self._drain_until

    def close(self) -> None:
        self._listener.stop()
        for volume in self.volumes.values():
            for user in volume.users:
                user.close()
            self.dispatcher.manage.close(volume.opened)
        self._epoll.close()
        self._ringer.close()
        with self._bell_lock:
            os.close(self._bell)
            self._bell = -1

    # ---- sleeping (section 7) ----

    def _queues(self) -> list[Queue]:
        """Those that entries are taken from now."""
        return [queue for user in self._users() if user.takes_entries for queue in user.queues]

    def _has_entries(self) -> bool:
        return any(queue.has_entries() for queue in self._queues())

    def _sleep(self) -> list[tuple[int, int]]:
        """The steps of the sleeper, for all queues at once.

        Step 4 has no clearing: our doorbells are watched for their edges, where waking is clearing.
        They are never read, as a client could make that block.
        """
        queues = self._queues()
        for queue in queues:
            queue.arm()
        atomic.fence()  # F1 pairs with F2
        timeout_s = 0.0 if any(queue.has_entries() for queue in queues) else self._timeout_s()
        self._sleeps += timeout_s != 0
        events = self._epoll.poll(timeout_s, len(self.sessions) + len(queues) + 2)
        for queue in queues:
            queue.disarm()
        with suppress(BlockingIOError):  # before a look at what it was rung for
            os.eventfd_read(self._bell)
        return events

    def _timeout_s(self) -> float | None:
        now = time.monotonic()
        waiting = [one.command.deadline for one in self._waiting if one.command]
        times = [deadline - now for deadline in waiting if deadline is not None]
        if self._drain_until is not None:
            times.append(self._drain_until - now)
        elif not self._watching:
            times.append(self._accepting_from - now)
        return max(0.0, min(times)) if times else None

    # ---- what has happened ----

    def _notice_the_gone(self, events: list[tuple[int, int]]) -> None:
        """First of all: what they held is free for those who ask now."""
        for fd, event in events:
            session = self.sessions.get(fd)
            if session is not None and event & HUNG_UP:
                session.closed()
        self._settle()

    def _handle(self, events: list[tuple[int, int]]) -> None:
        for fd, event in events:
            session = self.sessions.get(fd)
            if self._watching and fd == self._listener.socket.fileno():
                self._accept()
            elif session is not None and event & select.EPOLLIN:
                self._read(session)
        if not self.draining and not self._watching and time.monotonic() >= self._accepting_from:
            self._watch_listener(True)

    def _read(self, session: Session) -> None:
        try:
            session.read()
        except Exception:  # a mistake of ours ends one session, not all
            log.exception("%s: a message was not handled", session.peer)
            session.end(errno.EIO, "the server failed, see its log")

    def _watch_listener(self, on: bool) -> None:
        if on and not self._watching:
            self._epoll.register(self._listener.socket, select.EPOLLIN)
        elif self._watching and not on:
            self._epoll.unregister(self._listener.socket)
        self._watching = on

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, _ = self._listener.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    log.warning("cannot accept connections now: %s", error.strerror)
                    self._accepting_from = time.monotonic() + ACCEPT_RETRY_S
                    self._watch_listener(False)
                    return
                continue
            self._begin(sock)

    def _begin(self, sock: socket.socket) -> None:
        """A connection; one that is not welcome is told so when it says hello (section 2)."""
        sock.setblocking(False)
        who = peer.identify(sock)
        welcome = len(self.sessions) - self._refused
        refused = 0
        if not peer.allowed(self.params, who, sock):
            refused = errno.EACCES
        elif welcome >= self.params["connections_max"]:
            refused = errno.EUSERS
        if refused and self._refused >= REFUSED_MAX:
            next(one for one in self.sessions.values() if one.refused).end(0, "refused")
        self._refused += bool(refused)
        self.sessions[sock.fileno()] = Session(self, sock, who, refused)
        self._epoll.register(sock, select.EPOLLIN | select.EPOLLRDHUP)

    # ---- for sessions ----

    def next_id(self) -> int:
        self._id += 1
        return self._id

    def opened(self, opened: Opened) -> None:
        """Somebody has a volume open: its rings are served from now on."""
        self.volumes[opened.volume.name] = opened.volume
        opened.volume.users.append(opened)
        opened.session.opened = opened
        for queue in opened.queues:
            self._epoll.register(queue.server_fd, select.EPOLLIN | select.EPOLLET)

    def wait_for(self, session: Session) -> None:
        """Its command cannot be done yet; nothing is read before it is answered."""
        if session not in self._waiting:
            self._waiting.append(session)
            self._epoll.modify(session.socket, 0)

    def done_with(self, command: Command) -> None:
        session = command.session
        if command.paused is not None:
            command.paused.pauses -= 1
            command.paused = None
        if session in self._waiting:
            self._waiting.remove(session)
            if not session.ended:
                self._epoll.modify(session.socket, select.EPOLLIN | select.EPOLLRDHUP)

    def forget(self, session: Session) -> None:
        """Section 12.1, step 1: nothing is taken from its rings any more."""
        self._epoll.unregister(session.socket)
        del self.sessions[session.socket.fileno()]
        self._refused -= bool(session.refused)
        if session.command is not None:
            self.done_with(session.command)
        if session.opened is not None:
            session.opened.ended = True
            for queue in session.opened.queues:
                queue.ended = True
                self._epoll.unregister(queue.server_fd)

    # ---- rings ----

    def _serve_rings(self) -> None:
        """Take entries, hand them to the store all together, publish what is done."""
        requests: list[ServerRequest] = []
        for user in self._users():
            if not user.takes_entries:
                continue
            try:
                for queue in user.queues:
                    requests += queue.take()
            except Violation as violation:
                assert tables.TRANSITIONS[Input.BROKEN_RING][user.session.state]
                user.session.violation(violation)
            except Exception:
                log.exception("%s: entries were not handled", user.session.peer)
                user.session.end(errno.EIO, "the server failed, see its log")
        if requests:
            self.dispatcher.submit(list(requests))
        while self._finished:
            queue, request = self._finished.popleft()
            queue.complete(request)
        self._publish()

    def _publish(self) -> None:
        """The steps of the ringer (section 7), with one fence for all queues."""
        published = [
            (user, queue)
            for user in self._users()
            if not user.ended
            for queue in user.queues
            if queue.publish()
        ]
        if not published:
            return
        atomic.fence()  # F2 pairs with F1
        for user, queue in published:
            if queue.must_ring():
                user.books.doorbells += 1
                self._ringer.ring(queue.client_fd)

    # ---- what follows from all that ----

    def _settle(self) -> None:
        """Sessions that are over give up their volume; commands that waited may go on."""
        for volume in list(self.volumes.values()):
            for user in list(volume.users):
                if user.ended and not user.in_flight:
                    self._give_up(user)
        for session in list(self._waiting):
            if session.command is not None:
                session.run(session.command)

    def _give_up(self, user: Opened) -> None:
        """Section 12.1, steps 4 and 5: only now, when no write of it can land any more."""
        volume = user.volume
        volume.users.remove(user)
        user.session.opened = None
        self._past.add(user.books)
        user.close()
        if not volume.users:
            del self.volumes[volume.name]
            self.dispatcher.manage.close(volume.opened)


def capabilities(dispatcher: Dispatcher) -> int:
    """The bits of what the store can do (section 4.1)."""
    able = dispatcher.ability._asdict()
    return sum(wire.CONSTANTS[f"OVSSHM_CAP_{name.upper()}"] for name, can in able.items() if can)
