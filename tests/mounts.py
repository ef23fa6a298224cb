# SPDX-License-Identifier: MIT
"""What the tests of the mount share: mount points that are free at the end, whatever happens."""

import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import TOP, ServerProcess

import shmclient

needs_mount = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid() != 0,
    reason="mounting needs root and /dev/fuse",
)

STORES = {
    "memory": ["--store", "memory"],
    "file": ["--pool", "POOL"],
    "file direct": ["--pool", "POOL", "--store-option", "direct=on"],
    "python": ["--store", "interop.stores:Full"],
}


class Mounted(NamedTuple):
    """A server with a mount."""

    server: ServerProcess
    path: Path

    def connect(self) -> shmclient.Connection:
        return shmclient.Connection(str(self.server.socket))

    def volumes(self) -> dict[str, int]:
        """As clients see them: name and size."""
        with self.connect() as connection:
            return {info.name: info.size_bytes for info in connection.list()}


def is_mounted(path: Path) -> bool:
    """Also of a dead mount: asks nobody but the kernel."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(path) for line in lines)


def unmount(path: Path) -> None:
    while is_mounted(path):
        subprocess.run(["umount", "-l", "-c", str(path)], timeout=30, check=True)


@pytest.fixture
def mount_point(short_dir: Path, cleanup: ExitStack) -> Callable[[], Path]:
    """Factory of empty directories; nothing stays mounted there."""
    count = 0

    def make() -> Path:
        nonlocal count
        count += 1
        path = short_dir / f"mnt{count}"
        path.mkdir()
        cleanup.callback(unmount, path)
        return path

    return make


@pytest.fixture
def mount(
    server: Callable[..., ServerProcess], mount_point: Callable[[], Path], pool: Path
) -> Callable[..., Mounted]:
    """Factory of servers with a mount: mount("file", "--mount-option", "cache=auto")."""

    def start(store: str, *options: str, **settings: Any) -> Mounted:
        path = mount_point()
        words = [str(pool) if word == "POOL" else word for word in STORES[store]]
        settings.setdefault("env", {"PYTHONPATH": str(TOP / "tests")})
        return Mounted(server(*words, "--mount", str(path), *options, **settings), path)

    return start
