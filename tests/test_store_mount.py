# SPDX-License-Identifier: MIT
"""Stores in Python and C++ under a mount: sizes to the byte, renames, and memory they keep."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TOP, ServerProcess
from mounts import Mounted, mount_point, needs_mount

__all__ = ["mount_point"]
pytestmark = needs_mount

MIB = 1 << 20


@pytest.fixture
def keeping(server: Callable[..., ServerProcess], mount_point: Callable[[], Path]) -> Mounted:
    path = mount_point()
    words = ["--store", "mount_stores:Keeping", "--mount", str(path)]
    return Mounted(server(*words, env={"PYTHONPATH": str(TOP / "tests")}), path)


def test_sizes_are_to_the_byte_and_names_change(keeping: Mounted) -> None:
    path = keeping.path / "vol"
    path.write_bytes(b"hello\n")
    assert path.stat().st_size == 6
    assert keeping.volumes() == {"vol": 0}  # clients have whole sectors
    os.truncate(path, 1000)
    assert path.read_bytes() == b"hello\n" + bytes(994)
    assert keeping.volumes() == {"vol": 512}
    os.truncate(path, 2)
    os.truncate(path, 4)
    assert path.read_bytes() == b"he\0\0"
    other = keeping.path / "other"
    other.write_bytes(b"replaced")
    path.rename(other)
    assert other.read_bytes() == b"he\0\0"
    assert keeping.volumes() == {"other": 0}


def test_memory_that_a_store_keeps_is_its_own(keeping: Mounted) -> None:
    """What is written later, by whatever way, does not come where it looks."""
    fd = os.open(keeping.path / "vol", os.O_CREAT | os.O_RDWR)
    try:
        for turn in range(20):
            assert os.pwrite(fd, bytes([turn]) * 70000, turn * 70000) == 70000
            assert os.pread(fd, 100, turn * 70000) == bytes([turn]) * 100
        os.fsync(fd)
        assert os.pread(fd, MIB, 0) == b"".join(bytes([i]) * 70000 for i in range(20))[:MIB]
    finally:
        os.close(fd)
