# SPDX-License-Identifier: MIT
"""Random operations on a file of the mount, compared after each with a plain file.

Method: the same calls on both, in the manner of fsx, with a fixed number of steps and a seed that
is printed when they differ.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import run
from mounts import Mounted, mount, mount_point, needs_mount

__all__ = ["mount", "mount_point"]
pytestmark = needs_mount

MIB = 1 << 20
SIZE_MAX = 256 * 1024
STEPS = 250


def spread(numbers: random.Random) -> tuple[int, int]:
    """An offset and a length; often near to the edges of blocks and of pages."""
    offset = numbers.randrange(SIZE_MAX) & -numbers.choice([1, 1, 512, 4096])
    length = numbers.choice([1, 511, 512, 4096, numbers.randrange(1, 40000)])
    return offset, length


def step(numbers: random.Random, path: Path) -> object:
    """One operation; its result."""
    offset, length = spread(numbers)
    what = numbers.choice(["write", "write", "append", "truncate", "punch", "zero", "read", "open"])
    fd = os.open(path, os.O_RDWR | (os.O_TRUNC if what == "open" else 0))
    try:
        if what == "write":
            return os.pwrite(fd, numbers.randbytes(length), offset)
        if what == "append":
            os.lseek(fd, 0, os.SEEK_END)
            return os.write(fd, numbers.randbytes(length % 5000 + 1))
        if what == "truncate":
            return os.ftruncate(fd, offset)
        if what == "read":
            return os.pread(fd, length, offset)
        if what in ("punch", "zero"):
            words = ["-p"] if what == "punch" else ["-z"]
            run(["fallocate", *words, "-o", str(offset), "-l", str(length), path])
            return None
        return os.fsync(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("store", ["memory", "file", "file direct"])
@pytest.mark.parametrize("cache", ["none", "writeback"])
def test_file_of_the_mount_is_like_any_other(
    mount: Callable[..., Mounted], tmp_path: Path, store: str, cache: str
) -> None:
    path = mount(store, "--mount-option", f"cache={cache}").path / "f"
    model = tmp_path / "model"
    path.touch()
    model.touch()
    seed = 20261121
    ours, theirs = random.Random(seed), random.Random(seed)
    for number in range(STEPS):
        assert step(ours, path) == step(theirs, model), (seed, number)
        assert path.stat().st_size == model.stat().st_size, (seed, number)
        if number % 10 == 0:
            assert path.read_bytes() == model.read_bytes(), (seed, number)
    assert path.read_bytes() == model.read_bytes()


def fill(fd: int) -> None:
    for number in range(160):
        os.pwrite(fd, b"y" * 100_000, number * 100_000)


def test_full_disk_is_an_error_and_the_rest_stays(
    mount: Callable[..., Mounted], mount_point: Callable[[], Path]
) -> None:
    disk = mount_point()
    run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", disk])
    pool = disk / "pool"
    pool.mkdir()
    path = mount("file", "--pool", str(pool)).path
    (path / "first").write_bytes(b"x" * MIB)
    fd = os.open(path / "second", os.O_RDWR | os.O_CREAT)
    try:
        with pytest.raises(OSError, match="No space left"):
            fill(fd)
        size = os.fstat(fd).st_size
        with pytest.raises(OSError, match="No space left"):
            os.posix_fallocate(fd, size, 8 * MIB)
        assert os.fstat(fd).st_size == size
        assert size % 100_000 == 0
        assert os.pread(fd, 8 * MIB, 0) == b"y" * size
    finally:
        os.close(fd)
    assert (path / "first").read_bytes() == b"x" * MIB
    (path / "second").unlink()
    (path / "third").write_bytes(b"z" * MIB)
