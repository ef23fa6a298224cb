# SPDX-License-Identifier: MIT
"""qemu-img on volumes: create, info, resize, convert, compare, map, snapshots, formats on top.

Method: each QEMU against a server on a file store; what it says is compared with what the server
says and with plain files.
"""

import os
import random
import re
from pathlib import Path

import pytest

from .tools import MIB, Qemu

pytestmark = pytest.mark.qemu


def scattered(path: Path, size: int, *, seed: int) -> Path:
    """A raw file with data here and there, the rest holes."""
    numbers = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(size)
        for _ in range(20):
            file.seek(numbers.randrange(0, size - MIB) & ~0xFFF)
            file.write(numbers.randbytes(numbers.randrange(1, 64) * 4096))
    return path


# ---- create, info ------------------------------------------------------------------------------


def test_created_volume_has_name_and_size(qemu: Qemu) -> None:
    name = qemu.create("dir/vol", "10M")
    info = qemu.img_json("info", name)
    assert (info["filename"], info["format"]) == (name, "raw")
    assert info["virtual-size"] == 10 * MIB
    assert info["actual-size"] < MIB
    (volume,) = qemu.server.client_json("list")
    assert (volume["name"], volume["size_bytes"]) == ("dir/vol", 10 * MIB)


def test_size_is_rounded_up_to_sectors(qemu: Qemu) -> None:
    name = qemu.create("vol", 1000)
    assert qemu.img_json("info", name)["virtual-size"] == 1024


def test_volume_made_elsewhere_is_found(qemu: Qemu) -> None:
    qemu.server.client("create", "vol", "4M")
    assert qemu.img_json("info", "openvstorage:vol")["virtual-size"] == 4 * MIB


def test_creating_a_volume_that_exists_is_refused_and_keeps_it(qemu: Qemu) -> None:
    name = qemu.create("vol", "1M")
    qemu.io(name, "write -P 7 0 64k")
    assert "cannot create volume: File exists" in qemu.refused("qemu-img", "create", name, "2M")
    assert qemu.img_json("info", name)["virtual-size"] == MIB
    qemu.io(name, "read -P 7 0 64k")


def test_actual_size_counts_what_was_written(qemu: Qemu) -> None:
    name = qemu.create("vol", "64M")
    before = qemu.img_json("info", name)["actual-size"]
    qemu.io(name, "write -P 1 0 4M")
    assert qemu.img_json("info", name)["actual-size"] - before == 4 * MIB


# ---- resize ------------------------------------------------------------------------------------


def test_volume_grows_and_reads_as_zeroes_there(qemu: Qemu) -> None:
    name = qemu.create("vol", "1M")
    qemu.io(name, "write -P 9 0 1M")
    qemu.img("resize", "-f", "raw", name, "+1M")
    assert qemu.img_json("info", name)["virtual-size"] == 2 * MIB
    qemu.io(name, "read -P 9 0 1M", "read -P 0 1M 1M")


def test_shrinking_is_refused_and_keeps_the_size(qemu: Qemu) -> None:
    name = qemu.create("vol", "2M")
    assert "cannot shrink" in qemu.refused(
        "qemu-img", "resize", "-f", "raw", "--shrink", name, "1M"
    )
    assert qemu.img_json("info", name)["virtual-size"] == 2 * MIB


def test_preallocation_is_refused(qemu: Qemu) -> None:
    name = qemu.create("vol", "1M")
    refusal = qemu.refused("qemu-img", "resize", "-f", "raw", "--preallocation=full", name, "2M")
    assert "Unsupported preallocation mode 'full'" in refusal


# ---- convert, map ------------------------------------------------------------------------------


def test_file_goes_into_a_volume_and_back_unchanged_and_sparse(qemu: Qemu, tmp_path: Path) -> None:
    source = scattered(tmp_path / "source", 64 * MIB, seed=1)
    back = tmp_path / "back"
    name = "openvstorage:copy"
    qemu.img("convert", "-f", "raw", "-O", "raw", source, name)
    assert "Images are identical" in qemu.img("compare", source, name).stdout
    qemu.img("convert", "-f", "raw", "-O", "raw", name, back)
    assert back.read_bytes() == source.read_bytes()
    allocated = source.stat().st_blocks * 512
    assert qemu.img_json("info", name)["actual-size"] <= allocated + MIB
    assert back.stat().st_blocks * 512 <= allocated + MIB


def test_converting_to_a_volume_that_exists_needs_n(qemu: Qemu, tmp_path: Path) -> None:
    source = scattered(tmp_path / "source", 8 * MIB, seed=2)
    name = qemu.create("copy", 8 * MIB)
    qemu.io(name, "write -P 255 0 8M")
    words = ["convert", "-f", "raw", "-O", "raw"]
    assert "File exists" in qemu.refused("qemu-img", *words, source, name)
    qemu.img(*words, "-n", source, name)
    assert "Images are identical" in qemu.img("compare", source, name).stdout


def test_many_requests_at_once_and_out_of_order_keep_the_data(qemu: Qemu, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(32 * MIB))
    name = "openvstorage:copy"
    qemu.img("convert", "-m", "16", "-W", "-f", "raw", "-O", "raw", source, name)
    assert "Images are identical" in qemu.img("compare", source, name).stdout


def test_map_tells_data_from_holes(qemu: Qemu) -> None:
    name = qemu.create("vol", "8M")
    qemu.io(name, "write -P 1 1M 2M")
    extents = [(e["start"], e["length"], e["data"]) for e in qemu.img_json("map", name)]
    assert extents == [(0, MIB, False), (MIB, 2 * MIB, True), (3 * MIB, 5 * MIB, False)]


def test_map_of_a_volume_larger_than_one_request(qemu: Qemu) -> None:
    name = qemu.create("vol", "5G")
    (extent,) = qemu.img_json("map", name)
    assert (extent["start"], extent["length"], extent["zero"]) == (0, 5 << 30, True)


# ---- formats on top ----------------------------------------------------------------------------


def test_qcow2_in_a_volume_starts_empty_and_grows(qemu: Qemu) -> None:
    name = "openvstorage:disk.qcow2"
    qemu.img("create", "-q", "-f", "qcow2", name, "64M")
    small = qemu.server.client_json("info", "disk.qcow2")["size_bytes"]
    assert small < 4 * MIB
    pattern = [f"write -P {n} {n * 4}M 1M" for n in range(1, 8)]
    qemu.run("qemu-io", *[w for c in pattern for w in ("-c", c)], name)
    assert qemu.server.client_json("info", "disk.qcow2")["size_bytes"] >= small + 7 * MIB
    checked = [f"read -P {n} {n * 4}M 1M" for n in range(1, 8)] + ["read -P 0 0 4M"]
    seen = qemu.run("qemu-io", *[w for c in checked for w in ("-c", c)], name).stdout
    assert "failed" not in seen
    assert "No errors were found" in qemu.img("check", name).stdout
    assert qemu.img_json("info", name)["virtual-size"] == 64 * MIB


def test_qcow2_overlay_finds_its_backing_volume(qemu: Qemu) -> None:
    qemu.create("pool/base", "4M")
    qemu.io("openvstorage:pool/base", "write -P 5 0 4M")
    overlay = "openvstorage:pool/overlay"
    words = ["create", "-q", "-f", "qcow2", "-F", "raw"]
    qemu.img(*words, "-b", "openvstorage:pool/base", overlay)
    seen = qemu.run("qemu-io", "-c", "write -P 6 1M 1M", "-c", "read -P 5 0 1M", overlay).stdout
    assert "failed" not in seen
    assert qemu.img_json("info", overlay)["backing-filename"] == "openvstorage:pool/base"
    qemu.io("openvstorage:pool/base", "read -P 5 0 4M")


# ---- snapshots ---------------------------------------------------------------------------------


def test_snapshot_is_created_listed_gone_back_to_and_deleted(qemu: Qemu) -> None:
    name = qemu.create("vol", "4M")
    qemu.io(name, "write -P 1 0 1M")
    qemu.img("snapshot", "-c", "first", name)
    qemu.io(name, "write -P 2 0 1M")
    qemu.img("snapshot", "-c", "second", name)
    qemu.io(name, "write -P 3 0 1M")

    listed = qemu.img_json("info", name)["snapshots"]
    assert [s["name"] for s in listed] == ["first", "second"]
    assert all(s["id"] == s["name"] and s["vm-state-size"] == 0 for s in listed)
    assert all(s["date-sec"] > 1_700_000_000 for s in listed)
    assert "second" in qemu.img("snapshot", "-l", name).stdout

    qemu.img("snapshot", "-a", "second", name)
    qemu.io(name, "read -P 2 0 1M", "read -P 0 1M 3M")
    qemu.img("snapshot", "-a", "first", name)
    qemu.io(name, "read -P 1 0 1M")
    assert [s["name"] for s in qemu.img_json("info", name)["snapshots"]] == ["first"]
    qemu.img("snapshot", "-d", "first", name)
    assert qemu.img("snapshot", "-l", name).stdout == ""


def test_more_snapshots_than_one_message_holds_are_listed(qemu: Qemu) -> None:
    name = qemu.create("vol", "1M")
    names = [f"s{n:03}-{'x' * 100}" for n in range(130)]
    for snapshot in names:
        qemu.server.client("snapshot", "create", "vol", snapshot)
    assert [s["name"] for s in qemu.img_json("info", name)["snapshots"]] == names


def test_bad_snapshots_are_refused_by_name(qemu: Qemu) -> None:
    name = qemu.create("vol", "1M")
    qemu.img("snapshot", "-c", "one", name)
    again = qemu.refused("qemu-img", "snapshot", "-c", "one", name)
    assert re.search("cannot create snapshot.*one.*vol.*: File exists", again), again
    absent = qemu.refused("qemu-img", "snapshot", "-a", "absent", name)
    assert re.search("cannot .*absent.*vol.*: No such file or directory", absent), absent
    assert "absent" in qemu.refused("qemu-img", "snapshot", "-d", "absent", name)
    assert "Numerical result out of range" in qemu.refused(
        "qemu-img", "snapshot", "-c", "n" * 128, name
    )
