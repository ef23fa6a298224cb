# SPDX-License-Identifier: MIT
"""import, export, copy, cat and map: what arrives, what is moved for it, and what is refused.

Method: the installed program between files, pipes and real servers; contents are compared through
the binding, and what was moved is counted by the servers.
"""

import json
import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import STOP_S, ServerProcess, client_argv, run

import shmclient

MiB = 1 << 20
GiB = 1 << 30
SLOT = 4 * MiB  # what is moved in a round


@pytest.fixture(params=["file", "memory"])
def vpool(request, server, pool) -> ServerProcess:
    if request.param == "file":
        return server("--pool", pool)
    return server("--store", "memory")


@pytest.fixture
def memory(server: Callable[..., ServerProcess]) -> ServerProcess:
    return server("--store", "memory")


def noise(length: int, seed: int = 1) -> bytes:
    """Bytes that are not zero, different everywhere."""
    words = range(seed << 32 | 1, (seed << 32) + length // 8 + 2)
    return b"".join(word.to_bytes(8, "little") for word in words)[:length]


def fill(at: ServerProcess, name: str, size: int, parts: dict[int, bytes]) -> None:
    """A volume with data at some offsets."""
    with shmclient.connect(at.socket) as connection:
        connection.create(name, size)
        with connection.open(name, writable=True) as volume:
            for offset, data in parts.items():
                volume.pwrite(data, offset)


def content(at: ServerProcess, name: str) -> bytes:
    with shmclient.connect(at.socket) as connection, connection.open(name) as volume:
        return volume.pread(volume.size_bytes, 0)


def image(path: Path, size: int, parts: dict[int, bytes]) -> bytes:
    """A sparse file, and what it holds."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in parts.items():
            file.seek(offset)
            file.write(data)
    return path.read_bytes()


def counters(at: ServerProcess) -> tuple[int, int]:
    status = at.client_json("status")
    return status["read_bytes"], status["written_bytes"]


def moved(at: ServerProcess, before: tuple[int, int]) -> tuple[int, int]:
    """Bytes read and written since."""
    now = counters(at)
    return now[0] - before[0], now[1] - before[1]


def names(at: ServerProcess) -> list[str]:
    return [one["name"] for one in at.client_json("list")]


def failed(at: ServerProcess, *words: str, **options: Any) -> str:
    result = at.client(*words, check=False, **options)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert "shmclient: error: " in result.stderr
    return result.stderr


def piped(at: ServerProcess, data: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        client_argv(at.socket, *words), input=data, capture_output=True, timeout=60
    )


# Data that touches the borders of requests, slots and sectors.
PARTS = {
    0: noise(512),
    3 * MiB + 512: noise(2 * MiB),
    9 * MiB: noise(1000),
    12 * MiB - 512: b"e" * 512,
}


# ---- import ------------------------------------------------------------------------------------


def test_import_makes_a_volume_that_is_as_sparse_as_the_file(vpool, tmp_path):
    expected = image(tmp_path / "image", 64 * MiB, {8 * MiB: noise(2 * MiB)})
    summary = vpool.client_json("import", str(tmp_path / "image"), "vol")
    assert summary.pop("duration_ns") > 0
    assert summary == {
        "source": str(tmp_path / "image"),
        "target": "vol",
        "size_bytes": 64 * MiB,
        "data_bytes": 2 * MiB,
    }
    assert vpool.client_json("status")["written_bytes"] == 2 * MiB
    assert vpool.client_json("info", "vol")["allocated_bytes"] == 2 * MiB
    assert content(vpool, "vol") == expected


def test_import_keeps_every_byte(memory, tmp_path):
    expected = image(tmp_path / "image", 12 * MiB, PARTS)
    memory.client("import", str(tmp_path / "image"), "vol")
    assert content(memory, "vol") == expected


@pytest.mark.parametrize("size", [1, 511, 513, SLOT - 1, SLOT + 1000, 2 * SLOT + 1000])
def test_import_pads_to_full_sectors_and_says_so(memory, tmp_path, size):
    data = noise(size)
    (tmp_path / "image").write_bytes(data)
    padded = data + bytes(-size % 512)
    for words, source in (
        (("import", str(tmp_path / "image"), "a"), b""),
        (("import", "-", "b"), data),
    ):
        result = piped(memory, source, *words)
        assert result.returncode == 0
        assert f"{-size % 512} zero bytes were added".encode() in result.stderr
        assert content(memory, words[2]) == padded


@pytest.mark.parametrize("tail", [0, 100])
def test_import_of_a_file_that_ends_in_a_hole(memory, tmp_path, tail):
    expected = image(tmp_path / "image", 5 * MiB + tail, {0: noise(MiB)})
    summary = memory.client_json("import", str(tmp_path / "image"), "vol")
    assert summary["size_bytes"] == len(expected) + -tail % 512
    assert content(memory, "vol") == expected + bytes(-tail % 512)


@pytest.mark.parametrize("size", [512, SLOT, 2 * SLOT + 512])
def test_import_of_a_pipe_is_as_long_as_what_comes(vpool, size):
    data = noise(size)
    assert piped(vpool, data, "import", "-", "vol").stderr == b""
    assert content(vpool, "vol") == data


def test_import_of_a_pipe_leaves_out_zeroes(memory):
    data = noise(MiB) + bytes(40 * MiB) + noise(4096) + bytes(8192) + noise(4096) + bytes(5 * MiB)
    assert piped(memory, data, "import", "-", "vol").returncode == 0
    assert content(memory, "vol") == data
    assert memory.client_json("status")["written_bytes"] == MiB + 8192


def test_import_of_a_pipe_that_trickles(memory, cleanup: ExitStack):
    """Writes of odd lengths: none of the reads gets what it asks for."""
    data = noise(MiB)
    importing = subprocess.Popen(
        client_argv(memory.socket, "import", "-", "vol"), stdin=subprocess.PIPE, bufsize=0
    )
    cleanup.callback(importing.kill)
    assert importing.stdin is not None
    position, length = 0, 1
    while position < len(data):
        position += importing.stdin.write(data[position : position + length])
        length = length * 3 % 65521
    importing.stdin.close()
    assert importing.wait(STOP_S) == 0
    assert content(memory, "vol") == data


def test_import_of_a_fifo(memory, tmp_path, cleanup: ExitStack):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    importing = subprocess.Popen(client_argv(memory.socket, "import", str(fifo), "vol"))
    cleanup.callback(importing.kill)
    fifo.write_bytes(noise(MiB))
    assert importing.wait(STOP_S) == 0
    assert content(memory, "vol") == noise(MiB)


def test_import_into_a_larger_volume(memory, tmp_path):
    (tmp_path / "image").write_bytes(noise(MiB))
    memory.client("import", str(tmp_path / "image"), "vol", "--size", "3M")
    assert content(memory, "vol") == noise(MiB) + bytes(2 * MiB)
    assert "more than" in failed(
        memory, "import", str(tmp_path / "image"), "other", "--size", "512K"
    )
    assert (
        "more than"
        in piped(memory, noise(MiB), "import", "-", "other", "--size", "512K").stderr.decode()
    )
    assert names(memory) == ["vol"]


def test_import_replaces_what_is_there_only_when_told(vpool, tmp_path):
    old = {0: noise(MiB, 7), 5 * MiB: noise(3 * MiB, 8)}
    fill(vpool, "vol", 10 * MiB, old)
    before = content(vpool, "vol")
    expected = image(tmp_path / "image", 6 * MiB, {2 * MiB: noise(MiB)})
    words = ("import", str(tmp_path / "image"), "vol")
    assert "--overwrite" in failed(vpool, *words)
    assert content(vpool, "vol") == before
    counted = counters(vpool)
    vpool.client(*words, "--overwrite")
    assert content(vpool, "vol") == expected + bytes(4 * MiB)
    assert moved(vpool, counted)[1] == MiB  # what became zero was not moved


def test_import_takes_a_volume_that_is_empty(vpool, tmp_path):
    expected = image(tmp_path / "image", 2 * MiB, {MiB: noise(4096)})
    vpool.client("create", "vol", "4M")
    assert "--size" in failed(vpool, "import", str(tmp_path / "image"), "vol", "--size", "2M")
    vpool.client("import", str(tmp_path / "image"), "vol")
    assert content(vpool, "vol") == expected + bytes(2 * MiB)


def test_import_into_a_smaller_volume_is_refused(vpool, tmp_path):
    (tmp_path / "image").write_bytes(noise(2 * MiB))
    vpool.client("create", "vol", "1M")
    assert "resize" in failed(vpool, "import", str(tmp_path / "image"), "vol", "--overwrite")
    assert content(vpool, "vol") == bytes(MiB)


def test_import_of_nothing_is_refused(memory, tmp_path):
    (tmp_path / "empty").touch()
    assert "is empty" in failed(memory, "import", str(tmp_path / "empty"), "vol")
    assert "is empty" in piped(memory, b"", "import", "-", "vol").stderr.decode()
    assert names(memory) == []


def test_import_of_what_cannot_be_read_is_refused(memory, tmp_path):
    for path, cause in ((tmp_path / "none", "No such file"), (tmp_path, "directory")):
        assert cause in failed(memory, "import", str(path), "vol")
    assert names(memory) == []


def test_import_into_a_volume_that_is_in_use_is_refused(memory, tmp_path):
    (tmp_path / "image").write_bytes(noise(MiB))
    memory.client("create", "vol", "1M")
    with (
        shmclient.connect(memory.socket) as connection,
        connection.open("vol", writable=True),
    ):
        assert "open" in failed(memory, "import", str(tmp_path / "image"), "vol")
    assert names(memory) == ["vol"]


# ---- export ------------------------------------------------------------------------------------


def test_export_makes_a_sparse_file(vpool, tmp_path):
    fill(vpool, "vol", 64 * MiB, {16 * MiB: noise(MiB)})
    counted = counters(vpool)
    summary = vpool.client_json("export", "vol", str(tmp_path / "image"))
    assert (summary["size_bytes"], summary["data_bytes"]) == (64 * MiB, MiB)
    assert moved(vpool, counted) == (MiB, 0)
    assert (tmp_path / "image").read_bytes() == content(vpool, "vol")
    assert (tmp_path / "image").stat().st_blocks * 512 < 2 * MiB


def test_export_keeps_every_byte(memory, tmp_path):
    fill(memory, "vol", 12 * MiB, PARTS)
    expected = content(memory, "vol")
    memory.client("export", "vol", str(tmp_path / "image"))
    assert (tmp_path / "image").read_bytes() == expected
    result = piped(memory, b"", "export", "vol", "-")
    assert (result.stdout, result.stderr, result.returncode) == (expected, b"", 0)


def test_export_replaces_what_is_there_only_when_told(memory, tmp_path):
    fill(memory, "vol", 2 * MiB, {MiB: noise(MiB)})
    path = tmp_path / "image"
    path.write_bytes(noise(5 * MiB, 9))
    assert "--overwrite" in failed(memory, "export", "vol", str(path))
    assert path.read_bytes() == noise(5 * MiB, 9)
    memory.client("export", "vol", str(path), "--overwrite")
    assert path.read_bytes() == content(memory, "vol")


def test_export_into_a_pipe_with_a_name(memory, tmp_path, cleanup: ExitStack):
    fill(memory, "vol", MiB, {0: noise(4096)})
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    exporting = subprocess.Popen(client_argv(memory.socket, "export", "vol", str(fifo)))
    cleanup.callback(exporting.kill)
    assert fifo.read_bytes() == content(memory, "vol")
    assert exporting.wait(STOP_S) == 0


def test_export_without_room_takes_the_file_away(memory, tmp_path):
    """The limit of a process stands for a full disk."""
    fill(memory, "vol", 20 * MiB, {0: noise(20 * MiB)})
    path = tmp_path / "image"
    limited = ["prlimit", f"--fsize={10 * MiB}", *client_argv(memory.socket)]
    result = run([*limited, "export", "vol", str(path)], check=False)
    assert result.returncode == 1
    assert "File too large" in result.stderr
    assert "removing the unfinished" in result.stderr
    assert not path.exists()


def test_export_to_a_full_device_fails(memory):
    fill(memory, "vol", MiB, {0: noise(MiB)})
    assert "No space left" in failed(memory, "export", "vol", "/dev/full")


# ---- copy --------------------------------------------------------------------------------------


def test_copy_moves_the_data_and_not_the_size(server):
    """10 GiB with 256 MiB of data, the figure to reach: counted by the servers, to the byte."""
    source, target = server("--store", "memory"), server("--store", "memory")
    piece = noise(8 * MiB)
    fill(source, "vol", 10 * GiB, {i * 320 * MiB: piece for i in range(32)})
    from_before, to_before = counters(source), counters(target)
    summary = source.client_json("copy", "vol", "twin", "--to-socket", str(target.socket))
    assert (summary["size_bytes"], summary["data_bytes"]) == (10 * GiB, 256 * MiB)
    assert moved(source, from_before) == (256 * MiB, 0)
    assert moved(target, to_before) == (0, 256 * MiB)
    info = target.client_json("info", "twin")
    assert (info["size_bytes"], info["allocated_bytes"]) == (10 * GiB, 256 * MiB)
    with shmclient.connect(target.socket) as connection, connection.open("twin") as volume:
        for i in range(32):
            assert volume.pread(len(piece), i * 320 * MiB) == piece


def test_copy_keeps_every_byte(vpool):
    fill(vpool, "vol", 12 * MiB, PARTS)
    vpool.client("copy", "vol", "dir/twin")
    assert content(vpool, "dir/twin") == content(vpool, "vol")


def test_copy_over_old_data_makes_holes_where_the_source_has_them(vpool):
    fill(vpool, "vol", 16 * MiB, {2 * MiB: noise(MiB)})
    fill(vpool, "old", 32 * MiB, {0: noise(4 * MiB, 3), 20 * MiB: noise(4 * MiB, 4)})
    assert "--overwrite" in failed(vpool, "copy", "vol", "old")
    counted = counters(vpool)
    vpool.client("copy", "vol", "old", "--overwrite")
    assert moved(vpool, counted)[1] == MiB
    assert vpool.client_json("info", "old")["allocated_bytes"] == MiB
    assert content(vpool, "old") == content(vpool, "vol") + bytes(16 * MiB)


@pytest.mark.parametrize(
    "options",
    [
        ("without=block-status",),
        ("without=write-zeroes",),
        ("without=block-status,write-zeroes,discard",),
        ("block-bytes=4096",),
        ("block-bytes=65536",),
    ],
)
def test_copy_to_a_store_that_can_less(server, memory, options):
    """Neither holes that cannot be asked for, nor zeroes, nor alignment make a difference."""
    words = [word for option in options for word in ("--store-option", option)]
    target = server("--store", "fault", *words)
    fill(memory, "vol", 16 * MiB, {512: noise(512), 3 * MiB + 1024: noise(2 * MiB)})
    aligned = {0: noise(2 * MiB, 5), 10 * MiB: noise(MiB, 6)}
    fill(target, "old", 16 * MiB, aligned)
    for name in ("new", "old"):
        memory.client("copy", "vol", name, "--overwrite", "--to-socket", str(target.socket))
        assert content(target, name) == content(memory, "vol")


@pytest.fixture(params=[4096, 65536])
def blocks(request, server) -> tuple[ServerProcess, int]:
    """A server whose store takes whole blocks only, and their size."""
    option = f"block-bytes={request.param}"
    return server("--store", "fault", "--store-option", option), request.param


@pytest.mark.parametrize("size", [512, SLOT + 1536, 3 * MiB - 700])
@pytest.mark.parametrize("last", [b"e", b"\0"])
def test_import_rounds_up_to_whole_blocks_and_says_so(blocks, tmp_path, size, last):
    target, block = blocks
    data = noise(size - 1) + last
    padded = data + bytes(-size % block)
    (tmp_path / "image").write_bytes(data)
    for words, source in (
        (("import", str(tmp_path / "image"), "file"), b""),
        (("import", "-", "pipe"), data),
        (("import", str(tmp_path / "image"), "sized", "--size", str(size + -size % 512)), b""),
    ):
        result = piped(target, source, *words)
        assert result.returncode == 0, result.stderr
        assert content(target, words[2]) == padded
        told = f"{-size % block} zero bytes" if source else f"it has {len(padded)} bytes"
        assert told in result.stderr.decode()


@pytest.mark.parametrize("size", [MiB + 512, 5 * MiB - 512])
def test_copy_to_blocks_and_back_is_exact(blocks, memory, size):
    target, block = blocks
    for name, parts in (
        ("full", {0: noise(size)}),
        ("sparse", {MiB: noise(512)}),
        ("empty", {}),
    ):
        fill(memory, name, size, parts)
        expected = content(memory, name)
        result = memory.client("copy", name, name, "--to-socket", str(target.socket))
        assert f"it has {size + -size % block} bytes" in result.stderr
        assert content(target, name) == expected + bytes(-size % block)
        target.client("copy", name, f"back/{name}", "--to-socket", str(memory.socket))
        assert content(memory, f"back/{name}") == expected + bytes(-size % block)


def test_volume_that_ends_within_a_block_is_read_to_its_end(server, memory, tmp_path):
    """As it may be left by somebody who serves the pool without direct I/O."""
    pool = tmp_path / "pool"
    pool.mkdir()
    size = MiB + 1536
    expected = image(pool / "vol", size, {0: noise(4096), MiB - 512: noise(2048)})
    image(pool / "holes", size, {0: noise(512)})
    options = ["inner=file", "block-bytes=4096"]
    words = [word for option in options for word in ("--store-option", option)]
    source = server("--store", "fault", "--pool", pool, *words)
    for name in ("vol", "holes"):
        source.client("export", name, str(tmp_path / name))
        assert (tmp_path / name).read_bytes() == (pool / name).read_bytes()
        source.client("copy", name, name, "--to-socket", str(memory.socket))
        assert content(memory, name) == (pool / name).read_bytes()
        source.client("map", name)
    result = piped(source, b"", "cat", "vol", "--offset", "100", "--length", "2M")
    assert (result.stdout, result.stderr) == (expected[100:], b"")
    # Its end cannot be written.
    refused = failed(source, "import", str(tmp_path / "vol"), "vol", "--overwrite")
    assert f"`shmclient resize` to {MiB + 4096}" in refused
    assert (pool / "vol").read_bytes() == expected


def test_store_with_blocks_that_cannot_resize_wants_a_size(server, tmp_path):
    words = ["--store-option", "block-bytes=4096", "--store-option", "without=resize"]
    target = server("--store", "fault", *words)
    (tmp_path / "image").write_bytes(noise(5120))
    refused = failed(target, "import", str(tmp_path / "image"), "vol")
    assert "whole blocks of 4 KiB, 8192 bytes; give it that --size" in refused
    assert names(target) == []
    target.client("import", str(tmp_path / "image"), "vol", "--size", "8192")
    assert content(target, "vol") == noise(5120) + bytes(3072)


def test_copy_from_a_store_that_does_not_know_its_holes(server, memory):
    source = server("--store", "fault", "--store-option", "without=block-status")
    fill(source, "vol", 16 * MiB, {MiB: noise(MiB)})
    source.client("copy", "vol", "twin", "--to-socket", str(memory.socket))
    assert memory.client_json("info", "twin")["allocated_bytes"] == MiB
    assert content(memory, "twin") == content(source, "vol")


def test_copy_to_itself_is_refused(memory, short_dir):
    fill(memory, "vol", MiB, {0: noise(512)})
    (short_dir / "link").symlink_to(memory.socket)
    for socket in (memory.socket, short_dir / "link"):
        message = failed(memory, "copy", "vol", "vol", "--overwrite", "--to-socket", str(socket))
        assert "to itself" in message
    assert content(memory, "vol")[:512] == noise(512)


def test_copy_of_what_is_missing_leaves_nothing(memory):
    assert '"none" does not exist' in failed(memory, "copy", "none", "twin")
    assert names(memory) == []


def test_copy_of_a_volume_that_is_written_warns(memory):
    memory.client("create", "vol", "1M")
    with (
        shmclient.connect(memory.socket) as connection,
        connection.open("vol", writable=True),
    ):
        assert "open for writing" in memory.client("copy", "vol", "twin").stderr
    assert memory.client("copy", "vol", "other").stderr == ""


# ---- cat, map ----------------------------------------------------------------------------------


def test_cat_writes_what_is_asked_for(memory):
    fill(memory, "vol", 12 * MiB, PARTS)
    expected = content(memory, "vol")
    for words, part in (
        ((), expected),
        (("--offset", "100"), expected[100:]),
        (("--offset", "3M", "--length", "1000"), expected[3 * MiB :][:1000]),
        (("--length", "1T"), expected),
        (("--offset", "12M"), b""),
    ):
        result = piped(memory, b"", "cat", "vol", *words)
        assert (result.returncode, result.stderr) == (0, b"")
        assert result.stdout == part
    assert "bytes only" in failed(memory, "cat", "vol", "--offset", "13M")


def test_cat_keeps_standard_output_for_the_data(memory):
    fill(memory, "vol", MiB, {0: noise(4096)})
    result = piped(memory, b"", "--json", "cat", "vol", "--length", "8K")
    assert result.stdout == noise(4096) + bytes(4096)
    assert json.loads(result.stderr)["size_bytes"] == 8192


def test_full_disk_behind_standard_output_is_one_line(memory):
    fill(memory, "vol", MiB, {0: noise(MiB)})
    for words in (("cat", "vol"), ("list",)):
        with Path("/dev/full").open("wb") as full:
            result = subprocess.run(
                client_argv(memory.socket, *words), stdout=full, stderr=subprocess.PIPE, timeout=60
            )
        assert result.returncode == 1
        assert result.stderr.startswith(b"shmclient: error: ")
        assert result.stderr.count(b"\n") == 1
        assert b"No space left on device" in result.stderr


def test_copy_with_little_shared_memory(server):
    small = server("--store", "memory", "--arena-max", "64K", "--request-max", "4K")
    fill(small, "vol", MiB, {0: noise(MiB // 2)})
    small.client("copy", "vol", "twin")
    assert content(small, "twin") == content(small, "vol")


def test_reader_that_has_had_enough_is_no_error_worth_a_word(memory, cleanup: ExitStack):
    fill(memory, "vol", 64 * MiB, {0: noise(MiB) * 64})
    for words in (("cat", "vol"), ("export", "vol", "-")):
        process = cleanup.enter_context(
            subprocess.Popen(
                client_argv(memory.socket, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        )
        cleanup.callback(process.kill)
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10) == noise(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(STOP_S) == 1


def test_map_shows_where_data_is(vpool):
    fill(vpool, "vol", GiB, {256 * MiB: noise(MiB)})
    extents = vpool.client_json("map", "vol")
    assert [
        (one["offset_bytes"], one["length_bytes"], one["hole"], one["zero"]) for one in extents
    ] == [
        (0, 256 * MiB, True, True),
        (256 * MiB, MiB, False, False),
        (257 * MiB, GiB - 257 * MiB, True, True),
    ]
    heading, *lines = vpool.client("map", "vol").stdout.splitlines()
    assert heading.split() == ["OFFSET", "LENGTH", "CONTENT"]
    assert [line.split()[2] for line in lines] == ["hole", "data", "hole"]


def test_map_of_a_part(memory):
    fill(memory, "vol", 8 * MiB, {4 * MiB: noise(MiB)})
    extents = memory.client_json("map", "vol", "--offset", "3M", "--length", "1536K")
    assert [(one["offset_bytes"], one["length_bytes"]) for one in extents] == [
        (3 * MiB, MiB),
        (4 * MiB, MiB // 2),
    ]
    assert "bytes only" in failed(memory, "map", "vol", "--offset", "9M")


def test_map_of_a_store_that_does_not_know_is_refused(server):
    blind = server("--store", "fault", "--store-option", "without=block-status")
    blind.client("create", "vol", "1M")
    assert failed(blind, "map", "vol")
