# SPDX-License-Identifier: MIT
"""The mount's life: it starts or says why not, and never stays behind, however its server ends.

Method: a real `shmserver` that is stopped, killed or unmounted; the kernel's table of mounts.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import SCRIPTS, run, start_refused, wait_until
from mounts import Mounted, is_mounted, mount, mount_point, needs_mount

import shmclient
from shmserver import Server

__all__ = ["mount", "mount_point"]
pytestmark = needs_mount

MIB = 1 << 20
GONE = r"not connected|aborted"


class Load:
    """Threads that write and read a file until it fails."""

    def __init__(self, path: Path) -> None:
        self.errors: list[OSError] = []
        self._path = path
        self._running = threading.Barrier(5)
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(4)]

    def _run(self, number: int) -> None:
        block = bytes([number]) * 65536
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT)
        try:
            os.pwrite(fd, block, number * 65536)
            self._running.wait(30)
            while True:
                os.pwrite(fd, block, number * 65536)
                assert os.pread(fd, 65536, number * 65536) == block
        except OSError as error:
            self.errors.append(error)
        finally:
            with suppress(OSError):
                os.close(fd)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        self._running.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor whose server may be gone when it is closed."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        yield fd
    finally:
        with suppress(OSError):
            os.close(fd)


def test_stop_leaves_nothing(mount):
    mounted = mount("memory")
    (mounted.path / "f").write_bytes(b"x")
    mounted.server.stop()
    assert not is_mounted(mounted.path)
    assert list(mounted.path.iterdir()) == []


def test_stop_while_a_file_is_open_unmounts_and_its_user_gets_errors(mount):
    mounted = mount("memory")
    with opened(mounted.path / "f") as fd:
        os.write(fd, b"x")
        mounted.server.stop()
        assert not is_mounted(mounted.path)
        with pytest.raises(OSError, match=GONE):
            os.write(fd, b"y")
    assert "is in use" in mounted.server.log


@pytest.mark.parametrize("store", ["memory", "file", "python"])
def test_stop_under_load_is_clean(mount, store):
    mounted = mount(store)
    (mounted.path / "vol").touch()
    os.truncate(mounted.path / "vol", MIB)
    with Load(mounted.path / "vol") as load:
        mounted.server.stop()
    assert len(load.errors) == 4
    assert not is_mounted(mounted.path)


def test_writeback_reaches_the_store_before_the_end(mount, pool):
    mounted = mount("file", "--mount-option", "cache=writeback")
    data = os.urandom(3 * MIB)
    with opened(mounted.path / "f") as fd:
        assert os.write(fd, data) == len(data)
        mounted.server.stop()
    assert (pool / "f").read_bytes() == data


def test_killed_server_leaves_no_mount(mount):
    mounted = mount("memory")
    with opened(mounted.path / "f") as fd, Load(mounted.path / "vol") as load:
        mounted.server.kill()
        wait_until(lambda: not is_mounted(mounted.path))
        with pytest.raises(OSError, match=GONE):
            os.write(fd, b"x")
    assert len(load.errors) == 4


def test_dead_mount_is_replaced_at_start(mount, server):
    mounted = mount("memory")
    children = Path(f"/proc/{mounted.server.pid}/task/{mounted.server.pid}/children")
    watchers = children.read_text().split()
    for pid in watchers:
        os.kill(int(pid), signal.SIGKILL)
    assert watchers
    mounted.server.kill()
    assert is_mounted(mounted.path)
    with pytest.raises(OSError, match="not connected"):
        mounted.path.stat()
    again = server("--store", "memory", "--mount", str(mounted.path))
    (mounted.path / "f").write_bytes(b"x")
    assert "dead mount" in again.log
    again.stop()
    assert not is_mounted(mounted.path)


def test_unmounted_by_the_admin_the_server_goes_on(mount):
    mounted = mount("memory")
    (mounted.path / "f").write_bytes(b"x" * 512)
    run(["umount", mounted.path])
    wait_until(lambda: "unmounted by somebody else" in mounted.server.log)
    assert mounted.volumes() == {"f": 512}
    with mounted.connect() as connection, connection.open("f", writable=True) as volume:
        assert volume.pread(512, 0) == b"x" * 512


@pytest.mark.parametrize("cache", ["none", "auto"])
def test_files_open_at_a_lazy_unmount_are_free_once_they_are_closed(mount, cache):
    """The kernel ends the connection and does not say that they were."""
    mounted = mount("memory", "--mount-option", f"cache={cache}")
    with (mounted.path / "f").open("wb", buffering=0) as file:
        run(["umount", "-l", mounted.path])
        file.write(b"x" * 512)
        with mounted.connect() as connection, pytest.raises(OSError, match="mount"):
            connection.open("f", writable=True)
    wait_until(lambda: "unmounted by somebody else" in mounted.server.log)
    with mounted.connect() as connection, connection.open("f", writable=True) as volume:
        assert volume.pread(512, 0) == b"x" * 512


def test_unmounted_by_the_admin_a_server_of_nothing_else_ends(mount_point, tmp_path):
    path = mount_point()
    config = tmp_path / "vpool.json"
    config.write_text('{"filesystem": {"fs_enable_shm_interface": false}}')
    words = ["--config", str(config), "--store", "memory", "--mount", str(path), "--ready-fd"]
    ready, child = os.pipe()
    process = subprocess.Popen(
        [str(SCRIPTS / "shmserver"), *words, str(child)], pass_fds=(child,), stderr=subprocess.PIPE
    )
    os.close(child)
    try:
        with os.fdopen(ready, "rb") as file:
            assert file.read()
        (path / "f").write_bytes(b"x")
        run(["umount", path])
        assert process.wait(30) == 0
    finally:
        process.kill()
        _, errors = process.communicate(timeout=30)
    assert b"without a socket" in errors


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda path: path.rmdir(), "No such file or directory; make the directory first"),
        (lambda path: (path.rmdir(), path.write_bytes(b"")), "it is no directory"),
        (lambda path: (path / "x").mkdir(), "it is not empty"),
    ],
)
def test_place_that_cannot_be_mounted_on_is_named(mount_point, short_dir, prepare, reason):
    path = mount_point()
    prepare(path)
    error = start_refused(short_dir / "s.sock", "--store", "memory", "--mount", str(path))
    assert f'cannot mount at "{path}": {reason}' in error


def test_second_server_at_the_same_place_is_refused(mount, short_dir):
    mounted = mount("memory")
    words = ["--store", "memory", "--mount", str(mounted.path)]
    assert "something is mounted there already" in start_refused(short_dir / "x.sock", *words)
    (mounted.path / "f").write_bytes(b"x")


def test_mount_inside_of_the_pool_is_refused(pool, short_dir):
    (pool / "mnt").mkdir()
    words = ["--pool", str(pool), "--mount", str(pool / "mnt")]
    assert "inside of the pool" in start_refused(short_dir / "s.sock", *words)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--mount-option", "cache=some"], "cache must be none, auto or writeback"),
        (["--mount-option", "cash=none"], "no option 'cash'"),
        (["--mount-option", "threads=0"], "threads must be a number from 1 to 256"),
        (["--mount", ""], "must not be empty"),
        (["--mount-option", "splice"], "--mount-option needs --mount"),
    ],
)
def test_wrong_options_are_named(words, reason):
    result = run([SCRIPTS / "shmserver", "--store", "memory", *words], check=False)
    assert result.returncode == 2
    assert reason in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["threads=1"],
        ["clone-fd=off", "threads=4"],
        ["cache=auto", "splice"],
        ["cache=writeback", "max-write=64K", "max-background=1"],
        ["allow-other", "io-uring=off"],
    ],
    ids=" ".join,
)
def test_every_option_serves(mount: Callable[..., Mounted], options: list[str]) -> None:
    words = [word for option in options for word in ("--mount-option", option)]
    mounted = mount("file", *words)
    data = os.urandom(3 * MIB + 7)
    (mounted.path / "f").write_bytes(data)
    run(["cp", mounted.path / "f", mounted.path / "g"])
    assert (mounted.path / "g").read_bytes() == data
    mounted.server.stop()
    assert not is_mounted(mounted.path)


def test_log_says_whether_requests_come_by_io_uring(mount, mount_point, short_dir):
    """As libfuse and the kernel can; asked for and not there, the server does not start."""
    version = run(["pkg-config", "--modversion", "fuse3"]).stdout.strip()
    switch = Path("/sys/module/fuse/parameters/enable_uring")
    if tuple(map(int, version.split(".")[:2])) < (3, 18):
        state = f"not in libfuse {version}"
    elif not switch.exists():
        state = "not in this kernel"
    else:
        state = "on" if switch.read_text() == "Y\n" else f"off in the kernel: {switch}"
    assert f"info: FUSE over io_uring: {state}\n" in mount("memory").server.log
    off = mount("memory", "--mount-option", "io-uring=off")
    assert "FUSE over io_uring: off, as the option says\n" in off.server.log
    if state != "on":
        words = ["--store", "memory", "--mount", str(mount_point()), "--mount-option", "io-uring"]
        assert f"over io_uring: {state}; choose auto" in start_refused(short_dir / "x.sock", *words)


def test_who_may_not_mount_is_told_what_helps(mount_point, short_dir):
    """As root, but without the right: libfuse's helper has it neither then."""
    path = mount_point()
    words = [str(SCRIPTS / "shmserver"), "--store", "memory", "--mount", str(path)]
    result = run(
        [
            *("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all"),
            *(*words, "--socket", str(short_dir / "s.sock"), "--log-level", "error"),
        ],
        check=False,
        timeout=30,
    )
    assert "fusermount3" in result.stderr


def test_server_in_a_program_has_a_mount(mount_point, short_dir):
    path = mount_point()
    ended = threading.Event()
    with Server(
        "memory",
        socket=short_dir / "s.sock",
        mount=path,
        mount_options={"threads": "2"},
        volume_suffix=".raw",
        unmounted=ended.set,
    ) as server:
        (path / "vol.raw").write_bytes(b"x" * 512)
        with shmclient.Connection(server.socket) as connection:
            assert [info.name for info in connection.list()] == ["vol"]
        run(["umount", path])
        assert ended.wait(30)
    assert not is_mounted(path)
    with Server("memory", mount=path, shared_memory=False) as server:
        assert server.socket is None
        (path / "vol").write_bytes(b"x")
    assert not is_mounted(path)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"shared_memory": False}, "has no mount"),
        ({"mount": "MNT", "mount_options": {"cache": "some"}}, "cache must be none"),
        ({"mount": "MNT", "mount_options": {"cash": "none"}}, "no option 'cash'"),
        ({"mount": "MNT", "volume_suffix": "a/b"}, "suffix of volumes"),
        ({"mount": "/nowhere"}, "make the directory first"),
    ],
)
def test_program_is_told_what_is_wrong(mount_point, short_dir, arguments, reason):
    given = {**arguments}
    if given.get("mount") == "MNT":
        given["mount"] = mount_point()
    if given.get("shared_memory", True):
        given["socket"] = short_dir / "s.sock"
    with pytest.raises(OSError, match=reason):
        Server("memory", **given)
