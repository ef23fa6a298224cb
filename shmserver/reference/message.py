# SPDX-License-Identifier: MIT
"""What a control message is: a row of the table of states (section 10), and its contents.

Checks of form only: what depends on the server or the volume is the handlers' affair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from shmclient.reference import control, tables, wire
from shmclient.reference.tables import Input


class Classified(NamedTuple):
    """The input that a packet is; contents are None when it has none, or is not to be used."""

    input: Input
    name: str
    contents: Any = None
    why: str = ""  # malformed or unknown: what is wrong


def _texts_and_resv(*names: str) -> Callable[[str, Any], bool]:
    """Text that ends, reserved members that are 0 (section 3)."""

    def fine(name: str, contents: Any) -> bool:
        return all(
            wire.has_nul(getattr(contents, field))
            if isinstance(getattr(contents, field), wire.ffi.CData)
            else getattr(contents, field) == 0
            for field in names
        )

    return fine


def _hello(name: str, contents: Any) -> bool:
    return wire.has_nul(contents.client) and contents.version_min <= contents.version_max


def _volume(name: str, contents: Any) -> bool:
    sized = name in ("CREATE", "RESIZE")
    unused = not sized and contents.size_bytes
    return wire.has_nul(contents.name) and not contents.resv and not unused


def _snapshot(name: str, contents: Any) -> bool:
    unused = name != "SNAPSHOT_CREATE" and contents.timeout_s
    texts = wire.has_nul(contents.volume) and wire.has_nul(contents.snapshot)
    return texts and not contents.resv and not unused


_FORMS: dict[str | None, Callable[[str, Any], bool]] = {
    "msg_hello": _hello,
    "msg_volume": _volume,
    "msg_snapshot": _snapshot,
    "msg_open": _texts_and_resv("name", "resv0", "resv1"),
    "msg_set_mode": _texts_and_resv("resv"),
    "msg_sessions": _texts_and_resv("resv"),
}


def header_is_clean(packet: control.Packet) -> bool:
    """V5: a request has no flags, no status, no reserved members."""
    return packet.clean and not packet.flags and not packet.status


def classify(packet: control.Packet, features: int) -> Classified:
    """features: those in force."""
    name = tables.MESSAGE_NAMES.get(packet.type)
    message = tables.MESSAGES.get(name or "")
    if name is None or message is None or name in tables.SERVER_ONLY:
        return Classified(Input.UNKNOWN, str(packet.type), why="unknown type")
    needed = message.feature
    if needed is not None and not features & wire.CONSTANTS[f"OVSSHM_{needed}"]:
        return Classified(Input.UNKNOWN, name, why="its feature is not in force")
    struct = message.request
    if len(packet.payload) != (wire.sizeof(struct) if struct else 0):
        return Classified(Input.MALFORMED, name, why="wrong size")
    if struct is None:
        return Classified(Input.MANAGE, name)
    contents = wire.unpack(struct, packet.payload)
    if not _FORMS[struct](name, contents):
        return Classified(Input.MALFORMED, name, why="bad contents")
    return Classified(_input(name, contents), name, contents)


def _input(name: str, contents: Any) -> Input:
    if name == "HELLO":
        ours = contents.version_min <= wire.VERSION <= contents.version_max
        return Input.HELLO if ours else Input.HELLO_OF_ANOTHER_VERSION
    if name == "OPEN":
        known = contents.mode in tables.MODES.values()
        return Input.OPEN if known else Input.OPEN_WITHOUT_MODE
    return Input.SET_MODE if name == "SET_MODE" else Input.MANAGE
