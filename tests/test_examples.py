# SPDX-License-Identifier: MIT
"""The programs of examples/, built as their comments say and used as an outsider would."""

import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import START_S, TOP

import shmclient
from shmserver import Server

BUILD = TOP / "build" / "release"
SOURCE = TOP / "examples" / "embed_server.c"
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wstrict-prototypes", "-Werror"]


def flags() -> list[str]:
    environment = {"PKG_CONFIG_PATH": str(BUILD / "pkgconfig"), "PATH": "/usr/bin:/bin"}
    command = ["pkg-config", "--cflags", "--libs", "openvstorage-shm-server"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.split()


@pytest.fixture
def program(short_dir: Path) -> Path:
    target = short_dir / "embed_server"
    command = ["cc", *WARNINGS, SOURCE, "-o", target, *flags(), f"-Wl,-rpath,{BUILD}"]
    subprocess.run(command, check=True, timeout=60)
    return target


@pytest.fixture
def embedded(program: Path, short_dir: Path) -> Iterator[Path]:
    path = short_dir / "n.sock"
    process = subprocess.Popen([program, path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "READY\n"
        yield path
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == 0
        assert not path.exists()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def check_numbers(path: Path) -> None:
    with shmclient.connect(path) as connection:
        assert connection.hello.store == "numbers"
        assert [info.name for info in connection.list()] == ["numbers"]
        with connection.open("numbers") as volume:
            for offset in (0, 8, 4096, (1 << 40) - 65536):
                data = bytearray(65536)
                assert volume.preadinto(data, offset) == len(data)
                numbers = struct.unpack(f"{len(data) // 8}Q", data)
                assert list(numbers) == list(range(offset, offset + len(data), 8))
            assert volume.preadinto(bytearray(4096), 1 << 40) == 0


def test_embedded_server_serves_its_own_store(embedded: Path) -> None:
    check_numbers(embedded)


def test_embedded_server_is_read_only(embedded: Path) -> None:
    with shmclient.connect(embedded) as connection:
        with pytest.raises(OSError, match="cannot write"):
            connection.open("numbers", writable=True)
        with pytest.raises(OSError, match='store "numbers" cannot create volumes'):
            connection.create("more", 512)
        with pytest.raises(FileNotFoundError, match='volume "less" does not exist'):
            connection.open("less")


def test_same_file_is_a_store_for_the_daemon(short_dir: Path) -> None:
    store = short_dir / "numbers.so"
    options = ["-shared", "-fPIC", "-DSTORE_ONLY", f"-I{TOP}/csrc/include"]
    command = ["cc", *WARNINGS, *options, SOURCE, "-o", store]
    subprocess.run(command, check=True, timeout=60)
    path = short_dir / "s.sock"
    with Server(str(store), socket=path):
        check_numbers(path)


def test_missing_argument_is_refused(program: Path) -> None:
    done = subprocess.run([program], capture_output=True, text=True, timeout=START_S)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_socket_that_cannot_be_made_is_named(program: Path) -> None:
    done = subprocess.run(
        [program, "/no/such/dir/s"], capture_output=True, text=True, timeout=START_S
    )
    assert done.returncode == 1
    assert "/no/such/dir/s" in done.stderr
