# SPDX-License-Identifier: MIT
"""A store that fails, lacks something or never answers, as QEMU shows it to its user.

Method: the server's fault store over its memory store.
"""

import os
import select
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ServerProcess
from guest.qmp import QmpError

from .tools import ANSWER_S, MIB, Qemu, made_for

pytestmark = pytest.mark.qemu

FaultFactory = Callable[..., Qemu]


@pytest.fixture(params=["stock", "patched"])
def faulty(request: pytest.FixtureRequest, server: Callable[..., ServerProcess]) -> FaultFactory:
    """faulty(error="EIO", error_op="read"): a QEMU on a server with these faults."""

    def make(**options: str | int) -> Qemu:
        words = ["--store", "fault"]
        for key, value in options.items():
            words += ["--store-option", f"{key.replace('_', '-')}={value}"]
        return made_for(request.param, server(*words))

    return make


def failing_io(qemu: Qemu, name: str, command: str) -> str:
    done = qemu.run("qemu-io", "-f", "raw", "-d", "unmap", "-c", command, name, check=False)
    return done.stdout + done.stderr


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "command"),
    [
        ("read", "read 0 4k"),
        ("write", "write 0 4k"),
        ("write", "write -f 0 4k"),
        ("discard", "discard 0 64k"),
        ("write-zeroes", "write -z 0 64k"),
        ("block-status", "map"),
    ],
)
@pytest.mark.parametrize(
    ("name", "text"), [("EIO", "Input/output error"), ("ENOSPC", "No space left on device")]
)
def test_error_of_the_store_is_the_error_of_the_command(
    faulty: FaultFactory, op: str, command: str, name: str, text: str
) -> None:
    qemu = faulty(error=name, error_op=op)
    assert text in failing_io(qemu, qemu.create("vol", "1M"), command)


def test_failed_flush_is_told(faulty: FaultFactory) -> None:
    qemu = faulty(error="EIO", error_op="flush", error_count=1)
    name = qemu.create("vol", "1M")
    words = ["-f", "raw", "-c", "write 0 4k", "-c", "flush", name]
    assert qemu.run("qemu-io", *words, check=False).returncode == 1
    qemu.run("qemu-io", *words)


def test_one_failed_request_does_not_fail_the_next(faulty: FaultFactory) -> None:
    qemu = faulty(error="EIO", error_op="read", error_count=1)
    name = qemu.create("vol", "1M")
    assert "Input/output error" in failing_io(qemu, name, "read 0 4k")
    qemu.io(name, "read 0 4k")


def test_errors_among_many_requests_reach_only_their_own(faulty: FaultFactory) -> None:
    qemu = faulty(error="EIO", error_op="write", error_after=40, error_count=1)
    name = qemu.create("vol", "16M")
    commands = [f"aio_write -q -P 1 {n}M 1M" for n in range(16)] + ["aio_flush"]
    words = [word for command in commands * 4 for word in ("-c", command)]
    done = qemu.run("qemu-io", "-f", "raw", *words, name, check=False)
    assert (done.stdout + done.stderr).count("aio_write failed: Input/output error") == 1


def test_creating_and_growing_can_fail(faulty: FaultFactory) -> None:
    qemu = faulty(error="ENOSPC", error_op="create,resize", error_after=1)
    name = qemu.create("vol", "1M")
    refusal = qemu.refused("qemu-img", "create", "-f", "raw", "openvstorage:other", "1M")
    assert "No space left on device" in refusal
    refusal = qemu.refused("qemu-img", "resize", "-f", "raw", name, "2M")
    assert "No space left on device" in refusal
    assert qemu.img_json("info", name)["virtual-size"] == MIB


def test_image_format_that_cannot_grow_its_volume_is_told(faulty: FaultFactory) -> None:
    qemu = faulty(error="ENOSPC", error_op="resize", error_after=6)
    name = "openvstorage:disk.qcow2"
    qemu.img("create", "-q", "-f", "qcow2", name, "64M")
    words = [word for n in range(12) for word in ("-c", f"write {n * 4}M 64k")]
    done = qemu.run("qemu-io", *words, name, check=False)
    assert "No space left on device" in done.stdout + done.stderr
    assert "wrote 65536/65536" in done.stdout


# ---- what a store may lack ---------------------------------------------------------------------


def test_zeroes_discard_and_status_are_done_without_the_stores_help(faulty: FaultFactory) -> None:
    qemu = faulty(without="discard,write-zeroes,block-status")
    name = qemu.create("vol", "4M")
    commands = ["write -P 1 0 4M", "write -z 1M 1M", "write -zu 2M 4k", "discard 3M 64k"]
    checks = ["read -P 1 0 1M", "read -P 0 1M 1M", "read -P 0 2M 4k", "read -P 1 2052k 4k"]
    qemu.io(name, *commands, *checks, options=("-d", "unmap"))
    (extent,) = qemu.img_json("map", name)
    assert (extent["length"], extent["data"]) == (4 * MIB, True)


def test_store_that_cannot_write_is_opened_read_only(faulty: FaultFactory) -> None:
    qemu = faulty(without="write")
    name = qemu.create("vol", "1M")
    assert qemu.img_json("info", name)["virtual-size"] == MIB
    refusal = qemu.refused("qemu-io", "-f", "raw", "-c", "read 0 4k", name)
    assert "Read-only file system" in refusal
    qemu.io(name, "read 0 4k", options=("-r",))
    drive = "if=none,id=disk,auto-read-only=on,format=raw,file=openvstorage:vol"
    words = ["-nodefaults", "-display", "none", "-drive", drive]
    with qemu.daemon(*words, program="qemu-system-x86_64") as vm:
        nodes = vm.execute("query-named-block-nodes")
        assert [node["ro"] for node in nodes if node["drv"] == "openvstorage"] == [True]
        vm.quit()


def test_store_without_snapshots_leaves_the_rest_usable(faulty: FaultFactory) -> None:
    qemu = faulty(without="snapshot")
    name = qemu.create("vol", "1M")
    refusal = qemu.refused("qemu-img", "snapshot", "-c", "snap", name)
    assert "not supported" in refusal.lower(), refusal
    assert "snapshots" not in qemu.img_json("info", name)


@pytest.mark.parametrize("block_bytes", [512, 4096])
def test_blocks_of_the_store_do_not_show(faulty: FaultFactory, block_bytes: int) -> None:
    qemu = faulty(block_bytes=block_bytes)
    name = qemu.create("vol", "1M")
    qemu.io(name, "write -P 1 0 1M", "write -P 2 100 1000", "write -z 5000 3", "discard 9000 9000")
    qemu.io(name, "read -P 1 0 100", "read -P 2 100 1000", "read -P 1 1100 3900")
    qemu.io(name, "read -P 0 5000 3", "read -P 1 5003 3000")


# ---- answers that do not come ------------------------------------------------------------------


@pytest.fixture
def stuck_write(faulty: FaultFactory) -> Iterator[tuple[Qemu, subprocess.Popen[str]]]:
    """qemu-io in a write that the store never completes."""
    qemu = faulty(never_op="write")
    name = qemu.create("vol", "1M")
    argv = qemu.argv("qemu-io", "-f", "raw", "-c", "write 0 4k", name)
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *argv],
        env=os.environ | qemu.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            while not qemu.server.client_json("info", "vol")["writers"]:
                assert process.poll() is None
            yield qemu, process
        finally:
            process.kill()
            qemu.server.kill()


def test_server_that_dies_ends_a_request_it_never_answered(
    stuck_write: tuple[Qemu, subprocess.Popen[str]],
) -> None:
    qemu, process = stuck_write
    qemu.server.kill()
    output, _ = process.communicate(timeout=ANSWER_S)
    assert "write failed: Input/output error" in output


def test_slow_snapshot_lets_other_disks_go_on(faulty: FaultFactory, tmp_path: Path) -> None:
    """The other disk is served by the same event loop, to an NBD client."""
    qemu = faulty(delay_ms=3_600_000, delay_op="snapshot")
    qemu.create("vol", "1M")
    machine = ["-accel", "tcg", "-machine", "q35", "-nodefaults", "-display", "none", "-S"]
    disk = "if=none,id=disk,file=openvstorage:vol,format=raw"
    other = "if=none,id=other,file=null-co://,format=raw"
    words = [*machine, "-drive", disk, "-drive", other]
    url = f"nbd+unix:///other?socket={tmp_path / 'nbd'}"
    client = [*qemu.argv("qemu-io", "-r", "-f", "raw", url)]
    with qemu.daemon(*words, program="qemu-system-x86_64") as vm:
        address = {"type": "unix", "data": {"path": str(tmp_path / "nbd")}}
        vm.execute("nbd-server-start", addr=address)
        vm.execute("nbd-server-add", device="other")
        with subprocess.Popen(
            client, env=os.environ | qemu.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as reader:
            assert reader.stdin
            assert reader.stdout
            while not reader.stdout.peek().endswith(b"qemu-io> "):
                assert reader.poll() is None
            vm.send("blockdev-snapshot-internal-sync", device="disk", name="snap")
            reader.stdin.write(b"read 0 4k\n")
            reader.stdin.flush()
            while b"read 4096/4096" not in reader.stdout.readline():
                assert reader.poll() is None
            assert not select.select([vm.socket], [], [], 0)[0], "the snapshot has ended already"
            qemu.server.kill()
            with pytest.raises(QmpError, match="snap"):
                vm.answer("blockdev-snapshot-internal-sync")
            reader.stdin.close()
        vm.quit()
