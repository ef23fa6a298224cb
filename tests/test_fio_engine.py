# SPDX-License-Identifier: MIT
"""The engine for fio: what it writes is what it reads, and what goes wrong is said and ends.

Method: the distribution's fio with the plugin of `make fio-engine` on servers of our own.  Contents
are judged by fio's own verification and by `shmclient`; costs by the engine's exact counters.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from conftest import STOP_S, TOP, ServerProcess, run, wait_until
from markdown_it import MarkdownIt

ENGINE = TOP / "build" / "release" / "fio" / "openvstorage.so"
KIB, MIB = 1 << 10, 1 << 20
FIO_S = 60
Start = Callable[..., ServerProcess]
Result = subprocess.CompletedProcess[str]


def missing() -> str | None:
    if not shutil.which("fio"):
        return "fio is not installed: scripts/install-debs fio"
    if not ENGINE.exists():
        return f"no {ENGINE.relative_to(TOP)}: make fio-engine"
    return None


pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")
on_memory = pytest.mark.parametrize("either", ["memory"], indirect=True)


def argv(socket: Path, *words: str, engine: Path = ENGINE, **options: object) -> list[str]:
    """A job on the server at `socket`; option names have "_" as in fio's job files."""
    named = {"name": "job", "ioengine": f"external:{engine}", "socket": socket, **options}
    return ["fio", *(f"--{key}={value}" for key, value in named.items()), *words]


def fio(socket: Path, *words: str, **options: object) -> Any:
    """The report on the job, or the first one, of a run without errors."""
    out = socket.parent / "fio.json"
    output = ["--output-format=json", f"--output={out}"]
    command = argv(socket, "--group_reporting", *words, **options)
    run([*command, *output], timeout=FIO_S, cwd=socket.parent)
    text = out.read_text()
    jobs = json.loads(text[text.index("{") :])["jobs"]  # there may be notes before
    assert not any(job["error"] for job in jobs)
    return jobs[0]


def refused(socket: Path, *words: str, **options: object) -> str:
    """What fio says when it ends with an error."""
    result = run(argv(socket, *words, **options), timeout=FIO_S, check=False, cwd=socket.parent)
    assert result.returncode > 0, result.stdout + result.stderr
    return result.stderr + result.stdout


def counters(socket: Path, **options: object) -> list[dict[str, int]]:
    """Of a run, one for each volume of each job."""
    path = socket.parent / "counters"
    path.unlink(missing_ok=True)
    fio(socket, counters=path, **options)
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module", params=["memory", "file"])
def either(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A server with the volumes "a" and "b" of 16 MiB, which the tests of this module share."""
    with TemporaryDirectory(prefix="ovsshm-") as name:
        path = Path(name)
        pool = path / "pool"
        pool.mkdir()
        store = ["--pool", str(pool)] if request.param == "file" else ["--store", "memory"]
        process = ServerProcess(path / "s.sock", store, log=path / "log")
        with ExitStack() as stack:
            stack.callback(process.kill)
            yield with_volumes(process.start())
            process.stop()


@pytest.fixture
def memory(server: Start) -> ServerProcess:
    """A server of its own, for those who look at its state or end it."""
    return with_volumes(server("--store", "memory"))


def with_volumes(process: ServerProcess) -> ServerProcess:
    process.client("create", "a", "16M")
    process.client("create", "b", "16M")
    return process


# ---- contents ------------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", [0, 1])
@pytest.mark.parametrize("depth", [1, 32, 128])
def test_what_was_written_is_read(either: ServerProcess, depth: int, copy: int) -> None:
    job = fio(
        either.socket,
        filename="a",
        rw="randrw",
        bs="4k",
        iodepth=depth,
        copy=copy,
        verify="crc32c",
    )
    assert job["write"]["total_ios"] + job["read"]["total_ios"] >= 16 * MIB // (4 * KIB)


@pytest.mark.parametrize("copy", [0, 1])
@pytest.mark.parametrize("bs", ["512", "64k", "1M", "512-128k"])
def test_all_sizes(either: ServerProcess, bs: str, copy: int) -> None:
    sizes = {"bsrange" if "-" in bs else "bs": bs}
    fio(
        either.socket,
        filename="a",
        rw="randwrite",
        iodepth=8,
        size="4M",
        copy=copy,
        serialize_overlap=1,
        verify="crc32c",
        **sizes,
    )


@pytest.mark.parametrize("copy", [0, 1])
def test_offsets_and_sizes_of_any_number_of_bytes(either: ServerProcess, copy: int) -> None:
    fio(
        either.socket,
        filename="a",
        rw="write",
        bsrange="512-70000",
        bs_unaligned=1,
        offset=513,
        iodepth=8,
        size="2M",
        copy=copy,
        verify="crc32c",
    )


def test_longer_requests_than_the_server_takes(server: Start) -> None:
    process = with_volumes(server("--store", "memory", "--request-max", "64k"))
    fio(process.socket, filename="a", rw="write", bs="1M", iodepth=4, verify="crc32c")


@pytest.mark.parametrize("copy", [0, 1])
def test_batches(either: ServerProcess, copy: int) -> None:
    job = fio(
        either.socket,
        filename="a",
        rw="randwrite",
        bs="4k",
        iodepth=32,
        iodepth_batch_submit=16,
        iodepth_batch_complete_min=8,
        iodepth_batch_complete_max=32,
        copy=copy,
        verify="crc32c",
    )
    assert job["iodepth_submit"]["4"] < 10, job["iodepth_submit"]  # percent, up to so many at once
    assert job["iodepth_complete"]["4"] < 10, job["iodepth_complete"]


@pytest.mark.parametrize("copy", [0, 1])
def test_several_volumes_in_a_job(either: ServerProcess, copy: int) -> None:
    fio(
        either.socket,
        filename="a:b",
        rw="randrw",
        bs="4k",
        iodepth=32,
        verify="crc32c",
        copy=copy,
    )
    assert all(volume["allocated_bytes"] > 4 * MIB for volume in either.client_json("list"))


@pytest.mark.parametrize("thread", [0, 1])
def test_two_jobs_on_two_volumes(either: ServerProcess, thread: int) -> None:
    common = {"rw": "randrw", "bs": "4k", "iodepth": 16, "verify": "crc32c", "thread": thread}
    fio(
        either.socket,
        "--name=other",
        *(f"--{key}={value}" for key, value in common.items()),
        f"--ioengine=external:{ENGINE}",
        f"--socket={either.socket}",
        "--filename=b",
        filename="a",
        **common,
    )


@on_memory
@pytest.mark.parametrize("thread", [0, 1])
def test_jobs_that_read_share_a_volume(either: ServerProcess, thread: int) -> None:
    job = fio(
        either.socket, filename="a", rw="randread", bs="4k", numjobs=4, thread=thread, iodepth=4
    )
    assert job["read"]["io_bytes"] == 4 * 16 * MIB


@on_memory
def test_files_closed_and_opened_again_go_on(either: ServerProcess) -> None:
    job = fio(
        either.socket,
        filename="a:b",
        rw="randwrite",
        bs="16k",
        iodepth=4,
        openfiles=1,
        loops=3,
        file_service_type="sequential",
        verify="crc32c",
    )
    assert job["write"]["io_bytes"] == 3 * 32 * MIB


# ---- other requests ------------------------------------------------------------------------------


@pytest.mark.parametrize("trim_op", ["discard", "zeroes"])
def test_trimmed_ranges_read_as_zeroes(either: ServerProcess, trim_op: str, tmp_path: Path) -> None:
    fio(either.socket, filename="a", rw="write", bs="64k", size="2M", iodepth=4)
    job = fio(
        either.socket, filename="a", rw="trim", bs="64k", size="1M", iodepth=4, trim_op=trim_op
    )
    assert job["trim"]["io_bytes"] == MIB
    out = tmp_path / "out"
    either.client("export", "a", str(out))
    data = out.read_bytes()
    assert not any(data[:MIB])
    assert any(data[MIB : 2 * MIB])


def test_trims_between_writes_verify(either: ServerProcess) -> None:
    fio(
        either.socket,
        filename="a",
        rw="randtrimwrite",
        bs="4k",
        iodepth=8,
        size="4M",
    )


@pytest.mark.parametrize("sync", ["fsync", "fdatasync"])
def test_syncs_flush(either: ServerProcess, sync: str) -> None:
    before = either.client_json("status")["requests"]
    job = fio(either.socket, filename="a", rw="randwrite", bs="4k", size="1M", **{sync: 4})
    assert job["sync"]["lat_ns"]["N"] == 63  # none after the last write
    assert either.client_json("status")["requests"] == before + 256 + 63


def test_writes_through(either: ServerProcess) -> None:
    fio(either.socket, filename="a", rw="write", bs="4k", size="512k", sync=1, verify="crc32c")


# ---- costs ---------------------------------------------------------------------------------------


@on_memory
@pytest.mark.parametrize("rw", ["randread", "randwrite"])
def test_buffers_of_one_volume_are_not_copied(either: ServerProcess, rw: str) -> None:
    (line,) = counters(either.socket, filename="a", rw=rw, bs="4k", iodepth=32)
    assert line["requests"] == 4096
    assert line["bounced_bytes"] == 0


@on_memory
def test_reads_of_several_volumes_are_not_copied(either: ServerProcess) -> None:
    lines = counters(either.socket, filename="a:b", rw="randread", bs="4k", iodepth=32)
    assert [line["requests"] for line in lines] == [4096, 4096]
    assert [line["bounced_bytes"] for line in lines] == [0, 0]


@on_memory
@pytest.mark.parametrize("rw", ["randread", "randwrite"])
def test_private_buffers_are_copied_once(either: ServerProcess, rw: str) -> None:
    (line,) = counters(either.socket, filename="a", rw=rw, bs="4k", iodepth=32, copy=1)
    assert line["bounced_bytes"] == 16 * MIB


@on_memory
def test_without_polling_it_sleeps(either: ServerProcess) -> None:
    (line,) = counters(
        either.socket, filename="a", rw="randread", bs="4k", size="1M", poll=0, iodepth=1
    )
    assert line["sleeps"] > 64  # the others were there at the last look


# ---- what goes wrong -----------------------------------------------------------------------------


def test_wrong_socket_is_named(short_dir: Path) -> None:
    socket = short_dir / "none.sock"
    said = refused(socket, filename="a", rw="read")
    assert f"cannot connect to {socket}" in said


@on_memory
def test_missing_volume_is_named(either: ServerProcess) -> None:
    assert 'volume "c" does not exist' in refused(
        either.socket, filename="c", rw="write", size="1M"
    )
    assert {volume["name"] for volume in either.client_json("list")} == {"a", "b"}


@on_memory
def test_busy_volume_names_who_has_it(either: ServerProcess, cleanup: ExitStack) -> None:
    holder = subprocess.Popen(
        argv(either.socket, filename="a", rw="write", bs="4k", time_based=1, runtime=120),
        stdout=subprocess.DEVNULL,
        cwd=either.socket.parent,
    )
    cleanup.callback(holder.wait, STOP_S)
    cleanup.callback(holder.terminate)
    wait_until(lambda: either.client_json("info", "a")["writers"] == 1)
    said = refused(either.socket, filename="a", rw="randwrite", bs="4k")
    assert re.search(r'volume "a" is open for writing by pid \d+ \(fio\)', said)
    fio(either.socket, filename="a", rw="randread", bs="4k", size="1M")


@pytest.mark.parametrize("store_error", ["EIO", "ENOSPC"])
def test_error_of_the_store_ends_the_job(server: Start, store_error: str) -> None:
    options = [f"error={store_error}", "error-op=write", "error-after=100"]
    process = with_volumes(
        server("--store", "fault", *(word for o in options for word in ("--store-option", o)))
    )
    said = refused(process.socket, filename="a", rw="write", bs="4k", iodepth=16)
    assert "the server answered: " in said


def test_misaligned_requests_say_what_is_wanted(server: Start) -> None:
    process = server("--store", "fault", "--store-option", "block-bytes=4096")
    process.client("create", "a", "1M")
    said = refused(process.socket, filename="a", rw="write", bs="512")
    assert "4096" in said


@pytest.mark.parametrize("volumes", ["a", "a:b"])
@pytest.mark.parametrize("depth", [1, 32])
def test_killed_server_ends_the_job(memory: ServerProcess, volumes: str, depth: int) -> None:
    job = subprocess.Popen(
        argv(
            memory.socket,
            filename=volumes,
            rw="randrw",
            bs="4k",
            iodepth=depth,
            time_based=1,
            runtime=120,
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=memory.socket.parent,
    )
    try:
        wait_until(lambda: memory.client_json("status")["requests"] > 100)
        memory.kill()
        said, _ = job.communicate(timeout=STOP_S)
    finally:
        job.kill()
        job.wait(STOP_S)
    assert job.returncode > 0
    assert "has gone away" in said
    memory.socket.unlink(missing_ok=True)


def test_more_buffers_than_the_server_shares_need_copies(server: Start) -> None:
    process = with_volumes(server("--store", "memory", "--arena-max", "4M"))
    job = {"filename": "a", "rw": "write", "bs": "1M", "iodepth": 16}
    assert "use copy=1" in refused(process.socket, **job)
    fio(process.socket, copy=1, verify="crc32c", **job)


@on_memory
def test_memory_of_another_kind_is_refused(either: ServerProcess) -> None:
    assert "mem= cannot be used" in refused(either.socket, filename="a", rw="write", mem="mmap")


@on_memory
def test_another_fio_is_refused(either: ServerProcess, tmp_path: Path) -> None:
    version = run(["fio", "--version"]).stdout.strip().encode() + b"\0"
    image = ENGINE.read_bytes()
    assert version in image
    other = tmp_path / "lib" / "fio" / "openvstorage.so"
    other.parent.mkdir(parents=True)
    other.write_bytes(image.replace(version, b"x" * (len(version) - 1) + b"\0"))
    for library in (TOP / "build" / "release").glob("libovsvolumedriver.so.*"):
        shutil.copy(library, other.parent.parent)
    said = refused(either.socket, engine=other, filename="a", rw="read")
    assert "this engine was built for xxxx" in said
    assert version[:-1].decode() in said


# ---- for users -----------------------------------------------------------------------------------


@on_memory
def test_job_file_of_the_manual(either: ServerProcess) -> None:
    document = (TOP / "docs" / "FIO.md").read_text()
    installed = "/usr/local/lib/fio/openvstorage.so"
    jobs = [t.content for t in MarkdownIt().parse(document) if t.info == "ini"]
    assert jobs
    for number, job in enumerate(jobs):
        assert installed in job
        path = either.socket.parent / f"{number}.fio"
        path.write_text(job.replace(installed, str(ENGINE)))
        run(
            ["fio", path],
            env={"OVS_SHM_SOCKET": str(either.socket)},
            timeout=FIO_S,
            cwd=path.parent,
        )


def test_manual_names_every_option() -> None:
    said = run(["fio", f"--enghelp={ENGINE}"]).stdout
    options = [line.split()[0] for line in said.splitlines() if ":" in line]
    assert "socket" in options
    document = (TOP / "docs" / "FIO.md").read_text()
    assert [name for name in options if f"| `{name}=" not in document] == []


@on_memory
def test_installation_works(either: ServerProcess, tmp_path: Path) -> None:
    run(
        ["make", "-C", TOP / "csrc" / "fio", "install", f"PREFIX={tmp_path}"],
        env={"MAKEFLAGS": ""},
    )
    engine = tmp_path / "lib" / "fio" / "openvstorage.so"
    for library in (TOP / "build" / "release").glob("libovsvolumedriver.so.*"):
        shutil.copy(library, engine.parent.parent)
    path = {"env": {"LD_LIBRARY_PATH": ""}, "cwd": either.socket.parent}
    job = argv(either.socket, engine=engine, filename="a", rw="read", bs="64k")
    assert "err= 0" in run(job, **path).stdout
    assert os.fspath(TOP) not in engine.read_bytes().decode("latin1")
