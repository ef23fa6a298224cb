# SPDX-License-Identifier: MIT
"""Volumes in a running QEMU: QMP's block commands, iothreads, migration, a server that goes away.

Method: qemu-storage-daemon, or a machine that never starts its CPU, told what to do by QMP.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from guest.qmp import QmpError

from .tools import MIB, Daemon, Qemu

pytestmark = pytest.mark.qemu

NODE = {"driver": "openvstorage", "node_name": "disk", "volume": "vol"}


@contextmanager
def machine(qemu: Qemu, *words: str) -> Iterator[Daemon]:
    """A stopped machine with the volume as its disk."""
    drive = "if=none,id=disk,file=openvstorage:vol,format=raw,cache=none"
    common = ["-accel", "tcg", "-machine", "q35", "-nodefaults", "-display", "none", "-S"]
    device = ["-drive", drive, "-device", "virtio-blk-pci,drive=disk,id=device"]
    with qemu.daemon(*common, *device, *words, program="qemu-system-x86_64") as started:
        yield started


def hmp(machine: Daemon, command: str) -> str:
    return str(machine.execute("human-monitor-command", command_line=command))


def users(qemu: Qemu) -> tuple[int, int]:
    info = qemu.server.client_json("info", "vol")
    return info["writers"], info["readers"]


# ---- blockdev, patched only --------------------------------------------------------------------


def test_node_is_added_used_and_deleted(patched: Qemu) -> None:
    patched.create("vol", "4M")
    with patched.daemon() as daemon:
        daemon.execute("blockdev-add", **NODE, read_only=False)
        assert users(patched) == (1, 0)
        (node,) = daemon.execute("query-named-block-nodes")
        assert node["file"] == "openvstorage:vol"
        assert node["image"]["virtual-size"] == 4 * MIB
        daemon.execute("blockdev-del", node_name="disk")
        assert users(patched) == (0, 0)
        daemon.quit()


def test_options_of_a_node_are_checked_by_name(patched: Qemu) -> None:
    patched.create("vol", "4M")
    with patched.daemon() as daemon:
        for options, refusal in [
            ({"transport": "tcp"}, "transport"),
            ({"snapshot_timeout": -1}, "snapshot-timeout"),
            ({"colour": "red"}, "colour"),
            ({"volume": "nope"}, "cannot open volume 'nope': .*No such file or directory"),
            ({"socket": "/nowhere/sock"}, "/nowhere/sock"),
        ]:
            with pytest.raises(QmpError, match=refusal):
                daemon.execute("blockdev-add", **(NODE | options))
        daemon.execute("blockdev-add", **NODE, transport="shm", snapshot_timeout=0)
        (node,) = daemon.execute("query-named-block-nodes")
        assert node["file"] == "openvstorage:vol:snapshot-timeout=0"
        daemon.quit()


def test_volume_is_created_by_a_job(patched: Qemu) -> None:
    new = {"driver": "openvstorage", "size": 1000, "location": {"volume": "dir/new"}}
    with patched.daemon() as daemon:
        assert daemon.job("blockdev-create", "one", options=new) is None
        assert patched.server.client_json("info", "dir/new")["size_bytes"] == 1024
        error = daemon.job("blockdev-create", "two", options=new)
        assert error
        assert "cannot create volume: File exists" in error
        daemon.quit()


def test_node_is_reopened_by_qmp(patched: Qemu) -> None:
    patched.create("vol", "4M")
    with patched.daemon() as daemon:
        daemon.execute("blockdev-add", **NODE)
        options = {"driver": "openvstorage", "node-name": "disk", "volume": "vol"}
        daemon.execute("blockdev-reopen", options=[options | {"read-only": True}])
        assert users(patched) == (0, 1)
        daemon.execute("blockdev-reopen", options=[options | {"read-only": False}])
        assert users(patched) == (1, 0)
        daemon.quit()


@pytest.mark.skipif(not os.access("/dev/fuse", os.W_OK), reason="no access to /dev/fuse")
def test_iothread_serves_and_nodes_move_between_threads(patched: Qemu, tmp_path: Path) -> None:
    """Through FUSE exports: with NBD in an iothread QEMU 7.2 aborts when a client leaves."""
    patched.create("vol", "16M")
    file = tmp_path / "exported"
    file.touch()
    with patched.daemon("--object", "iothread,id=thread,poll-max-ns=100000") as daemon:
        daemon.execute("blockdev-add", **NODE)
        export = {"type": "fuse", "id": "export", "node_name": "disk", "writable": True}
        for turn in range(1, 4):
            where = {"iothread": "thread"} if turn % 2 else {}
            daemon.execute("block-export-add", **export, mountpoint=str(file), **where)
            patched.io(str(file), f"write -P {turn} 0 4M", f"read -P {turn} 0 4M")
            words = ["bench", "-f", "raw", "-w", "-t", "none", "-d", "16", "-c", "3000"]
            assert "Run completed" in patched.img(*words, file).stdout
            daemon.execute("block-export-del", id="export", mode="hard")
            daemon.wait_event("BLOCK_EXPORT_DELETED")
        daemon.quit()


def test_mirror_job_copies_a_volume_while_it_is_written(patched: Qemu) -> None:
    name = patched.create("vol", "32M")
    patched.io(name, "write -P 1 0 8M", "write -P 2 24M 8M")
    target = patched.create("copy", "32M")
    with patched.daemon() as daemon:
        daemon.execute("blockdev-add", **NODE)
        daemon.execute("blockdev-add", **(NODE | {"node_name": "to", "volume": "copy"}))
        daemon.execute("blockdev-mirror", job_id="job", device="disk", target="to", sync="full")
        daemon.wait_event("BLOCK_JOB_READY")
        daemon.execute("block-job-complete", device="job")
        daemon.wait_event("BLOCK_JOB_COMPLETED")
        daemon.quit()
    assert "Images are identical" in patched.img("compare", name, target).stdout


# ---- with any QEMU -----------------------------------------------------------------------------


def test_internal_snapshots_by_qmp(qemu: Qemu) -> None:
    qemu.create("vol", "4M")
    with machine(qemu) as vm:
        assert "wrote" in hmp(vm, 'qemu-io disk "write -P 1 0 4k"') or not vm.errors
        vm.execute("blockdev-snapshot-internal-sync", device="disk", name="snap")
        (block,) = vm.execute("query-block")
        (snapshot,) = block["inserted"]["image"]["snapshots"]
        assert (snapshot["name"], snapshot["vm-state-size"]) == ("snap", 0)
        with pytest.raises(QmpError, match="'snap'"):
            vm.execute("blockdev-snapshot-internal-sync", device="disk", name="snap")
        vm.execute("blockdev-snapshot-delete-internal-sync", device="disk", name="snap")
        assert qemu.server.client_json("snapshot", "list", "vol") == []
        vm.quit()


def test_query_block_works_without_the_server(qemu: Qemu) -> None:
    qemu.create("vol", "4M")
    with machine(qemu) as vm:
        qemu.server.kill()
        for _ in range(2):
            (block,) = vm.execute("query-block")
            assert block["inserted"]["image"]["virtual-size"] == 4 * MIB
            assert "snapshots" not in block["inserted"]["image"]
        assert vm.errors.count("cannot list the snapshots of volume 'vol'") == 1, vm.errors
        vm.quit()


def test_machine_quits_after_its_server_has_died(qemu: Qemu) -> None:
    qemu.create("vol", "4M")
    with machine(qemu) as vm:
        qemu.server.kill()
        hmp(vm, 'qemu-io disk "read 0 4k"')
        vm.quit()
        assert "volume 'vol' is lost: " in vm.errors


def test_migration_hands_the_writers_role_over(qemu: Qemu, tmp_path: Path) -> None:
    qemu.create("vol", "4M")
    uri = f"unix:{tmp_path / 'migration'}"
    with machine(qemu) as source, machine(qemu, "-incoming", uri) as target:
        assert users(qemu) == (1, 1)
        hmp(source, 'qemu-io disk "write -P 7 0 4k"')
        capability = {"capability": "events", "state": True}
        source.execute("migrate-set-capabilities", capabilities=[capability])
        source.execute("migrate", uri=uri)
        while source.wait_event("MIGRATION")["data"]["status"] != "completed":
            pass
        target.execute("cont")
        assert users(qemu) == (1, 1)
        hmp(target, 'qemu-io disk "write -P 8 0 4k"')
        with pytest.raises(QmpError, match="cannot take volume 'vol' over for writing: Device or"):
            source.execute("cont")
        source.quit()
        target.quit()
    qemu.io("openvstorage:vol", "read -P 8 0 4k")
