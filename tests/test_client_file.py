# SPDX-License-Identifier: MIT
"""shmclient.file: a volume as a raw binary file, in the hands of the standard library."""

import errno
import io
import os
import shutil
import tarfile
from contextlib import ExitStack
from pathlib import Path

import pytest

import shmclient
from shmserver import Server

MIB = 1 << 20


@pytest.fixture(params=[1, 4096], ids=["any-block", "4k-blocks"])
def volume(request: pytest.FixtureRequest, short_dir: Path, cleanup: ExitStack) -> shmclient.Volume:
    server = Server(
        "fault", socket=short_dir / "s.sock", options={"block-bytes": str(request.param)}
    )
    cleanup.enter_context(server)
    connection = cleanup.enter_context(shmclient.connect(short_dir / "s.sock"))
    connection.create("vol", MIB)
    volume = cleanup.enter_context(connection.open("vol", writable=True))
    assert volume.limits.block_bytes == request.param
    return volume


def test_copyfileobj_both_ways(volume, tmp_path):
    data = os.urandom(700_001)
    (tmp_path / "in").write_bytes(data)
    with volume.file("w") as file, (tmp_path / "in").open("rb") as source:
        shutil.copyfileobj(source, file, 10_007)
    with volume.file("r") as file, (tmp_path / "out").open("wb") as target:
        shutil.copyfileobj(file, target, 30_011)
    assert (tmp_path / "out").read_bytes() == data + bytes(MIB - len(data))


def test_tarfile_writes_reads_and_lists(volume, tmp_path):
    files = {f"f{number}": os.urandom(1000 * number + 1) for number in range(20)}
    with volume.file() as file, tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with volume.file("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
        found = {member.name: archive.extractfile(member).read() for member in archive}
    assert found == files


def test_buffered_random_behaves_like_a_file(volume, tmp_path):
    """The same steps on a file of the same size end with the same bytes."""
    path = tmp_path / "file"
    path.write_bytes(bytes(volume.size_bytes))

    def steps(file: io.BufferedRandom) -> list[object]:
        seen: list[object] = []
        for number in range(200):
            offset = number * 7919 % (MIB - 5000)
            seen.append(file.seek(offset))
            seen.append(file.write(bytes([number]) * (number * 37 % 5000)))
            seen.append(file.tell())
            seen.append(file.seek(-100, os.SEEK_END))
            seen.append(file.read(70))
            file.seek(offset // 2)
            seen.append(file.read1(3000)[:100])
        file.flush()
        file.seek(0)
        seen.append(file.read())
        return seen

    with path.open("r+b") as file:
        expected = steps(file)
    with io.BufferedRandom(volume.file()) as file:
        assert steps(file) == expected


def test_reads_and_writes_stop_at_the_end(volume):
    with volume.file() as file:
        file.seek(-10, os.SEEK_END)
        assert file.write(b"x" * 20) == 10
        with pytest.raises(OSError, match="end of the volume") as caught:
            file.write(b"x")
        assert caught.value.errno == errno.ENOSPC
        assert file.write(b"") == 0
        assert file.tell() == volume.size_bytes
        assert file.read(5) == b""
        file.seek(-10, os.SEEK_CUR)
        assert file.read() == b"x" * 10
        file.seek(2**62)
        assert file.read() == b""


def test_buffered_writer_at_the_end_is_told_that_there_is_no_space(volume):
    file = io.BufferedWriter(volume.file("w"), 4096)
    file.seek(volume.size_bytes - 512)
    with pytest.raises(OSError, match="end of the volume") as caught:
        file.write(bytes(10_000))
    assert caught.value.errno == errno.ENOSPC
    file.close()
    assert file.raw.closed


def test_truncate_grows_and_never_shrinks(volume):
    with volume.file() as file:
        assert file.truncate(2 * MIB) == volume.size_bytes == 2 * MIB
        file.seek(3 * MIB)
        assert file.truncate() == volume.size_bytes == 3 * MIB
        assert file.truncate(3 * MIB) == 3 * MIB
        with pytest.raises(PermissionError):
            file.truncate(MIB)


def test_modes_are_kept(volume):
    with volume.file("r") as file:
        assert (file.readable(), file.writable(), file.seekable()) == (True, False, True)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
        with pytest.raises(io.UnsupportedOperation):
            file.truncate(2 * MIB)
    with volume.file("w") as file:
        assert (file.readable(), file.writable()) == (False, True)
        with pytest.raises(io.UnsupportedOperation):
            file.read(1)
    with pytest.raises(ValueError, match="mode"):
        volume.file("a")
    with pytest.raises(ValueError, match="whence"), volume.file() as file:
        file.seek(0, 7)
    with pytest.raises(ValueError, match="negative"), volume.file() as file:
        file.seek(-1)
    volume.set_writable(False)
    assert volume.file().mode == "rb"
    with pytest.raises(OSError, match="writing") as caught:
        volume.file("r+")
    assert caught.value.errno == errno.EBADF


def test_closing_a_file_leaves_the_volume_open_and_the_other_way_round(volume):
    file = volume.file()
    file.close()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(1)
    assert volume.pread(4096, 0) == bytes(4096)
    file = volume.file()
    volume.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(1)
    file.close()


def test_wide_elements_are_bytes(volume):
    array = memoryview(bytearray(64)).cast("I")
    with volume.file() as file:
        assert file.write(memoryview(bytes(range(64))).cast("Q")) == 64
        file.seek(0)
        assert file.readinto(array) == 64
    assert array.tobytes() == bytes(range(64))
