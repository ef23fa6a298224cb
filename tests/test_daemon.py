# SPDX-License-Identifier: MIT
"""`shmserver` from start to end: readiness, signals, draining, side by side, takeover.

Method: real processes.  Requests are held in flight by a store of our own (gate_store.c), which
says when one has arrived and lets it go when told, so nothing depends on time.
"""

import errno
import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import START_S, STOP_S, TOP, ServerProcess, run, start_refused

import shmclient

ServerFactory = Callable[..., ServerProcess]


class Gate:
    """A running server whose requests wait until they are let through."""

    def __init__(self, short_dir: Path, server: ServerFactory, cleanup: ExitStack) -> None:
        self._cleanup = cleanup
        library = short_dir / "gate.so"
        source = TOP / "tests" / "gate_store.c"
        include = TOP / "csrc" / "include"
        run(["cc", "-shared", "-fPIC", f"-I{include}", "-o", library, source])
        self._fds = {}
        for name in ("arrived", "gate"):
            os.mkfifo(short_dir / name)
            self._fds[name] = os.open(short_dir / name, os.O_RDWR)
            cleanup.callback(os.close, self._fds[name])
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        cleanup.callback(self.notices.close)
        self.notices.settimeout(START_S)
        self.notices.bind(str(short_dir / "notify"))
        self._store = ["--store", str(library)]
        for name in self._fds:
            self._store += ["--store-option", f"{name}={short_dir / name}"]
        self._start = server
        self._env = {"NOTIFY_SOCKET": str(short_dir / "notify")}

    def serve(self, *options: str) -> ServerProcess:
        return self._start(*self._store, *options, env=self._env)

    def write_in_flight(self, server: ServerProcess) -> "Future[int]":
        """A write that has reached the store; its result comes when it is let through."""
        volume = shmclient.connect(server.socket).open("vol", writable=True)
        self._cleanup.callback(volume.close)
        threads = self._cleanup.enter_context(ThreadPoolExecutor(1))
        # Should the test fail first, the write must end before the thread is joined.
        self._cleanup.callback(server.kill)
        future = threads.submit(volume.pwrite, b"x" * 4096, 0)
        assert os.read(self._fds["arrived"], 1)
        return future

    def let_through(self) -> None:
        os.write(self._fds["gate"], b"\0")

    def notice(self) -> bytes:
        """What the server tells the service manager next."""
        return self.notices.recv(256)


@pytest.fixture
def gate(short_dir: Path, server: ServerFactory, cleanup: ExitStack) -> Gate:
    return Gate(short_dir, server, cleanup)


# ---- readiness -----------------------------------------------------------------------------------


def test_ready_means_that_clients_can_connect(server):
    # The fixture waits for --ready-fd and nothing else.
    for _ in range(5):
        one = server("--store", "memory")
        shmclient.connect(one.socket).close()


def test_ready_file_has_the_process_id_and_goes_with_it(server, short_dir):
    one = server("--store", "memory", "--ready-file", short_dir / "ready")
    assert (short_dir / "ready").read_text() == f"{one.pid}\n"
    one.stop()
    assert not (short_dir / "ready").exists()


def test_service_manager_is_told_ready_and_stopping(gate):
    one = gate.serve()
    assert gate.notice() == b"READY=1"
    one.stop()
    assert gate.notice() == b"STOPPING=1"


def test_service_manager_on_an_abstract_socket_is_told(server):
    name = f"ovsshm-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.settimeout(START_S)
        notices.bind(f"\0{name}")
        server("--store", "memory", env={"NOTIFY_SOCKET": f"@{name}"})
        assert notices.recv(256) == b"READY=1"


def test_service_manager_that_is_gone_does_no_harm(server, short_dir):
    server("--store", "memory", env={"NOTIFY_SOCKET": str(short_dir / "nobody")})


# ---- signals and draining ----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_an_idle_server_with_0(server, number):
    one = server("--store", "memory")
    one.signal(number)
    assert one.wait() == 0
    assert not one.socket.exists()
    assert f"{signal.Signals(number).name}: requests in flight have 10 s to finish" in one.log


def test_hangup_is_harmless(server):
    one = server("--store", "memory")
    one.signal(signal.SIGHUP)
    one.client("create", "vol", "1M")
    one.stop()
    assert "SIGHUP" in one.log


def test_sigterm_lets_a_request_in_flight_finish(gate):
    one = gate.serve("--drain-timeout", "1h")
    write = gate.write_in_flight(one)
    one.signal(signal.SIGTERM)
    assert [gate.notice(), gate.notice()] == [b"READY=1", b"STOPPING=1"]
    gate.let_through()
    assert write.result(STOP_S) == 4096
    assert one.wait() == 0


def test_request_that_outlasts_the_drain_timeout_ends_with_an_error(gate):
    one = gate.serve("--drain-timeout", "100ms")
    write = gate.write_in_flight(one)
    one.signal(signal.SIGTERM)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        write.result(STOP_S)
    assert caught.value.errno in (errno.ENOTCONN, errno.ESHUTDOWN)
    assert one.wait() == 0
    assert "requests that did not finish in time were dropped" in one.log


def test_second_signal_ends_at_once(gate):
    one = gate.serve("--drain-timeout", "1h")
    write = gate.write_in_flight(one)
    one.signal(signal.SIGTERM)
    assert [gate.notice(), gate.notice()] == [b"READY=1", b"STOPPING=1"]
    one.signal(signal.SIGTERM)
    assert one.wait() == 128 + signal.SIGTERM
    with pytest.raises(OSError) as caught:  # noqa: PT011
        write.result(STOP_S)
    assert caught.value.errno == errno.ENOTCONN


def test_killed_server_ends_waiting_calls_with_an_error(gate):
    one = gate.serve()
    write = gate.write_in_flight(one)
    one.kill()
    with pytest.raises(OSError) as caught:  # noqa: PT011
        write.result(STOP_S)
    assert caught.value.errno == errno.ENOTCONN


# ---- several servers ---------------------------------------------------------------------------


def test_servers_with_different_pools_live_side_by_side(server, tmp_path):
    pools = [tmp_path / name for name in ("a", "b")]
    for one in pools:
        one.mkdir()
    first, second = (server("--pool", one) for one in pools)
    first.client("create", "vol", "1M")
    second.client("create", "vol", "2M")
    assert first.client_json("info", "vol")["size_bytes"] == 1 << 20
    assert second.client_json("info", "vol")["size_bytes"] == 2 << 20
    first.stop()
    assert second.client_json("info", "vol")["size_bytes"] == 2 << 20


def test_pool_may_have_a_name_that_is_not_utf8(server, tmp_path):
    pool = tmp_path / os.fsdecode(b"caf\xe9")
    pool.mkdir()
    server("--pool", pool).client("create", "vol", "1M")


def test_second_server_on_the_pool_is_refused(server, pool, short_dir):
    first = server("--pool", pool)
    result = start_refused(short_dir / "other.sock", "--pool", str(pool))
    assert str(pool) in result
    first.client("create", "vol", "1M")


def test_second_server_on_the_socket_is_refused(server):
    first = server("--store", "memory")
    assert str(first.socket) in start_refused(first.socket, "--store", "memory")
    first.client("create", "vol", "1M")


def test_successor_of_a_killed_server_takes_over_socket_and_pool(server, pool):
    first = server("--pool", pool)
    first.client("create", "vol", "1M")
    with shmclient.connect(first.socket).open("vol", writable=True) as volume:
        volume.pwrite(b"acknowledged", 512)
        first.kill()
    assert first.socket.exists()
    second = server("--pool", pool, socket=first.socket)
    with shmclient.connect(second.socket).open("vol", writable=True) as volume:
        assert volume.pread(12, 512) == b"acknowledged"


# ---- a store of one's own ------------------------------------------------------------------------


def test_store_in_a_shared_object_is_served(gate):
    one = gate.serve()
    assert one.client_json("list")[0]["name"] == "vol"
    write = gate.write_in_flight(one)
    gate.let_through()
    assert write.result(STOP_S) == 4096


def test_its_refusal_reaches_the_user(gate, short_dir):
    message = start_refused(short_dir / "s.sock", "--store", str(short_dir / "gate.so"))
    assert "the options arrived and gate name FIFOs" in message
