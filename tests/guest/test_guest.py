# SPDX-License-Identifier: MIT
"""The guest harness itself, on the distribution's QEMU and a plain raw file.

What later tests and the demo rely on: output and status arrive, the disk is real, one can act
while the guest runs, and each way to fail ends in time with the reason.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from .machine import Guest, GuestError, RunningGuest

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(
        shutil.which("qemu-system-x86_64") is None, reason="no qemu-system-x86_64 installed"
    ),
]

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(256 * MIB)
    return path


def virtio(disk: Path, options: str = "") -> list[str]:
    return [f"file={disk},if=virtio,cache=none,format=raw{options}"]


def gone(guest: RunningGuest) -> bool:
    return not Path(f"/proc/{guest.pid}").exists()


def test_script_makes_a_file_system_that_the_host_reads(disk: Path) -> None:
    lines: list[str] = []
    result = Guest(drives=virtio(disk), echo=lines.append).run(
        "set -e\n"
        "mkfs.ext4 -q /dev/vda\n"
        "mount /dev/vda /mnt\n"
        "echo 'from the guest' >/mnt/file\n"
        "sync\n"
        "sha256sum /mnt/file\n"
        "umount /mnt\n"
    )
    checksum = "68972d457d24892f6c099ffd2ea2f1806957457f1e987bd96c3d06c25116c958"
    assert result.status == 0, result.output
    checked = subprocess.run(["e2fsck", "-fn", disk], check=False, timeout=60, capture_output=True)
    assert checked.returncode == 0, checked.stdout
    content = subprocess.run(
        ["debugfs", "-R", "cat /file", disk], check=True, timeout=60, capture_output=True, text=True
    )
    assert content.stdout == "from the guest\n"
    assert result.output == f"{checksum}  /mnt/file\n"
    assert lines == result.output.splitlines()


def test_status_and_unfinished_last_line_of_the_script_arrive() -> None:
    result = Guest().run("printf 'one\\n\\ntwo'; exit 7")
    assert (result.status, result.output) == (7, "one\n\ntwo\n")


def test_running_guest_sees_its_disk_grow(disk: Path) -> None:
    script = (
        "sectors() { cat /sys/block/vda/size; }\n"
        "echo before $(sectors)\n"
        "until [ $(sectors) -gt 524288 ]; do sleep 0.1; done\n"
        "echo after $(sectors)\n"
        "read answer && echo told $answer\n"
    )
    with Guest(drives=virtio(disk, ",id=disk")).start(script, timeout_s=60) as guest:
        assert guest.wait_for("before") == "before 524288"
        guest.qmp.execute("block_resize", device="disk", size=512 * MIB)
        assert guest.wait_for("after") == "after 1048576"
        guest.send("good bye")
        result = guest.finish()
    assert result.output.endswith("told good bye\n")
    assert gone(guest)


def test_script_that_takes_too_long_is_ended() -> None:
    guest = Guest().start("echo started; cat", timeout_s=15)
    with guest, pytest.raises(GuestError, match="the time is over while waiting for 'n") as raised:
        guest.wait_for("never")
    assert "console: started" in str(raised.value)
    assert gone(guest)


def test_script_that_ends_without_the_awaited_line_is_told() -> None:
    ended = pytest.raises(GuestError, match=r"the script ended \(3\) without printing 'ready'")
    with Guest().start("echo something else; exit 3") as guest, ended:
        guest.wait_for("ready")


def test_guest_that_crashes_is_told_with_its_console() -> None:
    with pytest.raises(GuestError, match="QEMU ended while waiting for the end") as raised:
        Guest().run("echo c >/proc/sysrq-trigger")
    assert "Kernel panic" in str(raised.value)


def test_qemu_that_does_not_start_is_told_with_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match=r"QEMU: .*absent.raw.*No such file or directory"):
        Guest(drives=virtio(tmp_path / "absent.raw")).run("true")
