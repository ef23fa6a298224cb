# SPDX-License-Identifier: MIT
"""One server of each kind for a module; a fresh volume name for each test; a pair as parameter."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from interop.client import Connection, Volume
from interop.pairs import Pair, pairs
from interop.servers import SERVERS, Place, Server

MIB = 1 << 20
_numbers = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(feature, ...): of the client, see FEATURES")
    config.addinivalue_line("markers", "servers(trait): only on these, see TRAITS")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `pair` runs for each pair that has what it names."""
    if "pair" in metafunc.fixturenames:
        markers = list(metafunc.definition.iter_markers())
        needs = {word for marker in markers if marker.name == "needs" for word in marker.args}
        traits = {word for marker in markers if marker.name == "servers" for word in marker.args}
        metafunc.parametrize("pair", pairs(needs, traits), ids=str)


class Running:
    """A started server; `kind` says what to expect of it."""

    def __init__(self, name: str, stack: ExitStack) -> None:
        self.kind: Server = SERVERS[name]
        directory = Path(tempfile.mkdtemp(prefix="ovsshm-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        pool = directory / "pool"
        pool.mkdir()
        self.socket = str(directory / "sock")
        self.server = stack.enter_context(self.kind.start(Place(directory / "sock", pool)))


@pytest.fixture(scope="module")
def running() -> Iterator[Callable[[str], Running]]:
    """running("c-file"): the module's server of that kind."""
    with ExitStack() as stack:
        started: dict[str, Running] = {}

        def get(name: str) -> Running:
            if name not in started:
                started[name] = Running(name, stack)
            return started[name]

        yield get


@pytest.fixture
def fresh(cleanup: ExitStack) -> Callable[[str], Running]:
    """fresh("c-file"): a server of this test alone, which it may stop."""
    return lambda name: Running(name, cleanup)


@pytest.fixture
def kind(pair: Pair) -> Server:
    return pair.server


@pytest.fixture
def socket(pair: Pair, running: Callable[[str], Running]) -> str:
    return running(pair.server_name).socket


@pytest.fixture
def connect(pair: Pair, socket: str, cleanup: ExitStack) -> Callable[[], Connection]:
    """A connection of the pair's client; closed at the end."""
    return lambda: cleanup.enter_context(pair.client.connect(socket))


@pytest.fixture
def connection(connect: Callable[[], Connection]) -> Connection:
    return connect()


@pytest.fixture
def name() -> str:
    """A volume name that no other test uses."""
    return f"v{next(_numbers)}"


@pytest.fixture
def make(connection: Connection, name: str, cleanup: ExitStack) -> Callable[..., Volume]:
    """make(size_bytes): a fresh volume, open for writing; closed at the end."""

    def make(size_bytes: int = MIB, **options: Any) -> Volume:
        connection.create(name, size_bytes)
        return cleanup.enter_context(connection.open(name, writable=True, **options))

    return make


@pytest.fixture
def volume(make: Callable[..., Volume]) -> Volume:
    """A fresh volume of 1 MiB, open for writing."""
    return make()


@contextmanager
def refused(number: int | tuple[int, ...]) -> Iterator[None]:
    """What is inside must fail with this errno, or one of these, and say why."""
    with pytest.raises(OSError, match=r".") as caught:
        yield
    numbers = number if isinstance(number, tuple) else (number,)
    assert caught.value.errno in numbers, caught.value
