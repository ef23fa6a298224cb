# SPDX-License-Identifier: MIT
"""A session: one connection and its state (section 10).  What it does is in tables.TRANSITIONS.

Everything in here is done by the server's thread.
"""

from __future__ import annotations

import errno
import logging
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from shmclient.reference import control, tables, wire
from shmclient.reference.tables import Input, Outcome, State
from shmserver.reference import handlers, message
from shmserver.reference.entry import Violation
from shmserver.reference.handlers import Command
from shmserver.reference.opened import Opened
from shmserver.reference.peer import Peer

if TYPE_CHECKING:
    from shmserver.reference.core import Core

log = logging.getLogger("shmserver")

UNREAD_MAX = 64  # messages thrown away before closing


class Session:
    """A connection.  `refused` is the errno that its hello is answered with, or 0."""

    def __init__(self, core: Core, sock: socket.socket, peer: Peer, refused: int) -> None:
        self.core = core
        self.socket = sock
        self.peer = peer
        self.refused = refused
        self.state = State.NEW
        self.features = 0
        self.client = ""
        self.opened: Opened | None = None
        self.command: Command | None = None  # waits for something; nothing is read meanwhile

    @property
    def ended(self) -> bool:
        return self.state is State.ENDED

    # ---- messages in (section 4) ----

    def read(self) -> None:
        """One message, and what the table of states says to it."""
        try:
            packet = control.receive(self.socket, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except (control.Closed, OSError):
            self.closed()
            return
        except control.Malformed as error:  # there is nothing to answer
            self.violation(f"sent something that is not a message: {error}")
            return
        if not message.header_is_clean(packet):
            self._refuse_and_end(packet, "V5", "bad header")
            return
        found = message.classify(packet, self.features)
        outcome = tables.TRANSITIONS[found.input][self.state]
        assert outcome is not None, found
        if outcome.action.startswith("V"):
            why = found.why
            if outcome.action == "V3":
                why = "hello comes first" if self.state is State.NEW else "sent twice"
            self._refuse_and_end(packet, outcome.action, why)
            return
        command = Command(self, found.name, packet.id, found.contents, outcome)
        if outcome.action.startswith("-"):
            number = getattr(errno, outcome.action[1:])
            self.answer(command, OSError(number, handlers.reason_of(command, found.input)))
        else:
            self.run(command)

    def _refuse_and_end(self, packet: control.Packet, number: str, why: str) -> None:
        name = tables.MESSAGE_NAMES.get(packet.type, str(packet.type)).lower().replace("_", "-")
        reason = f"{name} message: {why} ({number})"
        self._send(control.refusal(packet.type, packet.id, errno.EPROTO, reason))
        self.violation(reason)

    def run(self, command: Command) -> None:
        """Do it, or put it aside until it can be done."""
        try:
            reply = handlers.HANDLERS[command.name](self.core, command)
        except OSError as error:
            self.answer(command, error)
            return
        except Exception:
            log.exception("%s: %s", self.peer, command.name)
            self.answer(command, OSError(errno.EIO, "the server failed, see its log"))
            return
        if reply is None:
            self.command = command
            self.core.wait_for(self)
        else:
            self.answer(command, reply)

    def answer(self, command: Command, reply: handlers.Reply | OSError) -> None:
        """Exactly one reply to each request (section 4, rule 1)."""
        self.core.done_with(command)
        self.command = None
        if self.ended:
            return
        kind, outcome = tables.MESSAGES[command.name].type, command.outcome
        if isinstance(reply, OSError):
            number, reason = reply.errno or errno.EIO, reply.strerror or str(reply)
            log.debug("%s: %s refused: %s", self.peer, command.name, reason)
            self._send(control.refusal(kind, command.ident, number, reason))
            if self.refused and command.name == "HELLO":
                self.end(0, reason, logging.WARNING)
            elif outcome.next is State.ENDED:
                self.end(0, reason)
            return
        packet = control.message(kind, reply.payload, ident=command.ident, flags=wire.MSG_REPLY)
        self._send(packet, reply.fds)
        if not self.ended and outcome.next is not None:
            self._enter(outcome)

    def _enter(self, outcome: Outcome) -> None:
        assert outcome.next is not None
        self.state = outcome.next
        if self.core.draining:
            self.begin_to_stop()

    # ---- messages out ----

    def _send(self, packet: bytes, fds: list[int] | None = None) -> None:
        """Never waits for a client to read: one that does not is ended (section 4, rule 5)."""
        try:
            control.send(self.socket, packet, fds or [])
        except OSError as error:
            self.end(0, f"cannot send a message: {error.strerror}")

    def tell(self, name: str, value: int, reason: str) -> None:
        """An event, if the client wants any (section 4.6)."""
        if self.features & wire.FEATURE_EVENTS:
            text = control.cut(reason, wire.NAME_BYTES)
            event = wire.pack("msg_event", event=tables.EVENTS[name], value=value, reason=text)
            self._send(control.message(wire.MSG_EVENT, event))

    # ---- the server stops (section 12.3) ----

    def begin_to_stop(self) -> None:
        outcome = tables.TRANSITIONS[Input.STOPPING][self.state]
        if outcome is not None and outcome.next is not None:
            self.state = outcome.next
            if self.opened is not None:
                self.tell("DRAINING", 0, "the server is stopping")

    def drained(self) -> None:
        self.end(errno.ESHUTDOWN, "the server has stopped")

    # ---- the end (section 12.1) ----

    def violation(self, reason: str | Violation) -> None:
        """Section 11.  No other session notices."""
        self.core.violations += 1
        self.end(errno.EPROTO, str(reason), logging.WARNING)

    def closed(self) -> None:
        self.end(0, "closed by the client")

    def end(self, number: int, reason: str, level: int = logging.DEBUG) -> None:
        """number: what the last event says, or 0 for none."""
        if self.ended:
            return
        if self.opened is not None:
            level = max(level, logging.INFO)
        log.log(level, "%s: connection ended: %s", self.peer, reason)
        state, self.state = self.state, State.ENDED
        if number and state is not State.NEW:
            self.tell("ENDED", -number, reason)
        self._discard_unread()
        self.core.forget(self)
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # a child of ours may have a copy
        self.socket.close()

    def _discard_unread(self) -> None:
        """Unread messages would turn our last one into a connection reset at the client's end."""
        with suppress(OSError, control.Closed):
            for _ in range(UNREAD_MAX):
                with suppress(control.Malformed):
                    control.receive(self.socket, control.FDS_MAX, socket.MSG_DONTWAIT).close_fds()
