# SPDX-License-Identifier: MIT
"""Stores in Python as disks of the stock QEMU, written in each way that a store can be written."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TOP, ServerProcess
from qemu.tools import Qemu, made_for

pytestmark = pytest.mark.qemu

MIB = 1 << 20
KINDS = ["Plain", "Threads", "Deadline", "Async", "Batch", "Full"]


@pytest.fixture(params=KINDS)
def qemu(request: pytest.FixtureRequest, server: Callable[..., ServerProcess]) -> Qemu:
    environment = {"PYTHONPATH": str(TOP / "tests")}
    return made_for("stock", server("--store", f"interop.stores:{request.param}", env=environment))


def test_image_goes_into_a_volume_and_back(qemu: Qemu, tmp_path: Path) -> None:
    numbers = random.Random(5)
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(8 * MIB)
        for _ in range(8):
            file.seek(numbers.randrange(7 * MIB) & ~0xFFF)
            file.write(numbers.randbytes(numbers.randrange(1, 64) * 4096))
    name = qemu.create("dir/vol", 8 * MIB)
    qemu.img("convert", "-n", "-f", "raw", "-O", "raw", source, name)
    qemu.img("compare", "-f", "raw", "-F", "raw", source, name)
    qemu.img("convert", "-f", "raw", "-O", "raw", name, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_requests_in_pieces_and_of_all_kinds(qemu: Qemu) -> None:
    """readv and writev come in several pieces of memory, which a store sees as one."""
    name = qemu.create("vol", 8 * MIB)
    output = qemu.io(
        name,
        *("write -P 1 0 3M", "writev -P 2 1000k 512 1024 4096 65536", "write -f -P 3 511 4099"),
        *("write -z 2M 300k", "write -z -u 2500k 100k", "flush", "discard 5M 1M"),
        *("aio_write -P 4 6M 64k", "aio_write -P 5 7M 64k", "aio_flush"),
        *("read -P 2 1000k 71168", "readv -P 3 511 100 3000 999", "readv -P 1 1100k 4096 4096"),
        *("read -P 0 2M 300k", "read -P 4 6M 64k", "readv -P 5 7M 16k 48k"),
    )
    assert output.count("read ") == 6
