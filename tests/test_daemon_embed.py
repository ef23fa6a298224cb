# SPDX-License-Identifier: MIT
"""shmserver.Server: the server inside a Python program."""

import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import START_S

import shmclient
from shmserver import Server, stores


@pytest.fixture
def path(short_dir: Path) -> Path:
    return short_dir / "s.sock"


def test_context_serves_and_closes(path):
    with Server("memory", socket=path) as server:
        assert server.socket == str(path)
        with shmclient.connect(path) as connection:
            connection.create("vol", 1 << 20)
            with connection.open("vol", writable=True) as volume:
                assert volume.pwrite(b"x" * 512, 0) == 512
            assert connection.hello.store == "memory"
        assert server.status()["written_bytes"] == 512
    assert not path.exists()


def test_two_servers_in_one_process_are_apart(short_dir):
    paths = [short_dir / name for name in ("a", "b")]
    with Server("memory", socket=paths[0]), Server("memory", socket=paths[1]):
        with shmclient.connect(paths[0]) as first:
            first.create("vol", 512)
        with shmclient.connect(paths[1]) as second:
            assert second.list() == []


def test_limits_are_what_clients_are_told(path):
    wanted = {"depth_max": 8, "queues_max": 2, "request_bytes_max": 65536}
    with Server("null", socket=path, arena_bytes_max=1 << 20, **wanted) as server:
        assert wanted.items() <= server.limits.items()
        with shmclient.connect(path) as connection:
            hello = connection.hello._asdict()
        assert wanted.items() <= hello.items()
        assert hello["arena_bytes_max"] == 1 << 20


def test_stop_again_and_use_after_close_are_harmless(path):
    server = Server("null", socket=path)
    server.start()
    assert server.stop() is True
    assert server.stop() is True
    server.close()
    with pytest.raises(ValueError, match="closed"):
        server.status()
    with pytest.raises(ValueError, match="closed"):
        server.start()


def test_server_that_never_started_leaves_no_socket(path):
    Server("null", socket=path).close()
    assert not path.exists()


def test_refusals_are_os_errors_with_reasons(path, tmp_path):
    with pytest.raises(OSError, match="no store"):
        Server("bogus", socket=path)
    with pytest.raises(OSError, match="absent"):
        Server("file", pool=tmp_path / "absent", socket=path)
    with Server("null", socket=path), pytest.raises(OSError, match=r"another server"):
        Server("null", socket=path)


def test_stores_describe_themselves():
    known = {name: summary for name, summary, _ in stores()}
    assert {"file", "memory", "null", "fault"} <= known.keys()
    assert all(known.values())


def test_log_of_the_core_goes_to_logging(path, caplog):
    with (
        caplog.at_level(logging.DEBUG, "shmserver"),
        Server("null", socket=path),
        shmclient.connect(path),
    ):
        pass
    assert {record.name for record in caplog.records} == {"shmserver"}


def test_requests_do_not_wait_for_python(path):
    """The server's process sits in a C call that never gives the GIL back."""
    code = (
        "import ctypes, sys\n"
        "from shmserver import Server\n"
        "server = Server('memory', socket=sys.argv[1])\n"
        "server.start()\n"
        "print(flush=True)\n"
        "ctypes.PyDLL(None).pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            with shmclient.connect(path) as connection:
                connection.create("vol", 1 << 20)
                with connection.open("vol", writable=True) as volume:
                    for offset in range(0, 1 << 20, 65536):
                        volume.pwrite(b"data" * 1024, offset)
                        assert volume.pread(4096, offset) == b"data" * 1024
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(START_S)


def test_program_that_forgets_to_close_still_ends(path):
    code = (
        "import sys, shmserver\n"
        "server = shmserver.Server('memory', socket=sys.argv[1])\n"
        "server.start()\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], timeout=60, check=False)
    assert result.returncode == 0
    assert not path.exists()
