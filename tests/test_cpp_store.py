# SPDX-License-Identifier: MIT
"""Stores in C++: what store.hpp promises to who writes one, and what its stores promise to clients.

Method: the example and a store that misbehaves on purpose (tests/cpp/odd_store.cpp), compiled as
their users would, under sanitizers too; served by the daemon, as shared objects and as classes of a
Python module; used by the client library and QEMU.
"""

from __future__ import annotations

import errno
import os
import random
import re
import sys
import sysconfig
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import wire
from conftest import TOP, ServerProcess, run, start_refused
from qemu.tools import Qemu, made_for
from rawclient import RawClient
from test_c import ENVIRONMENT

import shmclient

EXAMPLE = TOP / "examples" / "cpp_store.cpp"
ODD_STORE = TOP / "tests" / "cpp" / "odd_store.cpp"
INCLUDE = TOP / "csrc" / "include"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
SANITIZERS = {"asan": "address,undefined", "tsan": "thread"}
COMPILE_S = 120
ODD = 1 << 40
BLOCK = 4096


def compile_store(source: Path, target: Path, *options: str, include: Path = INCLUDE) -> Path:
    command = ["g++", "-std=c++17", *WARNINGS, "-shared", "-fPIC", f"-I{include}", *options]
    run([*command, source, "-o", target], timeout=COMPILE_S)
    return target


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("stores")
    sources = {"dedup": EXAMPLE, "odd": ODD_STORE}
    return {
        name: compile_store(source, directory / f"{name}.so") for name, source in sources.items()
    }


# ---- what every store promises ----


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], list[Path]]:
    """Compiles plugin_check and a store under a sanitizer; their paths.  Each takes seconds."""
    directory = tmp_path_factory.mktemp("checker")

    def compile_once(variant: str, source: Path) -> list[Path]:
        sanitize = f"-fsanitize={SANITIZERS[variant]}"
        program = directory / f"plugin_check-{variant}"
        store = directory / f"{source.stem}-{variant}.so"
        if not program.exists():
            compile_checker(program, TOP / "build" / variant / "libovsshm.a", sanitize)
        if not store.exists():
            compile_store(source, store, "-g", sanitize)
        return [program, store]

    return compile_once


def compile_checker(target: Path, archive: Path, sanitize: str) -> None:
    includes = [f"-I{INCLUDE}", f"-I{TOP}/csrc", f"-I{TOP}/tests/c"]
    core = ["-rdynamic", "-Wl,--whole-archive", archive, "-Wl,--no-whole-archive"]
    command = ["gcc", "-g", sanitize, *includes, TOP / "tests/plugin_check.c", "-o", target]
    run([*command, *core, "-luring", "-lfuse3", "-ldl", "-pthread"], timeout=COMPILE_S)


@pytest.mark.parametrize(
    ("variant", "source", "options"),
    [
        ("asan", EXAMPLE, ""),
        ("asan", EXAMPLE, "block=65536"),
        ("asan", ODD_STORE, "threads=4 block=512"),
        ("tsan", ODD_STORE, "threads=4"),
    ],
    ids=["asan-dedup", "asan-dedup-block", "asan-odd", "tsan-odd"],
)
def test_store_keeps_the_promises_of_all_stores(
    checker: Callable[[str, Path], list[Path]],
    variant: str,
    source: Path,
    options: str,
    tmp_path: Path,
) -> None:
    reactors = "1" if variant == "tsan" else "2"  # TSan does not see what orders two reactors
    environment = ENVIRONMENT[variant] | {"TMPDIR": str(tmp_path)}
    done = run([*checker(variant, source), reactors, options], timeout=250, env=environment)
    assert done.stdout.splitlines()[-1] == "test_snapshots_keep_their_moment"


# ---- the example ----


def test_equal_blocks_are_kept_once_and_each_volume_its_own_data(
    stores: dict[str, Path], server: Callable[..., ServerProcess]
) -> None:
    path = server("--store", stores["dedup"]).socket
    numbers = random.Random(1)
    model = bytearray(1 << 20)
    with shmclient.connect(path) as connection:
        assert connection.hello.store == "dedup"
        for name in ("a", "b"):
            connection.create(name, len(model))
        with connection.open("a", writable=True) as a, connection.open("b", writable=True) as b:
            for _ in range(200):
                offset = numbers.randrange(len(model) - 10000)
                data = bytes([numbers.randrange(3)]) * numbers.randrange(1, 10000)
                model[offset : offset + len(data)] = data
                for volume in (a, b):
                    volume.pwrite(data, offset)
            assert a.pread(len(model), 0) == b.pread(len(model), 0) == model
            b.pwrite(bytes(len(model)), 0)
            assert a.pread(len(model), 0) == model
            assert connection.stat("b").allocated_bytes == 0
        connection.remove("b")


def test_qemu_copies_an_image_into_it_and_back(
    stores: dict[str, Path], server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    qemu = made_for("stock", server("--store", stores["dedup"]))
    image = tmp_path / "image"
    numbers = random.Random(2)
    with image.open("wb") as file:
        file.truncate(16 << 20)
        for _ in range(16):
            file.seek(numbers.randrange(15 << 20) & ~0xFFF)
            file.write(numbers.randbytes(3 * BLOCK) * 2)
    name = qemu.create("disk", 16 << 20)
    qemu.img("convert", "-n", "-f", "raw", "-O", "raw", image, name)
    qemu.img("compare", "-f", "raw", "-F", "raw", image, name)
    qemu.img("convert", "-f", "raw", "-O", "raw", name, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == image.read_bytes()
    check_qemu_io(qemu, name)
    holes = [extent for extent in qemu.img_json("map", "-f", "raw", name) if not extent["data"]]
    assert sum(extent["length"] for extent in holes) > 12 << 20


def check_qemu_io(qemu: Qemu, name: str) -> None:
    qemu.io(
        name,
        "write -P 7 1000 5000",
        "write -z 8192 64k",
        "discard 1M 1M",
        "writev -P 9 3M 512 1024 4096",
        "flush",
        "read -P 7 1000 5000",
        "read -P 0 8192 64k",
        "read -P 9 3M 5632",
    )


# ---- exceptions, and requests that are kept ----

ODDITIES = [
    (0, "ENOSPC", ""),
    (1, "EROFS", ""),
    (2, "EIO", "iostream error"),
    (3, "ENOMEM", ""),
    (4, "EIO", r'store "odd": read of 4096 bytes at \d+: something\?else'),
    (5, "EIO", "no std::exception"),
    (6, "EDQUOT", ""),
    (7, "EIO", r"read of 4096 bytes at \d+: dropped"),
    (10, "EIO", "beyond the buffers"),
    (12, "EIO", ""),
]


@pytest.mark.parametrize(("place", "name", "line"), ODDITIES)
def test_exception_becomes_an_errno_and_a_line_in_the_log(
    stores: dict[str, Path],
    server: Callable[..., ServerProcess],
    place: int,
    name: str,
    line: str,
) -> None:
    odd = server("--store", stores["odd"])
    with shmclient.connect(odd.socket) as connection, connection.open("big") as volume:
        number = getattr(errno, name)
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            volume.pread(BLOCK, ODD + place * BLOCK)
        assert caught.value.errno == number
        assert volume.pread(BLOCK, ODD + 100 * BLOCK) == bytes(BLOCK)  # it goes on
    complaints = [one for one in odd.log.splitlines() if 'store "odd":' in one]
    assert len(complaints) == (1 if line else 0), odd.log
    assert all(re.search(line, one) for one in complaints)


def test_extents_are_cut_to_the_range_and_none_is_an_error(
    stores: dict[str, Path], server: Callable[..., ServerProcess]
) -> None:
    odd = server("--store", stores["odd"])
    with shmclient.connect(odd.socket) as connection, connection.open("big") as volume:
        by_method = [
            (extent.length_bytes, extent.hole, extent.zero)
            for extent in volume.block_status(1 << 20, 0)
        ]
        assert by_method == [(1 << 19, False, False), (1 << 19, False, True)]
        by_hand = [
            (extent.length_bytes, extent.hole, extent.zero)
            for extent in volume.block_status(BLOCK, ODD + 13 * BLOCK)
        ]
        assert by_hand == [(512, True, True), (BLOCK - 512, False, True)]
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            list(volume.block_status(BLOCK, ODD + 11 * BLOCK))
    assert "block_status() without extents" in odd.log


def in_flight(observer: RawClient) -> int:
    reply = observer.call(wire.MSG_SESSIONS, wire.pack("msg_sessions"))
    first = reply.payload[wire.sizeof("msg_list_reply") :]
    return int(wire.unpack("session_info", first).in_flight)


def test_server_waits_for_kept_requests_and_tells_the_store_to_end_them(
    stores: dict[str, Path], server: Callable[..., ServerProcess], cleanup: ExitStack
) -> None:
    """The store has them while the client goes, and while the server stops."""
    odd = server("--store", stores["odd"], "--drain-timeout", "0s")
    observer, client = RawClient(odd.socket), RawClient(odd.socket)
    cleanup.callback(observer.close)
    volume = client.open("big", mode=wire.MODE_READ)
    for place in (8, 9, 9):
        offset = ODD + place * BLOCK
        volume.queue.submit(op=wire.OP_READ, length_bytes=BLOCK, offset_bytes=offset)
    while in_flight(observer) < 3:
        pass
    client.close()
    assert in_flight(observer) == 3
    odd.stop()
    assert "submit() of a kept request: too late" in odd.log


def test_management_exceptions_reach_the_client_with_their_words(
    stores: dict[str, Path], server: Callable[..., ServerProcess]
) -> None:
    odd = server("--store", stores["odd"])
    with shmclient.connect(odd.socket) as connection:
        connection.create("one", 512)
        with pytest.raises(OSError, match="there is no room for that") as caught:
            connection.create("full", 512)
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match='cannot create volume "plain": No space left') as caught:
            connection.create("plain", 512)
        with pytest.raises(OSError, match='cannot create volume "throws"') as caught:
            connection.create("throws", 512)
        assert caught.value.errno == errno.EIO
        with pytest.raises(FileExistsError, match='volume "one" exists already'):
            connection.create("one", 512)
        with pytest.raises(OSError, match="cannot resize volumes"):
            connection.resize("one", 1024)
        # Listed by the store, but there is no size of it.
        assert [info.name for info in connection.list()] == ["one"]
    assert 'store "odd": create "throws": no size' in odd.log


def test_store_can_hide_what_it_implements(
    stores: dict[str, Path], server: Callable[..., ServerProcess]
) -> None:
    odd = server("--store", stores["odd"], "--store-option", "mode=ro")
    with (
        shmclient.connect(odd.socket) as connection,
        pytest.raises(OSError, match='store "odd" cannot write'),
    ):
        connection.open("big", writable=True)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["colour=red"], 'store "odd" has no option "colour"'),
        (["threads=9"], 'option "threads": "9" is not a number from 1 to 8'),
        (["threads=-1"], 'option "threads": "-1" is not a number'),
        (["threads=18446744073709551616"], 'option "threads": "18446744073709551616" is not'),
        (["threads="], 'option "threads": "" is not a number'),
        (["mode=throw"], "Input/output error"),
        (["mode=pool"], "this store needs a pool"),
    ],
)
def test_bad_options_are_refused_by_name(
    stores: dict[str, Path], short_dir: Path, options: list[str], reason: str
) -> None:
    words = [word for option in options for word in ("--store-option", option)]
    refused = start_refused(short_dir / "s", "--store", str(stores["odd"]), *words)
    assert reason in refused


# ---- as a Python class ----


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the example as a Python module."""
    pybind11 = pytest.importorskip("pybind11", reason="no pybind11 to compile with")
    directory = tmp_path_factory.mktemp("module")
    directories = [pybind11.get_include(), sysconfig.get_path("include")]
    includes = [word for path in directories for word in ("-isystem", path)]  # their warnings
    options = ["-fvisibility=hidden", "-DPYTHON_MODULE", *includes]
    compile_store(EXAMPLE, directory / "cpp_store.so", *options)
    return directory


def test_class_of_a_python_module_is_served(
    module: Path, server: Callable[..., ServerProcess]
) -> None:
    environment = {"PYTHONPATH": str(module)}
    words = ["--store", "cpp_store:Dedup", "--store-option", "block=8192"]
    served = server(*words, env=environment)
    with shmclient.connect(served.socket) as connection:
        assert connection.hello.store == "dedup"
        connection.create("v", 1 << 20)
        with connection.open("v", writable=True) as volume:
            volume.pwrite(b"p" * 100, 8190)
            assert volume.pread(102, 8189) == b"\0" + b"p" * 100 + b"\0"
        assert connection.stat("v").allocated_bytes == 2 * 8192


def test_class_of_a_python_module_has_its_options(module: Path, short_dir: Path) -> None:
    words = ["--store", "cpp_store:Dedup", "--store-option", "block=1"]
    argv = [Path(sys.executable).parent / "shmserver", "--socket", short_dir / "s", *words]
    refused = run(argv, check=False, env={"PYTHONPATH": str(module)})
    assert refused.returncode == 1
    assert 'option "block": "1" is not a number from 512 to 1048576' in refused.stderr


def test_importing_such_a_module_is_all_it_takes(module: Path) -> None:
    code = "import cpp_store; print(cpp_store.Dedup.__ovsshm_store__)"
    done = run([sys.executable, "-c", code], env={"PYTHONPATH": str(module)})
    assert done.stdout.startswith('<capsule object "ovsshm_store_type"')


# ---- the headers ----


def test_store_of_the_manual_works(server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    """The one of docs/STORES.md, compiled as it says."""
    text = (TOP / "docs" / "STORES.md").read_text()
    (code,) = re.findall(r"```cpp\n(.*?)```", text, re.DOTALL)
    source = tmp_path / "ram.cpp"
    source.write_text(code)
    path = server("--store", compile_store(source, tmp_path / "ram.so")).socket
    with shmclient.connect(path) as connection:
        connection.create("v", 1 << 20)
        with connection.open("v", writable=True) as volume:
            volume.pwrite(b"data", 4000)
            assert volume.pread(8, 3998) == b"\0\0data\0\0"
            assert volume.pread(8, (1 << 20) - 4) == bytes(4)
        assert [info.name for info in connection.list()] == ["v"]
        connection.remove("v")


@pytest.mark.parametrize("compiler", ["g++ -std=c++20", "clang++ -std=c++17", "clang++ -std=c++20"])
def test_headers_compile_cleanly(compiler: str) -> None:
    words = compiler.split()
    if not any((Path(directory) / words[0]).exists() for directory in os.get_exec_path()):
        pytest.skip(f"no {words[0]}")
    for source in (EXAMPLE, ODD_STORE):
        run([*words, *WARNINGS, "-fsyntax-only", f"-I{INCLUDE}", source], timeout=COMPILE_S)


def test_installation_has_all_headers(tmp_path: Path) -> None:
    run(["make", "-C", TOP / "csrc", "install", f"DESTDIR={tmp_path}", "PREFIX=/p"], timeout=280)
    include = tmp_path / "p" / "include"
    installed = {path.relative_to(include) for path in include.rglob("*") if path.is_file()}
    assert installed == {path.relative_to(INCLUDE) for path in INCLUDE.rglob("*") if path.is_file()}
    compile_store(EXAMPLE, tmp_path / "dedup.so", include=include)
