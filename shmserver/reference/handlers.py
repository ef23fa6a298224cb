# SPDX-License-Identifier: MIT
"""What the server does for each message: a table from names to functions (sections 4.1 to 4.7).

A handler returns the reply, or None when it has to wait for something: it is called again then,
from the start, whenever something has happened.  An OSError is the refusal, and nothing has changed
then (section 4, rule 3).
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import shmserver
from shmclient.reference import control, names, tables, wire
from shmclient.reference.tables import Input, Outcome
from shmserver.names import whole_sectors
from shmserver.reference.opened import Opened, Volume

if TYPE_CHECKING:
    from shmserver.reference.core import Core
    from shmserver.reference.session import Session

log = logging.getLogger("shmserver")

PAUSE_S = 30.0  # requests in flight take less, or the store is stuck
PARK_S = 5.0  # the same of a client that is gone


class Reply(NamedTuple):
    payload: bytes = b""
    fds: list[int] | None = None


class Command:
    """A request of a client that is well-formed, and fits the state of its session."""

    def __init__(
        self, session: Session, name: str, ident: int, contents: Any, outcome: Outcome
    ) -> None:
        self.session = session
        self.name = name
        self.ident = ident
        self.contents = contents
        self.outcome = outcome
        self.paused: Volume | None = None  # held still for this command
        self.deadline: float | None = None  # of what it waits for


def reason_of(command: Command, given: Input) -> str:
    """Why the table of states refuses something that is well-formed."""
    contents, opened = command.contents, command.session.opened
    match given:
        case Input.HELLO_OF_ANOTHER_VERSION:
            return (
                f"the client speaks protocol versions {contents.version_min} to "
                f"{contents.version_max}, the server {wire.VERSION} to {wire.VERSION}"
            )
        case Input.OPEN if command.session.core.draining:
            return "the server is stopping"
        case Input.OPEN:
            return f'this connection has volume "{opened.volume.name if opened else ""}" open'
        case Input.OPEN_WITHOUT_MODE:
            return f"unknown mode {contents.mode}"
    return "no volume is open on this connection"


# ---- what several of them need ----


def _volume_name(field: Any) -> str:
    name = wire.text(field)
    names.check_volume(name)
    return name


def _need(core: Core, command: Command, what: str) -> None:
    needed = tables.MESSAGES[command.name].capability
    if needed and not core.capabilities & wire.CONSTANTS[f"OVSSHM_{needed}"]:
        raise OSError(errno.EOPNOTSUPP, f'store "{core.store_name}" cannot {what}')


def _about(error: OSError, verb: str, kind: str, name: str) -> OSError:
    """What is missing or there is said in the same words for all stores; else theirs go first."""
    number = error.errno or errno.EIO
    if number == errno.ENOENT:
        return OSError(number, f'{kind} "{name[:200]}" does not exist')
    if number == errno.EEXIST:
        return OSError(number, f'{kind} "{name[:200]}" exists already')
    return OSError(number, error.strerror or f'cannot {verb} {kind} "{name[:150]}"')


def _by_store(verb: str, name: str, call: Callable[..., Any], *args: Any) -> Any:
    try:
        return call(*args)
    except OSError as error:
        raise _about(error, verb, "volume", name) from None


def _by_store_of(core: Core, verb: str, command: Command, call: Callable[..., Any]) -> Any:
    """A call about a snapshot: what is missing may be it or its volume."""
    volume, snapshot = wire.text(command.contents.volume), wire.text(command.contents.snapshot)
    try:
        return call()
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise _about(error, verb, "snapshot", snapshot) from None
        if not core.dispatcher.manage.exists(volume):
            raise _about(error, verb, "volume", volume) from None
        reason = f'volume "{volume[:100]}" has no snapshot "{snapshot[:100]}"'
        raise OSError(errno.ENOENT, reason) from None


def _wait(command: Command, seconds: float) -> bool:
    """May the command wait on?  False: it has waited so long."""
    if command.deadline is None:
        command.deadline = time.monotonic() + seconds
    return time.monotonic() < command.deadline


def _conflict(core: Core, command: Command, users: Iterable[Opened]) -> bool:
    """Nobody is in the way.  False: wait, his client is gone (section 4.5).  EBUSY."""
    in_the_way = list(users)
    for user in in_the_way:
        if user.ended and not core.draining and _wait(command, PARK_S):
            continue
        doing = "open for writing" if user.mode == wire.MODE_WRITE else "open"
        gone = ", which is gone but has requests in the store" if user.ended else ""
        volume, peer = user.volume.name[:130], user.session.peer
        raise OSError(errno.EBUSY, f'volume "{volume}" is {doing} by {peer}{gone}')
    return not in_the_way


def _quiet(core: Core, command: Command, volume: Volume | None) -> bool:
    """No request of the volume is in flight, none is taken until the command is answered (4.4).

    False: wait for it.  EBUSY.
    """
    if volume is None:
        return True
    if command.paused is None:
        command.paused = volume
        volume.pauses += 1
    if not volume.in_flight:
        return True
    if core.draining or not _wait(command, PAUSE_S):
        what = f'requests on volume "{volume.name[:150]}" do not finish in the store'
        raise OSError(errno.EBUSY, what)
    return False


def _publish_size(volume: Volume | None, exact_bytes: int) -> None:
    """Section 12.4, in its order; the reply to who asked comes last."""
    size_bytes = whole_sectors(exact_bytes)
    if volume is None or volume.size_bytes == size_bytes:
        return
    volume.size_bytes = size_bytes
    users = [user for user in volume.users if not user.ended]
    for user in users:
        user.region.volume_bytes = size_bytes
    for user in users:
        user.session.tell("RESIZED", size_bytes, "the volume was resized")


# ---- the server (sections 4.1, 4.2, 4.7) ----


def _hello(core: Core, command: Command) -> Reply:
    session, contents = command.session, command.contents
    if session.refused == errno.EACCES:
        raise OSError(errno.EACCES, f"user {session.peer.uid} is not on the server's list")
    if session.refused:
        most = core.params["connections_max"]
        raise OSError(session.refused, f"the server has its maximum of {most} connections")
    session.features = contents.features & tables.FEATURES
    session.client = wire.text(contents.client)
    log.debug('%s: connected as "%s"', session.peer, session.client)
    return Reply(
        wire.pack(
            "msg_hello_reply",
            version=wire.VERSION,
            queues_max=core.params["queues_max"],
            features=session.features,
            depth_max=core.params["depth_max"],
            request_bytes_max=core.params["request_bytes_max"],
            range_bytes_max=wire.RANGE_BYTES_MAX,
            segments_max=wire.SEGMENTS_MAX,
            arena_bytes_max=core.params["arena_bytes_max"],
            capabilities=core.capabilities,
            server=f"openvstorage-shm {shmserver.__version__}, reference",
            store=control.cut(core.store_name, wire.IDENT_BYTES),
        )
    )


def _status(core: Core, command: Command) -> Reply:
    return Reply(wire.pack("status", **core.status()))


def _page(element: str, structs: Iterable[bytes]) -> Reply:
    """As many as fit one message, and whether there are more (section 4.3, list)."""
    found = list(structs)
    most = page_elements(element)
    head = wire.pack("msg_list_reply", count=min(len(found), most), more=len(found) > most)
    return Reply(head + b"".join(found[:most]))


def page_elements(element: str) -> int:
    room = wire.MSG_BYTES_MAX - wire.sizeof("msg") - wire.sizeof("msg_list_reply")
    return room // wire.sizeof(element)


def _sessions(core: Core, command: Command) -> Reply:
    """Section 4.7, rules 1 and 2."""
    users = [user for volume in core.volumes.values() for user in volume.users]
    after = command.contents.after
    listed = sorted((user for user in users if user.id > after), key=lambda user: user.id)
    return _page("session_info", (user.info() for user in listed))


# ---- volumes (section 4.3) ----


def _create(core: Core, command: Command) -> Reply:
    name, size_bytes = _volume_name(command.contents.name), command.contents.size_bytes
    names.check_size(name, size_bytes)
    _need(core, command, "create volumes")
    _by_store("create", name, core.dispatcher.manage.create, name, size_bytes)
    return Reply()


def _remove(core: Core, command: Command) -> Reply | None:
    name = _volume_name(command.contents.name)
    _need(core, command, "remove volumes")
    volume = core.volumes.get(name)
    if volume is not None and not _conflict(core, command, volume.users):
        return None
    _by_store("remove", name, core.dispatcher.manage.remove, name)
    return Reply()


def _resize(core: Core, command: Command) -> Reply:
    name, wanted = _volume_name(command.contents.name), command.contents.size_bytes
    names.check_size(name, wanted)
    _need(core, command, "resize volumes")
    manage, volume = core.dispatcher.manage, core.volumes.get(name)
    size = volume.size_bytes if volume else None
    if size is None:
        size = whole_sectors(_by_store("stat", name, manage.size, name))
    if wanted < size:
        reason = f'volume "{name[:100]}" cannot shrink from {size} to {wanted} bytes'
        raise OSError(errno.EPERM, reason)
    if wanted > size:
        size = _by_store("resize", name, manage.resize, name, wanted)
        _publish_size(volume, size)
    return Reply()


def _volume_info(core: Core, stat: Any) -> bytes:
    volume = core.volumes.get(stat.name)
    modes = [user.mode for user in volume.users] if volume else []
    return wire.pack(
        "volume_info",
        name=stat.name,
        size_bytes=whole_sectors(stat.size_bytes),
        allocated_bytes=stat.allocated_bytes,
        block_bytes=core.dispatcher.block_bytes,
        writers=modes.count(wire.MODE_WRITE),
        readers=len(modes) - modes.count(wire.MODE_WRITE),
        snapshots=stat.snapshots,
    )


def _stat(core: Core, command: Command) -> Reply:
    name = _volume_name(command.contents.name)
    return Reply(_volume_info(core, _by_store("stat", name, core.dispatcher.manage.stat, name)))


def _list(core: Core, command: Command) -> Reply:
    after = wire.text(command.contents.name)
    if after:
        names.check_volume(after)
    stats = core.dispatcher.manage.list(after, page_elements("volume_info") + 1)
    return _page("volume_info", [_volume_info(core, stat) for stat in stats])


# ---- snapshots (section 4.4) ----


def _snapshot_names(core: Core, command: Command) -> tuple[str, str]:
    volume, snapshot = _volume_name(command.contents.volume), wire.text(command.contents.snapshot)
    names.check_snapshot(snapshot)
    _need(core, command, "make snapshots")
    return volume, snapshot


def _snapshot_create(core: Core, command: Command) -> Reply | None:
    name, snapshot = _snapshot_names(core, command)
    if not _quiet(core, command, core.volumes.get(name)):
        return None
    manage, timeout_s = core.dispatcher.manage, command.contents.timeout_s
    create = manage.snapshot_create
    _by_store_of(core, "create", command, lambda: create(name, snapshot, timeout_s))
    return Reply()


def _snapshot_rollback(core: Core, command: Command) -> Reply | None:
    name, snapshot = _snapshot_names(core, command)
    volume = core.volumes.get(name)
    if not _quiet(core, command, volume):
        return None
    rollback = core.dispatcher.manage.snapshot_rollback
    size = _by_store_of(core, "roll back to", command, lambda: rollback(name, snapshot))
    _publish_size(volume, size)
    return Reply()


def _snapshot_remove(core: Core, command: Command) -> Reply:
    name, snapshot = _snapshot_names(core, command)
    remove = core.dispatcher.manage.snapshot_remove
    _by_store_of(core, "remove", command, lambda: remove(name, snapshot))
    return Reply()


def _snapshot_is_synced(core: Core, command: Command) -> Reply:
    name, snapshot = _snapshot_names(core, command)
    ask = core.dispatcher.manage.snapshot_is_synced
    synced = _by_store_of(core, "query", command, lambda: ask(name, snapshot))
    return Reply(wire.pack("msg_synced_reply", synced=synced))


def _snapshot_list(core: Core, command: Command) -> Reply:
    name, after = _volume_name(command.contents.volume), wire.text(command.contents.snapshot)
    if after:
        names.check_snapshot(after)
    _need(core, command, "make snapshots")
    ask, most = core.dispatcher.manage.snapshot_list, page_elements("snapshot_info") + 1
    found = _by_store_of(core, "list", command, lambda: ask(name, after, most))
    return _page("snapshot_info", (_snapshot_info(one) for one in found))


def _snapshot_info(snapshot: Any) -> bytes:
    size_bytes = whole_sectors(snapshot.size_bytes)
    return wire.pack("snapshot_info", **snapshot._replace(size_bytes=size_bytes)._asdict())


# ---- open (section 4.5) ----


def _open(core: Core, command: Command) -> Reply | None:
    session, contents = command.session, command.contents
    if core.draining:  # since it waits
        raise OSError(errno.ESHUTDOWN, "the server is stopping")
    _check_open(core, contents)
    name = _volume_name(contents.name)
    writes = contents.mode == wire.MODE_WRITE
    if writes:
        _check_can_write(core)
    known = core.volumes.get(name)
    if known is not None and writes:
        others = (user for user in known.users if user.mode == wire.MODE_WRITE)
        if not _conflict(core, command, others):
            return None
    volume = known or Volume(_by_store("open", name, core.dispatcher.manage.open, name))
    try:
        opened = Opened(core, session, volume, contents, core.next_id())
    except OSError as error:
        if known is None:
            core.dispatcher.manage.close(volume.opened)
        what = f"cannot make a session of {contents.queues} queues with depth {contents.depth}"
        raise OSError(error.errno, f"{what}: {error.strerror}") from None
    core.opened(opened)
    log.info(
        '%s: opened volume "%s" for %s, %d queue%s of depth %d',
        session.peer,
        name,
        "writing" if writes else "reading",
        contents.queues,
        "" if contents.queues == 1 else "s",
        contents.depth,
    )
    layout = opened.region.layout
    reply = wire.pack(
        "msg_open_reply",
        region_bytes=layout.region_bytes,
        size_bytes=volume.size_bytes,
        block_bytes=layout.block_bytes,
        queues=layout.queue_count,
        depth=layout.depth,
    )
    return Reply(reply, opened.fds())


def _check_open(core: Core, contents: Any) -> None:
    if contents.arena_bytes % wire.PAGE_BYTES:
        reason = f"arena of {contents.arena_bytes} bytes is not a multiple of {wire.PAGE_BYTES}"
        raise OSError(errno.EINVAL, reason)
    for what, value, most in (
        ("number of queues", contents.queues, core.params["queues_max"]),
        ("queue depth", contents.depth, core.params["depth_max"]),
        ("arena size", contents.arena_bytes, core.params["arena_bytes_max"]),
    ):
        if not 1 <= value <= most:
            raise OSError(errno.EINVAL, f"{what} is {value}, the server allows 1 to {most}")


def _check_can_write(core: Core) -> None:
    if not core.capabilities & wire.CAP_WRITE:
        raise OSError(errno.EROFS, f'store "{core.store_name}" cannot write')


def _set_mode(core: Core, command: Command) -> Reply | None:
    opened, mode = command.session.opened, command.contents.mode
    if mode not in tables.MODES.values():
        raise OSError(errno.EINVAL, f"unknown mode {mode}")
    if opened is None:
        raise OSError(errno.EINVAL, "no volume is open on this connection")
    if mode == opened.mode:
        return Reply()
    if mode == wire.MODE_WRITE:
        _check_can_write(core)
        others = opened.volume.others(command.session)
        if not _conflict(core, command, (user for user in others if user.mode == wire.MODE_WRITE)):
            return None
    elif not _quiet(core, command, opened.volume):
        return None  # no write of it may be in flight when the next writer starts
    opened.mode = mode
    return Reply()


Handler = Callable[["Core", Command], Reply | None]

HANDLERS: dict[str, Handler] = {
    "HELLO": _hello,
    "STATUS": _status,
    "SESSIONS": _sessions,
    "CREATE": _create,
    "REMOVE": _remove,
    "RESIZE": _resize,
    "STAT": _stat,
    "LIST": _list,
    "SNAPSHOT_CREATE": _snapshot_create,
    "SNAPSHOT_LIST": _snapshot_list,
    "SNAPSHOT_ROLLBACK": _snapshot_rollback,
    "SNAPSHOT_REMOVE": _snapshot_remove,
    "SNAPSHOT_IS_SYNCED": _snapshot_is_synced,
    "OPEN": _open,
    "SET_MODE": _set_mode,
}
