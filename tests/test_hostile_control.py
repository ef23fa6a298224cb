# SPDX-License-Identifier: MIT
"""Hostile clients on the control socket end their own connection and nothing else (PROTOCOL.md 11).

Each attack is made on the real daemon and on a server under ASan and UBSan, beside a witness.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import wire
from conftest import ServerProcess
from hostile import STAGES, Stage, running_stage
from rawclient import Ended, RawClient, Refused

HELLO = wire.pack("msg_hello", version_min=wire.VERSION, version_max=wire.VERSION)
VOLUME = wire.pack("msg_volume", name="target")
OPEN = wire.pack(
    "msg_open", name="target", mode=wire.MODE_READ, queues=1, depth=1, arena_bytes=4096
)
SNAPSHOT = wire.pack("msg_snapshot", volume="target", snapshot="s")


@pytest.fixture(scope="module", params=STAGES)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with running_stage(request.param) as stage:
        yield stage


# ---- packets that are not messages (V1) ----


@pytest.mark.parametrize(
    "packet",
    [
        b"x",
        b"GET / HTTP/1.1\r\n\r\n",
        wire.message(wire.MSG_HELLO, HELLO)[:31],
        wire.message(wire.MSG_HELLO, HELLO, magic=0),
        wire.message(wire.MSG_HELLO, HELLO, payload_bytes=79),
        wire.message(wire.MSG_HELLO, HELLO, payload_bytes=81),
        wire.message(wire.MSG_HELLO, HELLO, payload_bytes=0xFFFFFFFF),
        wire.message(wire.MSG_HELLO, HELLO + bytes(wire.MSG_BYTES_MAX)),
    ],
    ids=["byte", "http", "short", "magic", "shorter", "longer", "wrapping", "too-long"],
)
@pytest.mark.parametrize("greeted", [False, True])
def test_client_sends_what_is_no_message(stage: Stage, packet: bytes, greeted: bool) -> None:
    with stage.attack(reason="not a message") as attack:
        client = attack.connect(hello=greeted)
        client.send(packet)
        client.wait_ended()


def test_client_sends_an_empty_packet(stage: Stage) -> None:
    with stage.attack(violations=None) as attack:
        client = attack.connect()
        client.socket.send(b"")
        client.wait_ended()


def test_client_sends_random_packets(stage: Stage) -> None:
    source = random.Random(2)
    with stage.attack(violations=100) as attack:
        for _ in range(100):
            client = attack.connect(hello=source.random() < 0.5)
            packet = bytearray(wire.message(source.choice([1, 2, 16, 19, 32, 48]), OPEN))
            for _ in range(source.randrange(1, 8)):
                packet[source.randrange(32)] ^= source.randrange(1, 256)
            del packet[source.randrange(1, len(packet)) :]
            client.send(bytes(packet))
            client.wait_ended()


# ---- descriptors (V2) ----


def test_client_passes_descriptors(stage: Stage) -> None:
    read, write = os.pipe()
    with stage.attack(reason="not a message") as attack:
        client = attack.connect()
        client.send(wire.message(wire.MSG_STATUS), [read, write])
        client.wait_ended()
    os.close(read)
    os.close(write)


def test_client_passes_as_many_descriptors_as_the_kernel_lets_it(stage: Stage) -> None:
    with stage.attack(violations=8) as attack, Path("/dev/null").open() as null:
        for _ in range(8):
            client = attack.connect()
            client.send(wire.message(wire.MSG_STATUS), [null.fileno()] * 253)
            client.wait_ended()


# ---- order (V3) ----


@pytest.mark.parametrize(
    "packet",
    [
        wire.message(wire.MSG_STATUS),
        wire.message(wire.MSG_CREATE, wire.pack("msg_volume", name="x", size_bytes=512)),
        wire.message(wire.MSG_OPEN, OPEN),
        wire.message(wire.MSG_SET_MODE, wire.pack("msg_set_mode", mode=wire.MODE_WRITE)),
    ],
    ids=["status", "create", "open", "set-mode"],
)
def test_client_does_not_say_hello_first(stage: Stage, packet: bytes) -> None:
    with stage.attack(reason="hello comes first") as attack:
        client = attack.connect(hello=False)
        client.send(packet)
        assert client.reply().status == -71
        client.wait_ended()
    with pytest.raises(Refused):
        stage.witness.stat("x")


def test_client_says_hello_twice(stage: Stage) -> None:
    with stage.attack(reason="sent twice") as attack:
        client = attack.connect()
        client.send(wire.message(wire.MSG_HELLO, HELLO))
        assert "sent twice" in client.wait_ended()


# ---- hello ----


@pytest.mark.parametrize(
    ("low", "high"), [(2, 9), (0, 0), (2**32 - 1, 2**32 - 1)], ids=["future", "past", "far-future"]
)
def test_client_of_another_version_is_told(stage: Stage, low: int, high: int) -> None:
    with stage.attack(violations=0) as attack:
        client = attack.connect(hello=False)
        with pytest.raises(Refused, match=r"the server 1 to 1") as refused:
            client.hello(version_min=low, version_max=high)
        assert refused.value.errno == 93
        client.wait_ended()


def test_client_with_a_range_of_versions_gets_ours(stage: Stage) -> None:
    with stage.attack(violations=0) as attack:
        assert attack.connect(hello=False).hello(version_min=0, version_max=9).version == 1


def test_client_with_unknown_features_gets_the_known_ones(stage: Stage) -> None:
    with stage.attack(violations=0) as attack:
        reply = attack.connect(hello=False).hello(features=2**64 - 1)
        known = wire.FEATURE_SEGMENTS | wire.FEATURE_EVENTS | wire.FEATURE_SESSIONS
        assert reply.features == known
        assert attack.connect(hello=False).hello(features=0).features == 0


def test_client_with_reversed_versions(stage: Stage) -> None:
    with stage.attack() as attack:
        client = attack.connect(hello=False)
        with pytest.raises(Refused):
            client.hello(version_min=2, version_max=0)
        client.wait_ended()


# ---- unknown types, headers, payloads (V4, V5, V6) ----


@pytest.mark.parametrize("kind", [0, 4, 15, 21, 31, 37, 47, 50, 51, wire.MSG_EVENT, 65535])
def test_client_sends_an_unknown_type(stage: Stage, kind: int) -> None:
    with stage.attack(reason="unknown type") as attack:
        client = attack.connect()
        client.send(wire.message(kind, VOLUME))
        client.wait_ended()


@pytest.mark.parametrize("flags", [1, 2, 0x8000])
def test_client_sets_header_flags(stage: Stage, flags: int) -> None:
    with stage.attack(reason="bad header") as attack:
        client = attack.connect()
        client.send(wire.message(wire.MSG_STATUS, flags=flags))
        client.wait_ended()


@pytest.mark.parametrize("resv", [[1, 0, 0], [0, 1, 0], [0, 0, 1 << 31]])
def test_client_sets_reserved_header_members(stage: Stage, resv: list[int]) -> None:
    with stage.attack(reason="bad header") as attack:
        client = attack.connect()
        client.send(wire.message(wire.MSG_STATUS, resv=resv))
        client.wait_ended()


def test_client_sends_a_status(stage: Stage) -> None:
    with stage.attack(reason="bad header") as attack:
        client = attack.connect()
        client.send(wire.message(wire.MSG_STATUS, status=-5))
        client.wait_ended()


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (wire.MSG_HELLO, HELLO),
        (wire.MSG_CREATE, VOLUME),
        (wire.MSG_REMOVE, VOLUME),
        (wire.MSG_RESIZE, VOLUME),
        (wire.MSG_STAT, VOLUME),
        (wire.MSG_LIST, VOLUME),
        (wire.MSG_SNAPSHOT_CREATE, SNAPSHOT),
        (wire.MSG_SNAPSHOT_LIST, SNAPSHOT),
        (wire.MSG_SNAPSHOT_ROLLBACK, SNAPSHOT),
        (wire.MSG_SNAPSHOT_REMOVE, SNAPSHOT),
        (wire.MSG_SNAPSHOT_IS_SYNCED, SNAPSHOT),
        (wire.MSG_OPEN, OPEN),
        (wire.MSG_SET_MODE, wire.pack("msg_set_mode", mode=1)),
        (wire.MSG_STATUS, b""),
        (wire.MSG_SESSIONS, wire.pack("msg_sessions")),
    ],
)
@pytest.mark.parametrize("change", [-1, 1, 4096])
def test_client_sends_a_payload_of_the_wrong_length(
    stage: Stage, kind: int, payload: bytes, change: int
) -> None:
    wrong = payload[:change] if change < 0 and payload else payload + bytes(abs(change))
    with stage.attack(reason="wrong size") as attack:
        client = attack.connect(hello=kind != wire.MSG_HELLO)
        client.send(wire.message(kind, wrong))
        client.wait_ended()


FULL = b"n" * 256


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (wire.MSG_STAT, wire.pack("msg_volume", name=FULL)),
        (wire.MSG_STAT, wire.pack("msg_volume", name="target", resv=1)),
        (wire.MSG_STAT, wire.pack("msg_volume", name="target", size_bytes=512)),
        (wire.MSG_CREATE, wire.pack("msg_volume", name="x", size_bytes=512, resv=2**63)),
        (wire.MSG_LIST, wire.pack("msg_volume", name=FULL)),
        (wire.MSG_OPEN, wire.pack("msg_open", name=FULL, mode=1, queues=1, depth=1)),
        (wire.MSG_OPEN, wire.pack("msg_open", name="target", mode=1, queues=1, depth=1, resv0=1)),
        (wire.MSG_OPEN, wire.pack("msg_open", name="target", mode=1, queues=1, depth=1, resv1=1)),
        (wire.MSG_SNAPSHOT_LIST, wire.pack("msg_snapshot", volume=FULL)),
        (wire.MSG_SNAPSHOT_CREATE, wire.pack("msg_snapshot", volume="target", snapshot=FULL)),
        (wire.MSG_SNAPSHOT_CREATE, wire.pack("msg_snapshot", volume="v", snapshot="s", resv=1)),
        (
            wire.MSG_SNAPSHOT_REMOVE,
            wire.pack("msg_snapshot", volume="v", snapshot="s", timeout_s=1),
        ),
        (wire.MSG_SET_MODE, wire.pack("msg_set_mode", mode=1, resv=1)),
        (wire.MSG_SESSIONS, wire.pack("msg_sessions", after=1, resv=1)),
    ],
)
def test_client_sends_bad_contents(stage: Stage, kind: int, payload: bytes) -> None:
    with stage.attack(reason="bad contents") as attack:
        client = attack.connect()
        client.send(wire.message(kind, payload))
        client.wait_ended()


def test_client_uses_a_message_of_a_feature_that_is_not_in_force(stage: Stage) -> None:
    with stage.attack(reason="feature is not in force") as attack:
        client = attack.connect(hello=False)
        client.hello(features=wire.FEATURE_EVENTS)
        client.send(wire.message(wire.MSG_SESSIONS, wire.pack("msg_sessions")))
        client.wait_ended()


def test_client_says_hello_with_unterminated_text(stage: Stage) -> None:
    with stage.attack(reason="bad contents") as attack:
        client = attack.connect(hello=False)
        payload = wire.pack("msg_hello", version_min=1, version_max=1, client=b"c" * 64)
        client.send(wire.message(wire.MSG_HELLO, payload))
        client.wait_ended()


# ---- requests that are refused, and the connection goes on ----


@pytest.mark.parametrize(
    "name",
    ["", "/x", "x/", "a//b", ".", "..", "a/../b", "a\nb", "\x7f", ".openvstorage/x", "n" * 255],
)
def test_client_asks_for_a_bad_name(stage: Stage, name: str) -> None:
    with stage.attack(violations=0) as attack:
        client = attack.connect()
        for kind in (wire.MSG_STAT, wire.MSG_REMOVE, wire.MSG_CREATE, wire.MSG_RESIZE):
            with pytest.raises(Refused) as refused:
                client.call(kind, wire.pack("msg_volume", name=name))
            assert refused.value.errno == (36 if len(name) > 254 else 22)
        with pytest.raises(Refused):
            client.open(name)
        client.status()


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": 0},
        {"mode": 3},
        {"mode": 2**32 - 1},
        {"queues": 0},
        {"queues": 65},
        {"queues": 2**32 - 1},
        {"depth": 0},
        {"depth": 4097},
        {"depth": 2**32 - 1},
        {"arena_bytes": 0},
        {"arena_bytes": 4097},
        {"arena_bytes": 2**64 - 4096},
        {"arena_bytes": 2**63},
        {"arena_bytes": 1 << 40},
    ],
)
def test_client_opens_with_impossible_parameters(stage: Stage, fields: dict[str, int]) -> None:
    with stage.attack(violations=0) as attack:
        client = attack.connect()
        with pytest.raises(Refused) as refused:
            client.open("target", **fields)
        assert refused.value.errno == 22
        client.open("target")


def test_client_opens_twice(stage: Stage) -> None:
    with stage.attack(violations=0) as attack:
        volume = attack.open()
        with pytest.raises(Refused, match="open") as refused:
            volume.client.open("target", mode=wire.MODE_READ)
        assert refused.value.errno == 22
        volume.write(0, b"still here")


def test_second_writer_is_refused_and_readers_are_not(stage: Stage) -> None:
    with stage.attack(violations=0) as attack:
        attack.open()
        with pytest.raises(Refused) as refused:
            attack.open()
        assert refused.value.errno == 16
        reader = attack.open(mode=wire.MODE_READ)
        with pytest.raises(Refused) as refused:
            reader.client.set_mode(wire.MODE_WRITE)
        assert refused.value.errno == 16
        with pytest.raises(OSError, match="Bad file descriptor"):
            reader.write(0, b"not allowed")


def test_client_sets_a_mode_without_a_volume(stage: Stage) -> None:
    with stage.attack(violations=0) as attack:
        with pytest.raises(Refused) as refused:
            attack.connect().set_mode(wire.MODE_WRITE)
        assert refused.value.errno == 22


# ---- floods ----


def test_client_that_never_reads_its_replies_is_dropped(stage: Stage) -> None:
    with stage.attack(violations=0) as attack:
        client = attack.connect()
        client.socket.setblocking(False)
        packet = wire.message(wire.MSG_STATUS)
        sent = 0
        try:
            while sent < 1_000_000:
                client.send(packet)
                sent += 1
                if sent % 64 == 0:
                    stage.witness.status()
        except (BrokenPipeError, ConnectionResetError):
            pass
        except BlockingIOError:
            stage.check_witness()
        assert sent < 1_000_000


def test_client_sends_many_requests_before_it_reads(stage: Stage) -> None:
    with stage.attack(violations=0) as attack:
        client = attack.connect()
        for ident in range(100):
            client.send(wire.message(wire.MSG_STAT, VOLUME, ident=ident))
        assert [client.reply().id for _ in range(100)] == list(range(100))


def test_thousands_of_connects_leave_nothing(stage: Stage) -> None:
    with stage.attack(violations=None):
        for number in range(3000):
            client = RawClient(stage.server.socket, hello=number % 3 == 0)
            if number % 3 == 1:
                client.send(b"garbage")
            client.close()


def test_more_clients_than_allowed_are_told_and_go_away(stage: Stage) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    refused = 0
    try:
        with stage.attack(violations=0) as attack:
            for _ in range(1100):
                try:
                    attack.connect()
                except Refused as error:
                    assert error.errno == 87  # noqa: PT017
                    refused += 1
            stage.check_witness()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refused >= 1100 - 1024


@pytest.mark.parametrize("shut", [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR])
def test_client_shuts_a_direction_of_its_socket(stage: Stage, shut: int) -> None:
    with stage.attack(violations=0) as attack:
        volume = attack.open()
        volume.queue.submit(op=wire.OP_FLUSH)
        volume.client.socket.shutdown(shut)
        try:
            volume.client.send(wire.message(wire.MSG_STATUS))
            volume.client.wait_ended()
        except OSError:
            pass


@pytest.mark.parametrize("step", ["connected", "greeted", "asked", "opened", "submitted"])
def test_client_closes_at_each_step(stage: Stage, step: str) -> None:
    with stage.attack(violations=0) as attack:
        client = attack.connect(hello=step != "connected")
        if step == "asked":
            client.send(wire.message(wire.MSG_OPEN, OPEN))
        elif step in ("opened", "submitted"):
            volume = client.open("target")
            if step == "submitted":
                for number in range(8):
                    volume.queue.push(wire.pack("sqe", op=wire.OP_WRITE, user_data=number))
                volume.queue.publish()
        client.close()


def test_client_opens_and_goes_before_the_answer_many_times(stage: Stage) -> None:
    with stage.attack(violations=0):
        payload = wire.pack(
            "msg_open", name="target", mode=wire.MODE_WRITE, queues=4, depth=64, arena_bytes=1 << 20
        )
        for _ in range(200):
            with RawClient(stage.server.socket) as client:
                client.send(wire.message(wire.MSG_OPEN, payload))


def test_ended_connection_answers_nothing_more(stage: Stage) -> None:
    with stage.attack() as attack:
        client = attack.connect()
        client.send(wire.message(77))
        client.wait_ended()
        with pytest.raises((Ended, BrokenPipeError, ConnectionResetError)):
            client.status()


def test_daemon_uses_the_descriptors_it_may_have(server: Callable[..., ServerProcess]) -> None:
    process = server("--store", "memory", command=["prlimit", "--nofile=128:4096"])
    with RawClient(process.socket) as client, ExitStack() as stack:
        client.create("target", 1 << 20)
        for _ in range(4):
            other = stack.enter_context(RawClient(process.socket))
            other.open("target", mode=wire.MODE_READ, queues=64)


def test_clients_that_use_up_the_descriptors_end_nobody(
    server: Callable[..., ServerProcess],
) -> None:
    process = server("--store", "memory", command=["prlimit", "--nofile=256:256"])
    with RawClient(process.socket) as witness:
        witness.create("target", 1 << 20)
        volume = witness.open("target")
        before = len(os.listdir(f"/proc/{process.pid}/fd"))  # noqa: PTH208
        with ExitStack() as stack:
            refused = None
            while refused is None:
                try:
                    other = stack.enter_context(RawClient(process.socket))
                    other.open("target", mode=wire.MODE_READ, queues=16)
                except (Refused, TimeoutError) as error:  # or not even accepted
                    refused = error
            assert isinstance(refused, TimeoutError) or refused.errno == errno.EMFILE
            volume.write(0, b"still served")
            assert volume.read(0, 12) == b"still served"
        while len(os.listdir(f"/proc/{process.pid}/fd")) > before:  # noqa: PTH208
            witness.status()
        with RawClient(process.socket) as client:
            client.open("target", mode=wire.MODE_READ, queues=16)
