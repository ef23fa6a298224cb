# SPDX-License-Identifier: MIT
"""Volumes as disks of a running Linux: data, resize, a full disk, a server that goes away.

Method: tests/guest boots; the host looks at the volume afterwards.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import ServerProcess, run
from guest import Guest

from .tools import MIB, Qemu, made_for

pytestmark = [pytest.mark.qemu, pytest.mark.guest]

LIMIT_S = 240
ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT
DRIVE = "id=disk,file=openvstorage:disk,if=none,cache=none,format=raw,discard=unmap"
ON_MAIN_LOOP = ["-device", "virtio-blk-pci,drive=disk"]
ON_IOTHREAD = ["-object", "iothread,id=io", "-device", "virtio-blk-pci,drive=disk,iothread=io"]

FILES = """
set -e
mkfs.ext4 -q /dev/vda
mount /dev/vda /mnt
for i in 1 2 3; do dd if=/dev/urandom of=/mnt/file$i bs=64k count=$((i * 40)) 2>/dev/null; done
rm /mnt/file2
sync
cd /mnt
sha256sum file1 file3
cd /
umount /mnt
"""


def guest(qemu: Qemu, *arguments: str, drive: str = DRIVE) -> Guest:
    program = qemu.argv("qemu-system-x86_64")
    return Guest(qemu=program, drives=[drive], arguments=arguments, environment=qemu.env)


def copy_of_disk(qemu: Qemu, directory: Path) -> Path:
    image = directory / "disk.raw"
    qemu.img("convert", "-f", "raw", "-O", "raw", "openvstorage:disk", image)
    return image


# ---- data --------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", [ON_MAIN_LOOP, ON_IOTHREAD], ids=["main loop", "iothread"])
def test_guest_writes_files_that_survive_a_server_restart(
    qemu: Qemu, device: list[str], tmp_path: Path
) -> None:
    qemu.create("disk", "256M")
    result = guest(qemu, *device).run(FILES, LIMIT_S)
    assert result.status == 0, result.output
    sums = dict(reversed(line.split()) for line in result.output.splitlines())
    assert sorted(sums) == ["file1", "file3"]

    qemu.server.stop()
    qemu.server.start()
    image = copy_of_disk(qemu, tmp_path)
    run(["/sbin/e2fsck", "-fn", image])
    for name, digest in sums.items():
        run(["/sbin/debugfs", "-R", f"dump /{name} {tmp_path / name}", image])
        assert run(["sha256sum", tmp_path / name]).stdout.split()[0] == digest


def test_guest_discards_free_space(qemu: Qemu) -> None:
    qemu.create("disk", "256M")
    script = """
set -e
mkfs.ext4 -q -E nodiscard /dev/vda
mount /dev/vda /mnt
dd if=/dev/urandom of=/mnt/file bs=1M count=64 2>/dev/null
sync
echo full
read go
rm /mnt/file
sync
fstrim /mnt
umount /mnt
"""
    with guest(qemu, *ON_MAIN_LOOP).start(script, LIMIT_S) as running:
        running.wait_for("full")
        full = qemu.server.client_json("info", "disk")["allocated_bytes"]
        running.send("go")
        result = running.finish()
    assert result.status == 0, result.output
    freed = full - qemu.server.client_json("info", "disk")["allocated_bytes"]
    assert freed >= 60 * MIB


def test_guest_sees_its_disk_grow(qemu: Qemu) -> None:
    qemu.create("disk", "64M")
    script = """
set -e
mkfs.ext4 -q /dev/vda
echo small
until [ $(cat /sys/block/vda/size) -eq 262144 ]; do usleep 10000; done
resize2fs -f /dev/vda
mount /dev/vda /mnt
df -k /mnt
umount /mnt
"""
    with guest(qemu, *ON_MAIN_LOOP).start(script, LIMIT_S) as running:
        running.wait_for("small")
        running.qmp.execute("block_resize", device="disk", size=128 * MIB)
        result = running.finish()
    assert result.status == 0, result.output
    assert qemu.server.client_json("info", "disk")["size_bytes"] == 128 * MIB


@pytest.mark.parametrize("device", [ON_MAIN_LOOP, ON_IOTHREAD], ids=["main loop", "iothread"])
def test_snapshots_come_and_go_under_a_writing_guest(qemu: Qemu, device: list[str]) -> None:
    qemu.create("disk", "64M")
    script = """
set -e
mkfs.ext4 -q /dev/vda
mount /dev/vda /mnt
(while [ ! -e /tmp/stop ]; do dd if=/dev/urandom of=/mnt/f bs=64k count=100 2>/dev/null; done) &
echo writing
read go
touch /tmp/stop
wait
umount /mnt
e2fsck -fn /dev/vda
"""
    with guest(qemu, *device).start(script, LIMIT_S) as running:
        running.wait_for("writing")
        for number in range(3):
            running.qmp.execute("blockdev-snapshot-internal-sync", device="disk", name=f"s{number}")
        running.qmp.execute("query-block")
        running.qmp.execute("blockdev-snapshot-delete-internal-sync", device="disk", name="s1")
        running.send("go")
        result = running.finish()
    assert result.status == 0, result.output
    snapshots = qemu.server.client_json("snapshot", "list", "disk")
    assert [snapshot["name"] for snapshot in snapshots] == ["s0", "s2"]


# ---- a full disk -------------------------------------------------------------------------------


@pytest.fixture
def small_pool(tmp_path: Path, cleanup: ExitStack) -> Path:
    """A file system with little room."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    path = tmp_path / "small"
    path.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", path])
    cleanup.callback(run, ["umount", path])
    return path


@pytest.fixture(params=["stock", "patched"])
def small(
    request: pytest.FixtureRequest, small_pool: Path, server: Callable[..., ServerProcess]
) -> Qemu:
    qemu = made_for(request.param, server("--pool", small_pool))
    qemu.create("disk", "256M")
    return qemu


FILL = """
dd if=/dev/zero bs=1M count=8 2>/dev/null | tr '\\0' 'a' >/tmp/early
dd if=/tmp/early of=/dev/vda bs=1M oflag=direct && echo early written
echo filling
tr '\\0' 'b' </dev/zero | dd of=/dev/vda bs=1M seek=8 count=80 iflag=fullblock oflag=direct
echo "status $?"
dd if=/dev/vda bs=1M count=8 iflag=direct 2>/dev/null | cmp - /tmp/early && echo early intact
"""


def test_full_disk_reaches_the_guest_and_earlier_data_is_intact(small: Qemu) -> None:
    drive = DRIVE + ",werror=report"
    result = guest(small, *ON_MAIN_LOOP, drive=drive).run(FILL, LIMIT_S)
    assert "early written" in result.output
    assert "I/O error" in result.output or "No space left" in result.output, result.output
    assert "status 1" in result.output
    assert "early intact" in result.output


def test_full_disk_pauses_the_guest_until_there_is_room(small: Qemu, small_pool: Path) -> None:
    """QEMU's default for writes: the guest never hears of it."""
    with guest(small, *ON_MAIN_LOOP).start(FILL, LIMIT_S) as running:
        running.wait_for("filling")
        qmp = running.qmp
        while qmp.execute("query-status")["status"] != "io-error":
            pass
        assert qmp.execute("query-block")[0]["io-status"] == "nospace"
        run(["mount", "-o", "remount,size=160m", small_pool])
        qmp.execute("cont")
        result = running.finish()
    assert "status 0" in result.output, result.output
    assert "early intact" in result.output


# ---- a server that goes away -------------------------------------------------------------------


@pytest.mark.parametrize("device", [ON_MAIN_LOOP, ON_IOTHREAD], ids=["main loop", "iothread"])
def test_server_that_dies_is_an_io_error_to_the_guest(qemu: Qemu, device: list[str]) -> None:
    qemu.create("disk", "64M")
    script = """
dd if=/dev/vda of=/dev/null bs=1M count=8 iflag=direct && echo readable
read go
dd if=/dev/vda of=/dev/null bs=1M count=8 iflag=direct
echo "status $?"
"""
    with guest(qemu, *device).start(script, LIMIT_S) as running:
        running.wait_for("readable")
        qemu.server.kill()
        running.send("go")
        result = running.finish()
    assert "status 1" in result.output, result.output


def test_server_that_dies_under_load_leaves_a_guest_that_can_power_off(qemu: Qemu) -> None:
    qemu.create("disk", "64M")
    script = """
for i in 1 2 3 4; do
    (while dd if=/dev/vda of=/dev/null bs=64k count=500 iflag=direct 2>/dev/null; do :; done) &
done
echo loaded
wait
echo ended
"""
    with guest(qemu, *ON_IOTHREAD).start(script, LIMIT_S) as running:
        running.wait_for("loaded")
        while qemu.server.client_json("status")["requests"] < 2000:
            assert os.waitid(os.P_PID, running.pid, ENDED) is None, "QEMU has ended"
        qemu.server.kill()
        result = running.finish()
    assert "ended" in result.output
