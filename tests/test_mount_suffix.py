# SPDX-License-Identifier: MIT
"""filesystem.fs_raw_disk_suffix: only files that end so are volumes, the others are plain files.

Method: real mounts with the suffix ".raw", over a store whose volumes are files and one of memory.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ServerProcess, run
from mounts import Mounted, mount, mount_point, needs_mount

__all__ = ["mount", "mount_point"]
pytestmark = needs_mount

CONFIG = '{"filesystem": {"fs_raw_disk_suffix": ".raw"}}'


@pytest.fixture
def config(tmp_path: Path) -> list[str]:
    path = tmp_path / "vpool.json"
    path.write_text(CONFIG)
    return ["--config", str(path)]


@pytest.fixture(params=["memory", "file"])
def mounted(
    request: pytest.FixtureRequest, mount: Callable[..., Mounted], config: list[str]
) -> Mounted:
    return mount(request.param, *config)


def test_volumes_have_the_suffix_in_the_mount_only(mounted):
    run(["truncate", "-s", "1M", mounted.path / "vol.raw"])
    with mounted.connect() as connection:
        connection.create("dir/other", 4096)
        assert {info.name for info in connection.list()} == {"vol", "dir/other"}
        with connection.open("vol", writable=True) as volume:
            volume.pwrite(b"x" * 512, 0)
            with pytest.raises(OSError, match="busy"):
                os.open(mounted.path / "vol.raw", os.O_RDWR)
        connection.remove("dir/other")
    assert (mounted.path / "vol.raw").read_bytes()[:512] == b"x" * 512


def test_other_files_are_plain(mounted):
    path = mounted.path / "vm.cfg"
    path.write_text("memory = 1\n")
    path.chmod(0o600)
    with path.open("a") as file:
        file.write("cpus = 2\n")
    run(["cp", "-p", path, mounted.path / "copy.cfg"])
    (mounted.path / "copy.cfg").rename(mounted.path / "vol")
    assert (mounted.path / "vol").read_text() == "memory = 1\ncpus = 2\n"
    assert mounted.volumes() == {}
    with path.open() as file:
        path.unlink()
        assert file.read() == "memory = 1\ncpus = 2\n"
        assert os.fstat(file.fileno()).st_size == 20
    os.truncate(mounted.path / "vol", 3)
    assert [entry.name for entry in mounted.path.iterdir()] == ["vol"]
    assert (mounted.path / "vol").read_text() == "mem"


@pytest.mark.parametrize("cache", ["none", "writeback"])
def test_plain_files_keep_what_is_appended_and_patched(mount, config, cache):
    """Pages that the kernel has to read before it can write them, through files that only write."""
    path = mount("file", *config, "--mount-option", f"cache={cache}").path / "vm.cfg"
    expected = bytearray()
    for flags in (os.O_CREAT, 0):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | flags)
        for length in (100, 100, 5000):
            expected += bytes([length % 251]) * length
            os.write(fd, expected[-length:])
            os.fsync(fd)
        os.close(fd)
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, b"x", 5001)
    os.close(fd)
    expected[5001] = ord("x")
    assert path.read_bytes() == expected


def test_moving_across_kinds_copies(mounted):
    data = os.urandom(70000)
    (mounted.path / "a").write_bytes(data)
    run(["mv", mounted.path / "a", mounted.path / "a.raw"])
    assert mounted.volumes() == {"a": len(data) // 512 * 512}
    run(["mv", mounted.path / "a.raw", mounted.path / "b"])
    assert mounted.volumes() == {}
    assert (mounted.path / "b").read_bytes() == data


def test_suffix_alone_is_no_volume(mounted):
    (mounted.path / ".raw").write_bytes(b"x")
    (mounted.path / "d").mkdir()
    (mounted.path / "d" / ".raw").write_bytes(b"x")
    assert mounted.volumes() == {}
    assert run(["find", ".", "-type", "f"], cwd=mounted.path).stdout.split()


def test_pool_keeps_the_names_of_files(
    server: Callable[..., ServerProcess], config: list[str], pool: Path
) -> None:
    """Also without a mount, and when the pool was there before."""
    (pool / "old.raw").write_bytes(bytes(1024))
    (pool / "notes").write_bytes(bytes(1024))
    process = server("--pool", str(pool), *config)
    process.client("create", "new", "1M")
    names = {entry["name"] for entry in process.client_json("list")}
    assert names == {"old", "new"}
    assert {entry.name for entry in pool.iterdir()} >= {"old.raw", "notes", "new.raw"}
    process.client("snapshot", "create", "old", "snap")
    process.client("remove", "old")
    assert not (pool / "old.raw").exists()
