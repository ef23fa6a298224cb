# SPDX-License-Identifier: MIT
"""Whatever Python does to an object of the binding, it does not crash.

Method: tests/object_probe.py, in a process for each class, makes instances past their constructors,
twice, copies them, calls everything with right and wrong arguments, before and after the end.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TOP, run

import shmclient
from shmclient import _native
from shmserver import Server

CLASSES = [name for name, one in vars(_native).items() if isinstance(one, type)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("s") / "s"
    with Server("memory", socket=path):
        yield path


@pytest.fixture
def volume(path: Path) -> Iterator[None]:
    """The volume "vol", whatever a probe has done to it."""
    with shmclient.connect(path) as connection:
        for one in connection.list():
            connection.remove(one.name)
        connection.create("vol", 1 << 20)
        yield


@pytest.mark.parametrize("name", CLASSES)
def test_object_misused_does_not_crash(path, volume, name):
    probe = [sys.executable, TOP / "tests" / "object_probe.py", path, name]
    assert int(run(probe).stdout) > 100


def test_asyncio_volume_without_its_constructor_is_refused():
    from shmclient import aio

    with pytest.raises(TypeError, match="safe"):
        aio.Volume.__new__(aio.Volume)
