# SPDX-License-Identifier: MIT
"""QEMU on the reference server: what is written through one reads back through the other.

The suite for QEMU runs on the C server; this is a cut through it, on each store that keeps data.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ServerProcess

from .test_img import scattered
from .tools import MIB, Qemu, made_for

pytestmark = pytest.mark.qemu


@pytest.fixture(params=["memory", "file"])
def reference(
    request: pytest.FixtureRequest, server: Callable[..., ServerProcess], pool: Path
) -> Qemu:
    options = [
        "--store",
        request.param,
        *(["--pool", str(pool)] if request.param == "file" else []),
    ]
    return made_for("stock", server("--implementation", "reference", *options))


def test_image_survives_the_way_there_and_back(reference: Qemu, tmp_path: Path) -> None:
    source = scattered(tmp_path / "source", 32 * MIB, seed=5)
    name = "openvstorage:dir/vol"
    reference.img("convert", "-f", "raw", "-O", "raw", source, name)
    reference.img("compare", "-f", "raw", "-F", "raw", source, name)
    reference.img("convert", "-f", "raw", "-O", "raw", name, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    info = reference.img_json("info", name)
    assert info["virtual-size"] == 32 * MIB
    assert info["actual-size"] < 16 * MIB
    pieces = reference.img_json("map", name)
    assert {(piece["zero"], piece["data"]) for piece in pieces} == {(True, False), (False, True)}
    assert sum(piece["length"] for piece in pieces) == 32 * MIB


def test_qcow2_in_a_volume_is_sound(reference: Qemu) -> None:
    name = "openvstorage:disk.qcow2"
    reference.img("create", "-q", "-f", "qcow2", name, "16M")
    reference.run("qemu-io", "-f", "qcow2", "-c", "write -P 3 1M 5M", name)
    assert "No errors were found" in reference.img("check", "-f", "qcow2", name).stdout


def test_every_kind_of_request_of_qemu_io(reference: Qemu) -> None:
    name = reference.create("vol", 8 * MIB)
    reference.io(
        name,
        "write -P 1 0 8M",
        "write -P 2 4097 100k",
        "writev -P 3 1M 4k 64k 512 12k",
        "write -z 2M 1M",
        "write -z -u 3M 1M",
        "discard 4M 1M",
        "write -f -P 4 5M 4k",
        "flush",
    )
    reference.io(
        name,
        "read -P 1 0 4097",
        "read -P 2 4097 100k",
        "readv -P 3 1M 512 80k",
        "read -P 0 2M 2M",
        "read -P 4 5M 4k",
        "aio_read -P 1 6M 1M",
    )


def test_bench_keeps_many_requests_in_flight(reference: Qemu) -> None:
    name = reference.create("vol", 8 * MIB)
    for words in (["-d", "32", "-c", "2000"], ["-w", "-d", "8", "-c", "500", "-s", "64k"]):
        done = reference.img("bench", "-f", "raw", "-t", "none", *words, name)
        assert "Run completed" in done.stdout
    status = reference.server.client_json("status")
    assert (status["errors"], status["violations"]) == (0, 0)
    assert status["requests"] >= 2500


def test_snapshots_are_made_used_and_dropped(reference: Qemu) -> None:
    name = reference.create("vol", MIB)
    reference.io(name, "write -P 5 0 64k")
    reference.img("snapshot", "-c", "first", name)
    reference.io(name, "write -P 6 0 64k")
    assert "first" in reference.img("snapshot", "-l", name).stdout
    reference.img("snapshot", "-a", "first", name)
    reference.io(name, "read -P 5 0 64k")
    reference.img("snapshot", "-d", "first", name)
    assert "first" not in reference.img("snapshot", "-l", name).stdout


def test_volume_grows(reference: Qemu) -> None:
    name = reference.create("vol", MIB)
    reference.img("resize", "-f", "raw", name, "+1M")
    assert reference.img_json("info", name)["virtual-size"] == 2 * MIB
    reference.io(name, "write -P 9 1M 1M", "read -P 9 1M 1M", "read -P 0 0 1M")
