# SPDX-License-Identifier: MIT
"""The reference server: what is its own affair.

What all servers have in common is tried by tests/interop, what hostile clients do by
tests/test_hostile_*.py, the table of states by tests/test_states.py, QEMU by tests/qemu, its
stores by tests/test_reference_stores.py.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import wire
from conftest import ServerProcess, run, start_refused
from golden import samples
from rawclient import RawClient, Refused
from reference_stores import NeverFlush

import shmclient
import shmserver
from shmclient.reference import tables
from shmserver.reference import Server, handlers
from shmserver.reference.entry import Checked, Limits, Violation, check_form
from shmserver.reference.stores import Memory

MIB = 1 << 20


@pytest.fixture
def path(short_dir: Path) -> Path:
    return short_dir / "s.sock"


@contextmanager
def serving(path: Path, store: Any = "memory", **options: Any) -> Iterator[RawClient]:
    """A client of a server in this process, with volume "vol"."""
    with Server(store, socket=path, **options), RawClient(path) as client:
        client.create("vol", MIB)
        yield client


# ---- the interface of shmserver.Server ----


def test_interface_is_that_of_the_c_server() -> None:
    public = {name for name in dir(shmserver.Server) if not name.startswith("_")}
    assert public == {name for name in dir(Server) if not name.startswith("_")}


def test_server_starts_once_stops_cleanly_and_is_closed_then(path: Path) -> None:
    before = set(threading.enumerate())
    server = Server("null", socket=path, depth_max=16)
    assert server.socket == str(path)
    assert server.limits["depth_max"] == 16
    server.start()
    with pytest.raises(OSError, match="once"):
        server.start()
    assert server.status()["pid"] == os.getpid()
    assert server.stop()
    assert not path.exists()
    server.close()
    for use in (server.start, server.status, lambda: server.limits):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert set(threading.enumerate()) <= before


def test_server_that_never_started_leaves_nothing(path: Path) -> None:
    Server("memory", socket=path).close()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"store": "fault"}, "no store.*memory, file, null"),
        ({"store": "/some/store.so"}, "no store"),
        ({"store": "file"}, "pool"),
        ({"store": "memory", "options": {"a": "b"}}, 'no option "a"'),
        ({"store": "memory", "pool": "/tmp"}, "no pool"),
        ({"reactors": 2}, "reactors"),
        ({"spin_ns_max": 1000}, "spin_ns_max"),
        ({"depth_max": 5000}, "depth_max is 5000"),
        ({"socket": ""}, "socket"),
        ({"socket": "/" + "x" * 200}, "longer than 107 bytes"),
        ({"socket": "/nowhere/at/all"}, "nowhere"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(
    path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OSError, match=words) as caught:
        Server(**{"socket": path, **options})
    assert caught.value.errno


def test_socket_of_a_running_server_is_not_taken(path: Path) -> None:
    with Server("null", socket=path):
        for kind in (Server, shmserver.Server):
            with pytest.raises(OSError, match="another server") as caught:
                kind("null", socket=path)
            assert caught.value.errno == errno.EADDRINUSE
    with shmserver.Server("null", socket=path), pytest.raises(OSError, match="another server"):
        Server("null", socket=path)


def test_requests_that_do_not_finish_are_dropped_and_told(path: Path) -> None:
    server = Server(NeverFlush(), socket=path)
    server.start()
    with RawClient(path) as client:
        client.create("vol", MIB)
        volume = client.open("vol")
        volume.queue.submit(op=wire.OP_FLUSH)
        while not server.status()["requests"] and volume.queue.words.sq_head == 0:
            client.status()
        assert not server.stop(0.1)
        assert client.wait_ended() == "the server has stopped"
        assert volume.queue.reap() == []


# ---- the daemon ----


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--reactors", "4"], "reactors"),
        (["--spin-max", "50us"], "spin"),
        (["--store", "fault"], "no store"),
        (["--store", "memory", "--store-option", "x=y"], 'no option "x"'),
        (["--store", "file", "--pool", "/nowhere"], "/nowhere"),
    ],
)
def test_daemon_refuses_what_it_cannot_honour(path: Path, options: list[str], words: str) -> None:
    assert words in start_refused(path, "--implementation", "reference", *options)


def test_daemon_runs_with_the_usual_options(
    server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"shm_server": {"implementation": "reference", "depth_max": 32}}')
    options = ["--socket-mode", "0600", "--spin-max", "0", "--reactors", "1", "--queues-max", "2"]
    process = server("--config", config, *options)
    assert process.socket.stat().st_mode & 0o777 == 0o600
    status = process.client_json("status")
    assert status["reactors"] == 1
    with RawClient(process.socket) as client:
        assert (client.limits.depth_max, client.limits.queues_max) == (32, 2)
        assert wire.text(client.limits.store) == "memory"
        assert "reference" in wire.text(client.limits.server)


def test_daemon_serves_a_store_of_your_own(server: Callable[..., ServerProcess]) -> None:
    where = {"PYTHONPATH": str(Path(__file__).parent)}
    options = ["--implementation", "reference", "--store", "reference_stores:SlowWrite"]
    process = server(*options, env=where)
    with shmclient.connect(process.socket) as connection:
        connection.create("vol", MIB)
        with connection.open("vol", writable=True) as volume:
            volume.pwrite(b"slow", 0)
            assert volume.pread(4, 0) == b"slow"


def test_missing_packages_are_named_with_the_extra(path: Path) -> None:
    for package in ("cffi", "posix_ipc"):
        code = (
            f"import sys; sys.modules['{package}'] = None\n"
            "from shmserver.__main__ import cli\n"
            "sys.argv[1:] = ['--implementation', 'reference', '--socket', sys.argv[1]]\n"
            "from shmserver.__main__ import main; main()\n"
        )
        result = run([sys.executable, "-c", code, path], check=False)
        assert result.returncode == 1
        assert f"needs the Python package {package}" in result.stderr
        assert "openvstorage-shm[reference]" in result.stderr
        assert "Traceback" not in result.stderr


def test_killed_daemon_leaves_nothing_in_shared_memory(
    server: Callable[..., ServerProcess],
) -> None:
    before = set(os.listdir("/dev/shm"))  # noqa: PTH208
    process = server("--implementation", "reference", "--store", "memory")
    with RawClient(process.socket) as client:
        client.create("vol", MIB)
        client.open("vol").write(0, b"x" * 4096)
        process.kill()
    assert set(os.listdir("/dev/shm")) == before  # noqa: PTH208
    process.socket.unlink()
    Path(f"{process.socket}.lock").unlink()


def test_deadline_ends_a_request_that_takes_too_long(path: Path) -> None:
    with serving(path, NeverFlush(), deadline_s=0.2) as client:
        volume = client.open("vol")
        volume.write(0, b"data")
        assert volume.queue.run(op=wire.OP_FLUSH) == -errno.ETIMEDOUT
        assert volume.read(0, 4) == b"data"


def test_buffer_that_a_store_keeps_is_safe_to_touch(path: Path) -> None:
    kept: list[memoryview] = []

    class Keeper(Memory):
        def pread(self, volume: Any, buffer: memoryview, offset_bytes: int) -> None:
            kept.append(buffer)
            super().pread(volume, buffer, offset_bytes)

    def regions() -> int:
        return Path("/proc/self/maps").read_text().count("memfd:ovsshm")

    with serving(path, Keeper()) as client:
        with RawClient(path) as other:
            assert other.open("vol").read(0, 4096) == bytes(4096)
        while client.stat("vol").writers:
            pass
        assert regions() == 1
        kept[0][:] = b"x" * 4096
        assert bytes(kept.pop()) == b"x" * 4096
        client.status()
        gc.collect()
        assert regions() == 0


def test_forked_child_of_an_embedder_ends_nothing(path: Path) -> None:
    with Server("memory", socket=path) as server, RawClient(path) as client:
        child = os.fork()
        if child == 0:
            server.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        client.status()
        assert path.exists()


def test_long_zeroes_of_one_client_let_others_have_their_turn(path: Path) -> None:
    with serving(path) as client, RawClient(path) as other:
        client.create("huge", 1 << 40)
        volume = client.open("huge", depth=256)
        for number in range(256):
            entry = {"op": wire.OP_WRITE_ZEROES, "flags": wire.SQE_MAY_UNMAP}
            volume.queue.push(wire.pack("sqe", length_bytes=1 << 30, user_data=number, **entry))
        volume.queue.publish()
        other.status()
        assert volume.queue.words.sq_head < 256
        assert {done.result for done in volume.queue.wait(256)} == {0}


# ---- rules of time (section 12) ----

HOLD = """
import os, sys
import shmclient
with shmclient.connect(sys.argv[1]) as connection:
    volume = connection.open("vol", writable=True)
    print("open", flush=True)
    sys.stdin.read()
"""


def test_dead_client_frees_the_volume_at_once(path: Path) -> None:
    with serving(path) as client, ExitStack() as stack:
        for _ in range(5):
            holder = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", HOLD, path],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            assert holder.stdout
            assert holder.stdout.readline() == b"open\n"
            with pytest.raises(Refused) as refused:
                client.remove("vol")
            assert refused.value.errno == errno.EBUSY
            holder.send_signal(signal.SIGKILL)
            holder.wait(20)
            with RawClient(path) as other:
                other.open("vol", mode=wire.MODE_WRITE)
            client.remove("vol")
            client.create("vol", MIB)


def test_role_of_a_dead_client_waits_for_its_requests(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12.1, step 4: never before they are done; and EBUSY when that takes too long."""
    monkeypatch.setattr(handlers, "PARK_S", 0.3)
    released = threading.Event()

    class Gate(Memory):
        async def pwrite(self, volume: Any, buffer: memoryview, offset_bytes: int) -> None:
            await asyncio.to_thread(released.wait, 30)
            super().pwrite(volume, buffer, offset_bytes)

    with serving(path, Gate()) as client:
        with RawClient(path) as dying:
            volume = dying.open("vol")
            volume.put(0, b"late")
            volume.queue.submit(op=wire.OP_WRITE, length_bytes=4)
            while not volume.queue.words.sq_head:
                client.status()
        with pytest.raises(Refused, match="gone but has requests in the store") as refused:
            client.open("vol", mode=wire.MODE_WRITE)
        assert refused.value.errno == errno.EBUSY
        assert client.stat("vol").writers == 1
        monkeypatch.setattr(handlers, "PARK_S", 30.0)
        threading.Timer(0.1, released.set).start()
        assert client.open("vol", mode=wire.MODE_WRITE).read(0, 4) == b"late"


def test_snapshot_of_a_volume_that_does_not_get_quiet_is_busy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "PAUSE_S", 0.2)
    with serving(path, NeverFlush()) as client, RawClient(path) as other:
        volume = client.open("vol")
        volume.queue.submit(op=wire.OP_FLUSH)
        while not volume.queue.words.sq_head:
            other.status()
        payload = wire.pack("msg_snapshot", volume="vol", snapshot="s")
        with pytest.raises(Refused, match="do not finish") as refused:
            other.call(wire.MSG_SNAPSHOT_CREATE, payload)
        assert refused.value.errno == errno.EBUSY
        volume.queue.submit(op=wire.OP_READ, length_bytes=512)  # goes on
        assert volume.queue.wait()[0].result == 512


def test_sessions_are_told_while_their_requests_are_in_the_store(path: Path) -> None:
    with serving(path, NeverFlush()) as client:
        with RawClient(path) as dying:
            volume = dying.open("vol")
            assert volume.queue.run(op=wire.OP_READ, length_bytes=4096) == 4096
            volume.queue.submit(op=wire.OP_FLUSH)
            while volume.queue.words.sq_head != 2:
                client.status()
        reply = client.call(wire.MSG_SESSIONS, wire.pack("msg_sessions"))
        head = wire.unpack("msg_list_reply", reply.payload)
        assert (head.count, head.more) == (1, 0)
        info = wire.unpack("session_info", reply.payload[wire.sizeof("msg_list_reply") :])
        assert (info.pid, info.reads, info.read_bytes, info.in_flight) == (os.getpid(), 1, 4096, 1)
        assert sum(info.latency_counts) == 1
        later = wire.pack("msg_sessions", after=info.id)
        empty = client.call(wire.MSG_SESSIONS, later).payload
        assert wire.unpack("msg_list_reply", empty).count == 0


# ---- every error of every message ----


class Full(Memory):
    """A store that is full, and slow to make snapshots."""

    def create(self, name: str, size_bytes: int) -> None:
        if name == "full":
            raise OSError(errno.ENOSPC, "no space")
        super().create(name, size_bytes)

    def snapshot_create(self, name: str, snapshot: str, timeout_s: int) -> None:
        if snapshot == "full":
            raise OSError(errno.ENOSPC, "no space")
        if timeout_s > 0:
            raise TimeoutError(errno.ETIMEDOUT, "not safe in time")
        super().snapshot_create(name, snapshot, timeout_s)


class ReadOnly(Memory):
    read_only = True


def _snapshot(**fields: Any) -> bytes:
    return wire.pack("msg_snapshot", **{"volume": "vol", "snapshot": "s", **fields})


def _open(**fields: Any) -> bytes:
    ordinary = {"name": "vol", "mode": 2, "queues": 1, "depth": 8, "arena_bytes": 4096}
    return wire.pack("msg_open", **(ordinary | fields))


LONG = "n" * 255
# Refused by a server of Full(), on a connection with nothing open; "vol" is open for writing.
REFUSED: dict[str, dict[str, bytes]] = {
    "CREATE": {
        "EEXIST": wire.pack("msg_volume", name="vol", size_bytes=512),
        "ENOSPC": wire.pack("msg_volume", name="full", size_bytes=512),
        "EINVAL": wire.pack("msg_volume", name="new", size_bytes=513),
        "ENAMETOOLONG": wire.pack("msg_volume", name=LONG, size_bytes=512),
    },
    "REMOVE": {
        "ENOENT": wire.pack("msg_volume", name="no"),
        "EBUSY": wire.pack("msg_volume", name="vol"),
        "EINVAL": wire.pack("msg_volume", name="a//b"),
        "ENAMETOOLONG": wire.pack("msg_volume", name=LONG),
    },
    "RESIZE": {
        "ENOENT": wire.pack("msg_volume", name="no", size_bytes=512),
        "EPERM": wire.pack("msg_volume", name="vol", size_bytes=512),
        "EINVAL": wire.pack("msg_volume", name="vol", size_bytes=2**63),
        "ENAMETOOLONG": wire.pack("msg_volume", name=LONG, size_bytes=512),
    },
    "STAT": {
        "ENOENT": wire.pack("msg_volume", name="no"),
        "EINVAL": wire.pack("msg_volume", name="a\n"),
        "ENAMETOOLONG": wire.pack("msg_volume", name=LONG),
    },
    "LIST": {
        "EINVAL": wire.pack("msg_volume", name="/x"),
        "ENAMETOOLONG": wire.pack("msg_volume", name=LONG),
    },
    "SNAPSHOT_CREATE": {
        "ENOENT": _snapshot(volume="no"),
        "EEXIST": _snapshot(snapshot="there"),
        "ENOSPC": _snapshot(snapshot="full"),
        "ETIMEDOUT": _snapshot(timeout_s=1),
        "EINVAL": _snapshot(snapshot="a/b"),
        "ENAMETOOLONG": _snapshot(snapshot=LONG),
    },
    "SNAPSHOT_LIST": {
        "EINVAL": _snapshot(volume="a/"),
        "ENAMETOOLONG": _snapshot(volume=LONG),
    },
    "SNAPSHOT_ROLLBACK": {
        "ENOENT": _snapshot(),
        "EINVAL": _snapshot(snapshot=".."),
        "ENAMETOOLONG": _snapshot(volume=LONG),
    },
    "SNAPSHOT_REMOVE": {
        "ENOENT": _snapshot(),
        "EINVAL": _snapshot(snapshot=""),
        "ENAMETOOLONG": _snapshot(snapshot=LONG),
    },
    "SNAPSHOT_IS_SYNCED": {
        "ENOENT": _snapshot(),
        "EINVAL": _snapshot(volume="\x01"),
        "ENAMETOOLONG": _snapshot(volume=LONG),
    },
    "OPEN": {
        "ENOENT": _open(name="no"),
        "EBUSY": _open(),
        "EINVAL": _open(arena_bytes=4097),
        "ENAMETOOLONG": _open(name=LONG),
    },
    "SET_MODE": {"EINVAL": wire.pack("msg_set_mode", mode=1)},
}
# Tried elsewhere, as they need another server or another state.
ELSEWHERE = {
    ("HELLO", "EPROTONOSUPPORT"),  # test_hostile_control, test_states
    ("HELLO", "EACCES"),  # test_peers_that_are_not_on_the_list_are_told
    ("HELLO", "EUSERS"),  # test_hostile_control
    ("SNAPSHOT_CREATE", "EBUSY"),  # test_snapshot_of_a_volume_that_does_not_get_quiet_is_busy
    ("SNAPSHOT_ROLLBACK", "EBUSY"),  # the same
    ("OPEN", "EROFS"),  # test_store_that_cannot_write_is_read_only
    ("SET_MODE", "EROFS"),  # the same
    ("SET_MODE", "EBUSY"),  # test_hostile_control
    ("OPEN", "ESHUTDOWN"),  # test_states
    ("OPEN", "ENOMEM"),  # of the kernel
}


def test_every_error_of_the_tables_is_tried() -> None:
    tried = {(name, error) for name, errors in REFUSED.items() for error in errors}
    known = {(name, error) for name, row in tables.MESSAGES.items() for error in row.errors}
    assert tried | ELSEWHERE == known
    assert not tried & ELSEWHERE


def test_every_message_is_refused_as_its_section_says(path: Path) -> None:
    with serving(path, Full()) as owner, RawClient(path) as client:
        owner.call(wire.MSG_SNAPSHOT_CREATE, _snapshot(snapshot="there"))
        owner.open("vol")
        for name, errors in REFUSED.items():
            for error, payload in errors.items():
                with pytest.raises(Refused) as refused:
                    client.call(tables.MESSAGES[name].type, payload)
                assert refused.value.errno == getattr(errno, error), (name, error)
                assert refused.value.strerror
        assert client.status().violations == 0


def test_store_that_cannot_write_is_read_only(path: Path) -> None:
    store = ReadOnly()
    Memory.create(store, "vol", MIB)
    with Server(store, socket=path), RawClient(path) as client:
        with pytest.raises(Refused, match="cannot write") as refused:
            client.open("vol")
        assert refused.value.errno == errno.EROFS
        volume = client.open("vol", mode=wire.MODE_READ)
        assert volume.queue.run(op=wire.OP_WRITE, length_bytes=512) == -errno.EOPNOTSUPP
        with pytest.raises(Refused) as refused:
            client.set_mode(wire.MODE_WRITE)
        assert refused.value.errno == errno.EROFS
        for call in (lambda: client.create("x", 512), lambda: client.resize("vol", 2 * MIB)):
            with pytest.raises(Refused) as refused:
                call()
            assert refused.value.errno == errno.EOPNOTSUPP


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_peers_that_are_not_on_the_list_are_told(path: Path) -> None:
    code = (
        "import os, sys\n"
        "import shmclient\n"
        "os.setgroups([int(g) for g in sys.argv[3].split(',') if g])\n"
        "os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))\n"
        "shmclient.connect(sys.argv[1]).close()\n"
    )
    path.parent.chmod(0o755)
    options = {"allow_uids": [1001], "allow_gids": [2002], "socket_mode": 0o666}
    with Server("null", socket=path, **options):
        for who, groups, fine in ((1001, "", True), (1002, "", False), (1002, "2002", True)):
            result = run([sys.executable, "-c", code, path, str(who), groups], check=False)
            assert (result.returncode == 0) == fine, result.stderr
            assert fine or f"user {who} is not on the server's list" in result.stderr


# ---- entries: the checks in their order ----


def entry(**fields: Any) -> Checked:
    limits = Limits(65536, 1 << 30, 4096, tables.FEATURES)
    return check_form(
        wire.unpack("sqe", wire.pack("sqe", **fields)), limits, memoryview(bytearray(4096))
    )


@pytest.mark.parametrize(
    ("number", "fields"),
    [
        ("V10", {"op": 7, "flags": 255, "region": 9, "resv": [1, 0, 0]}),
        ("V11", {"op": wire.OP_READ, "flags": 255, "region": 9, "resv": [1, 0, 0]}),
        ("V12", {"op": wire.OP_READ, "region": 9, "resv": [1, 0, 0]}),
        ("V12", {"op": wire.OP_FLUSH, "region": 9, "offset_bytes": 1}),
        ("V13", {"op": wire.OP_READ, "region": 9, "length_bytes": 65537}),
        ("V15", {"op": wire.OP_READ, "length_bytes": 65537, "buffer_offset": 2**64 - 1}),
        ("V15", {"op": wire.OP_BLOCK_STATUS, "buffer_bytes": 15, "buffer_offset": 2**64 - 1}),
        ("V14", {"op": wire.OP_READ, "length_bytes": 4097}),
        ("V14", {"op": wire.OP_WRITE, "length_bytes": 2, "buffer_offset": 2**64 - 1}),
        ("V16", {"op": wire.OP_READ, "flags": wire.SQE_SEGMENTS}),
        (
            "V14",
            {
                "op": wire.OP_READ,
                "flags": wire.SQE_SEGMENTS,
                "segment_count": 2,
                "buffer_offset": 4081,
            },
        ),
    ],
)
def test_entries_that_break_a_rule_are_violations_of_its_number(
    number: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(Violation) as caught:
        entry(**fields)
    assert caught.value.number == number


def test_golden_entries_are_read_as_what_they_are() -> None:
    limits = Limits(1 << 20, 1 << 30, 1 << 60, tables.FEATURES)
    for name, data in samples.entries().items():
        if not name.startswith("sqe-"):
            continue
        arena = memoryview(bytearray(64))
        found = wire.unpack("sqe", data)
        if found.flags & wire.SQE_SEGMENTS:
            found.buffer_offset = 0  # the list would be far out
            arena[: len(samples.entries()["segments"])] = samples.entries()["segments"]
        checked = check_form(found, limits, arena)
        assert name.removeprefix("sqe-").startswith(checked.name)
        assert checked.user_data == found.user_data
        assert bool(checked.ranges) == (checked.op.memory is not tables.Memory.NONE)
        if checked.segmented:
            assert checked.ranges == [(0x1000, 0xF000), (0x7FFF0, 0x1000)]


def test_region_is_laid_out_as_the_golden_one(path: Path) -> None:
    golden = samples.region_header()
    wanted = wire.unpack("region_header", golden)
    with serving(path) as client:
        volume = client.open("vol", queues=2, depth=100, arena_bytes=1 << 20)
        made = bytearray(volume.map[: len(golden)])
        fields = {field.name: field for field in wire.STRUCTS["ovsshm_region_header"].fields}
        for name in ("features", "block_bytes", "volume_bytes"):  # not a matter of layout
            field = fields[name]
            made[field.offset : field.offset + field.size] = golden[
                field.offset : field.offset + field.size
            ]
        assert bytes(made) == golden
        assert volume.header.arena_offset == wanted.arena_offset


# ---- the code itself ----


def test_handlers_are_those_of_the_table() -> None:
    assert handlers.HANDLERS.keys() == tables.MESSAGES.keys() - tables.SERVER_ONLY


def test_no_number_of_the_wire_is_typed_again() -> None:
    """Values come from the header by name: nothing defines a name that the header has."""
    top = Path(shmserver.__file__).parents[1]
    for source in [*top.glob("shm*/reference/*.py"), *top.glob("shm*/reference/stores/*.py")]:
        for name in re.findall(r"^([A-Z_]+) = ", source.read_text(), re.MULTILINE):
            assert f"OVSSHM_{name}" not in wire.CONSTANTS, (source, name)
