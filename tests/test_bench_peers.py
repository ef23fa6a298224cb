"""benchmarks.peers: each starts, moves real bytes for every loader, and leaves nothing behind."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from conftest import run

from benchmarks.peers import PEERS, Disk, Peer, PeerUnavailable, base

SIZE_BYTES = 4 << 20
PART = "64k"
NO_DATA = ("shm null", "null-co", "vhost-user-blk null")
OURS = ("shm ", "FUSE ")  # these can always be had, but for the kernel's part
UNPINNED = [name for name in PEERS if "one CPU" not in name]


@pytest.fixture(autouse=True)
def tmpfs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A part of /dev/shm of our own, so that what is left there can be told from that of others."""
    with tempfile.TemporaryDirectory(prefix="ovsshm-", dir="/dev/shm") as name:
        monkeypatch.setattr(base, "TMPFS", Path(name))
        yield Path(name)


Start = Callable[[str, int], Peer]


@pytest.fixture
def start(short_dir: Path, tmpfs: Path) -> Iterator[Start]:
    """Starts a peer, or skips the test; at the end nothing of it may be there."""
    started: list[Peer] = []
    with ExitStack() as stack:

        def start_peer(name: str, volumes: int) -> Peer:
            try:
                peer = stack.enter_context(PEERS[name](volumes, SIZE_BYTES, short_dir))
            except PeerUnavailable as reason:
                if name.startswith(OURS) and "/dev/fuse" not in str(reason):
                    raise
                pytest.skip(f"{name}: {reason}")
            started.append(peer)
            return peer

        yield start_peer
    for peer in started:
        for pid in peer.server_pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
    assert str(short_dir) not in Path("/proc/self/mounts").read_text()
    assert list(short_dir.iterdir()) == []
    assert list(tmpfs.iterdir()) == []
    for peer in started:
        if peer.family == "historical" and peer.disks[0].qemu:
            prefix = peer.disks[0].qemu.prefix[1]
            assert list(Path("/dev/shm").glob(f"{prefix}-*")) == []


def qemu_img_bench(disk: Disk, *options: str) -> None:
    assert disk.qemu
    argv = [*disk.qemu.prefix, "qemu-img", "bench", *disk.qemu.options, *options]
    done = run([*argv, disk.qemu.filename], env=disk.qemu.env)
    assert "Run completed in" in done.stdout


def qemu_io(disk: Disk, *commands: str) -> None:
    """Each fails the run when its pattern is not what is there."""
    assert disk.qemu
    argv = [*disk.qemu.prefix, "qemu-io", *disk.qemu.options]
    for command in commands:
        argv += ["-c", command]
    done = run([*argv, disk.qemu.filename], env=disk.qemu.env)
    assert "verification failed" not in done.stdout + done.stderr


def fio_finds(disk: Disk, pattern: int, cwd: Path) -> None:
    assert disk.fio
    argv = [*disk.fio.prefix, "fio", "--name=check", *disk.fio.arguments, "--rw=read", "--bs=4k"]
    argv += [f"--size={PART}", "--iodepth=4", "--verify=pattern", f"--verify_pattern={pattern:#x}"]
    run(argv, env=disk.fio.env, cwd=cwd)


@pytest.mark.parametrize(
    "name", [name for name in UNPINNED if name not in (*NO_DATA, "historical")]
)
def test_what_qemu_writes_to_a_volume_all_loaders_read(
    name: str, start: Start, tmp_path: Path
) -> None:
    peer = start(name, 2)
    assert peer.name == name
    assert len(peer.disks) == 2
    for number, disk in enumerate(peer.disks, start=1):
        qemu_io(disk, f"write -P {number} 0 {PART}", "flush")
    for number, disk in enumerate(peer.disks, start=1):
        qemu_io(disk, f"read -P {number} 0 {PART}")
        if disk.fio:
            fio_finds(disk, number, tmp_path)
    qemu_img_bench(peer.disks[0], "-c", "100", "-d", "4")
    assert set(peer.copies) == {"read", "write"}


@pytest.mark.parametrize("name", NO_DATA)
def test_a_peer_without_data_takes_the_load(name: str, start: Start) -> None:
    for disk in start(name, 2).disks:
        qemu_img_bench(disk, "-c", "100", "-d", "4")


def test_the_historical_transport_keeps_data_and_takes_the_load(start: Start) -> None:
    """Its server dies at the end: then whoever started it removes the names of its memory."""
    peer = start("historical", 2)
    for disk in peer.disks:
        assert disk.qemu
        run([*disk.qemu.prefix, "check", disk.qemu.filename])
    for options in ((), ("-w",), ("-w", "--flush-interval=1"), ("-s", "1M", "-d", "8")):
        qemu_img_bench(peer.disks[1], "-c", "100", "-d", "4", *options)
    os.kill(peer.server_pids[0], signal.SIGKILL)


def test_the_historical_transport_knows_its_volumes(start: Start) -> None:
    disk = start("historical", 1).disks[0].qemu
    assert disk
    done = run([*disk.prefix, "check", "1"], check=False)
    assert (done.returncode, done.stderr) == (1, "historical-load: there is no volume 1\n")


@pytest.mark.parametrize(("where", "apart"), [("one CPU", False), ("one CPU each", True)])
def test_pinned_peers_stay_where_they_are_put(where: str, apart: bool, start: Start) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    peer = start(f"nbdkit memory {where}", 2)
    qemu_io(peer.disks[0], "write -P 1 0 64k", "read -P 1 0 64k")
    for pid in peer.server_pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):  # of a connection that has just ended
                assert os.sched_getaffinity(int(task.name)) == {cpus[apart]}
    for disk in peer.disks:
        for loader in (disk.qemu, disk.fio):
            assert loader
            shown = run([*loader.prefix, "grep", "Cpus_allowed_list", "/proc/self/status"]).stdout
            assert shown.split()[1:] == [str(cpus[0])]


# ---- peers that cannot be had ----


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, short_dir: Path) -> None:
    monkeypatch.setenv("PATH", str(short_dir))
    with (
        pytest.raises(PeerUnavailable, match=r"^nbdkit is not installed$"),
        PEERS["nbdkit memory"](1, SIZE_BYTES, short_dir),
    ):
        pass


def test_the_last_words_of_a_server_are_told() -> None:
    with (
        pytest.raises(PeerUnavailable, match=r"^sh ended with status 3: no luck$"),
        base.running(["sh", "-c", "echo well; echo no luck >&2; exit 3"], lambda: False),
    ):
        pass


def test_a_server_that_never_gets_ready_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "START_TIMEOUT_S", 0.05)
    with (
        pytest.raises(PeerUnavailable, match=r"^sleep was not ready within"),
        base.running(["sleep", "60"], lambda: False),
    ):
        pass


def test_a_server_that_does_not_want_to_end_is_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(base, "STOP_TIMEOUT_S", 0.05)
    ready = tmp_path / "ready"
    argv = [
        "sh",
        "-c",
        f"trap '' TERM; touch {ready}; while :; do read -r _ <{tmp_path}/fifo; done",
    ]
    os.mkfifo(tmp_path / "fifo")
    with base.running(argv, ready.exists) as process:
        pass
    assert process.returncode == -signal.SIGKILL
