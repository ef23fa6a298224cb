# SPDX-License-Identifier: MIT
"""Who is at the other end of a socket, by the kernel's word, and whether he may come in."""

from __future__ import annotations

import array
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from shmserver.reference.params import Params

SO_PEERGROUPS = 59  # asm-generic/socket.h; Python has no name for it
GROUPS_MAX = 256
_CREDENTIALS = struct.Struct("iII")


class Peer(NamedTuple):
    pid: int
    uid: int
    gid: int
    program: str  # for logs and reasons; could be anything

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.program})"


def identify(sock: socket.socket) -> Peer:
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(data)
    try:
        program = Path(f"/proc/{pid}/comm").read_text(errors="replace").rstrip("\n")
    except OSError:
        program = "unknown"
    return Peer(pid, uid, gid, program)


def _groups(sock: socket.socket) -> set[int]:
    numbers = array.array("I")
    with suppress(OSError):  # more groups than any list has, or an old kernel
        numbers.frombytes(
            sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_MAX * numbers.itemsize)
        )
    return set(numbers)


def allowed(params: Params, peer: Peer, sock: socket.socket) -> bool:
    """Root, our own user, and who is on the lists; everybody when both are empty (section 2)."""
    if not params.allow_uids and not params.allow_gids:
        return True
    if peer.uid in (0, os.geteuid()) or peer.uid in params.allow_uids:
        return True
    return bool(params.allow_gids & (_groups(sock) | {peer.gid}))
