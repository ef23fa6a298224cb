# SPDX-License-Identifier: MIT
"""A server and a QEMU that talks to it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ServerProcess

from .tools import Qemu, made_for


@pytest.fixture
def vpool(server: Callable[..., ServerProcess], pool: Path) -> ServerProcess:
    """A server on an empty file store."""
    return server("--pool", pool)


@pytest.fixture(params=["stock", "patched"])
def qemu(request: pytest.FixtureRequest, vpool: ServerProcess) -> Qemu:
    """The test runs once for each QEMU."""
    return made_for(request.param, vpool)


@pytest.fixture
def patched(vpool: ServerProcess) -> Qemu:
    return made_for("patched", vpool)
