# SPDX-License-Identifier: MIT
"""benchmarks.load and benchmarks.measure: what is asked of the loaders, what is made of their
words, and that costs are those of who caused them."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Literal

import pytest

from benchmarks import measure
from benchmarks.load import Command, LoadFailed, NoLoad, Workload, fio, qemu_img
from benchmarks.measure import Target, Usage
from benchmarks.peers import Disk, FioDisk, QemuDisk

DISK = Disk(
    QemuDisk("disk", prefix=("ovs-qemu",), env={"A": "1"}),
    FioDisk(("--ioengine=psync", "--filename=disk"), prefix=("taskset", "-c", "0")),
)


def calls(number: int) -> Command:
    """A program with so many system calls more than with 0."""
    return Command((sys.executable, "-c", f"import os\nfor _ in range({number}): os.getppid()"))


# ---- command lines ----


def test_qemu_img_is_told_the_load() -> None:
    made = qemu_img.command([DISK], Workload("write", 4096, 32), 1000, None)
    words = "ovs-qemu qemu-img bench -f raw -w -c 1000 -d 32 -s 4096 disk"
    assert made.argv == tuple(words.split())
    assert made.env == {"A": "1"}


def test_fio_is_told_the_load_for_each_volume() -> None:
    made = fio.command([DISK, DISK], Workload("openloop", 4096, 64, "fio", 2, 1000.0), 0, 0.25)
    assert made.argv[:4] == ("taskset", "-c", "0", "fio")
    assert made.argv.count("--filename=disk") == 2
    assert {"--rate_iops=500", "--rate_process=poisson", "--runtime=250ms"} < set(made.argv)
    assert made.argv.index("--name=volume0") < made.argv.index("--name=volume1")


@pytest.mark.parametrize("option", ["fdatasync", "fsync"])
def test_fio_flushes_the_way_its_engine_can(option: Literal["fdatasync", "fsync"]) -> None:
    disk = Disk(fio=FioDisk((), flush=option))
    made = fio.command([disk], Workload("flush", 4096, 1, "fio"), 1, None)
    assert [word for word in made.argv if "sync" in word] == [f"--{option}=1"]


@pytest.mark.parametrize(
    ("program", "disks", "workload"),
    [
        (qemu_img, [DISK], Workload("randread", 4096, 1)),
        (qemu_img, [DISK, DISK], Workload("read", 4096, 1, volumes=2)),
        (qemu_img, [Disk()], Workload("read", 4096, 1)),
        (fio, [Disk()], Workload("randread", 4096, 1, "fio")),
        (fio, [DISK], Workload("idle", 0, 0, "fio")),
    ],
)
def test_a_load_that_cannot_be_is_refused(
    program: object, disks: list[Disk], workload: Workload
) -> None:
    with pytest.raises(NoLoad):
        program.command(disks, workload, 1, None)  # type: ignore[attr-defined]


# ---- their words ----


@pytest.mark.parametrize("program", [qemu_img, fio])
def test_output_without_a_result_is_a_failure(program: object) -> None:
    with pytest.raises(LoadFailed, match="no such"):
        program.outcome("no such disk", Workload("read", 4096, 1), 1)  # type: ignore[attr-defined]


def fio_output(read: dict[int, int], write: dict[int, int]) -> str:
    def direction(bins: dict[int, int]) -> dict[str, object]:
        done = sum(bins.values())
        return {"total_ios": done, "runtime": 500 if done else 0, "lat_ns": {"bins": bins}}

    cpu = {"usr_cpu": 30.0, "sys_cpu": 10.0, "job_runtime": 500}
    job = {"error": 0, **cpu, "read": direction(read), "write": direction(write)}
    return "a warning\n" + json.dumps({"jobs": [job]}, indent=1) + "\n"


def test_reads_and_writes_of_fio_are_one_distribution() -> None:
    text = fio_output({1000: 98, 2000: 1}, {9000: 1})
    found = fio.outcome(text, Workload("randrw", 4096, 1, "fio"), 0)
    assert (found.requests, found.iops, found.client_ns) == (100, 200, 0.2e9)
    assert found.latency_us is not None
    assert (found.latency_us.p50, found.latency_us.p99, found.latency_us.p999) == (1, 2, 9)
    assert found.latency_cdf is not None
    assert found.latency_cdf[-1] == (9, 1)


def test_a_slow_request_counts_those_it_held_up() -> None:
    """1000 per second, one takes 4.5 ms: those of 1, 2, 3 and 4 ms later waited as well."""
    found = fio.expected(Counter({100_000: 99, 4_500_000: 1}), 1e6)
    late = {4_500_000: 1, 3_500_000: 1, 2_500_000: 1, 1_500_000: 1, 500_000: 1}
    assert found == Counter({100_000: 99, **late})


def test_a_cdf_is_short_and_rises() -> None:
    points = fio.cdf(Counter(dict.fromkeys(range(1, 100000), 3)))
    assert points is not None
    assert 100 <= len(points) <= fio.CDF_POINTS + 2
    assert points == sorted(points)
    assert points[-1] == (99.999, 1)
    assert fio.cdf(Counter()) is None
    assert fio.percentiles(Counter()) is None


# ---- costs ----


def test_cpu_is_charged_to_the_client_and_the_server() -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    with subprocess.Popen([sys.executable, "-c", burn + "\ninput()"], stdin=-1) as server:
        output, usage = measure.run(
            Command((sys.executable, "-c", burn + "\nprint('done')")), Target((server.pid,))
        )
        _, lazy = measure.run(Command(("true",)), Target())
        server.communicate(b"\n")
    assert output == "done\n"
    assert usage.client_ns >= 0.2e9
    assert usage.server_ns > 0
    assert lazy.client_ns < 0.2e9
    assert lazy.server_ns == 0
    assert usage.less(lazy).client_ns < usage.client_ns


def test_start_up_is_never_more_than_all() -> None:
    left = Usage(1, 5, 5, 0, 1).less(Usage(1, 7, 3, 0, 4))
    assert (left.client_ns, left.server_ns, left.doorbells) == (0, 2, 0)


def test_a_client_that_fails_is_named_with_its_words() -> None:
    with pytest.raises(LoadFailed, match=r"^sh ended with status 3: no luck"):
        measure.run(Command(("sh", "-c", "echo {}; echo no luck >&2; exit 3")), Target())


def test_system_calls_are_counted_exactly() -> None:
    if "syscalls" not in measure.countable()[0]:
        pytest.skip("; ".join(measure.countable()[1]))
    with_them = measure.count(calls(5000), Target())[1]["syscalls"]
    without = measure.count(calls(0), Target())[1]["syscalls"]
    assert abs(with_them.client - without.client - 5000) < 500  # of the interpreter's start
    assert with_them.server == 0


def test_calls_of_the_servers_threads_are_the_servers(tmp_path: Path) -> None:
    """Also of threads that begin and end while it is counted."""
    if "syscalls" not in measure.countable()[0]:
        pytest.skip("; ".join(measure.countable()[1]))
    go, done = tmp_path / "go", tmp_path / "done"
    for one in (go, done):
        subprocess.run(["mkfifo", one], check=True, timeout=10)
    program = f"""
import os, threading
def work():
    for _ in range(5000): os.getppid()
open({str(go)!r}).read()
thread = threading.Thread(target=work); thread.start(); thread.join()
open({str(done)!r}, "w").write("x")
input()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as server:
        client = Command(("sh", "-c", f"echo > {go}; cat {done}"))
        counts = measure.count(client, Target((server.pid,)))[1]["syscalls"]
        server.communicate(b"\n")
    assert 5000 <= counts.server < 6000
    assert counts.client < 5000


def test_a_server_that_is_gone_is_not_counted_as_zero() -> None:
    if not measure.countable()[0]:
        pytest.skip("; ".join(measure.countable()[1]))
    with subprocess.Popen(["true"]) as gone:
        gone.wait(10)
    with pytest.raises(measure.NotCounted):
        measure.count(calls(0), Target((gone.pid,)))
