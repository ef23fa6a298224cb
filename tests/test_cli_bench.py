# SPDX-License-Identifier: MIT
"""`shmclient bench`, and what it measures with: shmclient.Load and shmclient.LatencyHistogram.

Method: percentiles against the sorted list of what was counted; loads against the counters of a
real server; the command for what it prints and refuses.
"""

import json
import math
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction

import pytest
from conftest import STOP_S, ServerProcess, client_argv
from hypothesis import given
from hypothesis import strategies as st
from terminal import on_terminal

import shmclient

MiB = 1 << 20
SHORT_NS = 100_000_000


@pytest.fixture
def memory(server: Callable[..., ServerProcess]) -> ServerProcess:
    """With 4 MiB of data in "vol"."""
    started = server("--store", "memory")
    with shmclient.connect(started.socket) as connection:
        connection.create("vol", 4 * MiB)
        with connection.open("vol", writable=True) as volume:
            volume.pwrite(b"x" * (4 * MiB), 0)
    return started


# ---- percentiles -------------------------------------------------------------------------------


def counted(latencies: list[int]) -> shmclient.LatencyHistogram:
    histogram = shmclient.LatencyHistogram()
    for latency in latencies:
        histogram.add(latency)
    return histogram


def nearest_rank(latencies: list[int], percent: float) -> int:
    """The definition: the least value that so many per cent do not exceed."""
    rank = math.ceil(len(latencies) * Fraction(str(percent)) / 100)
    return sorted(latencies)[max(rank, 1) - 1]


@given(
    st.lists(st.one_of(st.integers(0, 1000), st.integers(0, 2**62)), min_size=1, max_size=200),
    st.sampled_from([0, 0.1, 1, 25, 50, 75, 90, 99, 99.9, 100]),
)
def test_percentiles_are_right_within_half_a_per_cent(latencies, percent):
    histogram = counted(latencies)
    expected = nearest_rank(latencies, percent)
    assert abs(histogram.percentile_ns(percent) - expected) <= expected / 200
    assert histogram.count == len(latencies)
    assert histogram.min_ns == min(latencies)
    assert histogram.max_ns == max(latencies) == histogram.percentile_ns(100)


def test_percentiles_of_known_latencies():
    histogram = counted(list(range(1, 201)))  # below 256 ns a bucket is a nanosecond
    assert [histogram.percentile_ns(p) for p in (0, 0.5, 50, 90, 99, 99.9, 100)] == [
        1, 1, 100, 180, 198, 200, 200,
    ]  # fmt: skip
    assert histogram.mean_ns == 100.5
    tail = counted([1000] * 999 + [10**9])
    assert abs(tail.percentile_ns(99.9) - 1000) <= 4
    assert tail.percentile_ns(99.95) == 10**9


def test_percentiles_of_nothing_are_zero():
    empty = shmclient.LatencyHistogram()
    assert (empty.count, empty.min_ns, empty.max_ns, empty.mean_ns) == (0, 0, 0, 0)
    assert empty.percentile_ns(50) == 0


def test_percentiles_of_two_histograms_together():
    first, second = counted([1, 2, 3]), counted([100, 200])
    first.merge(second)
    assert [first.percentile_ns(p) for p in (20, 60, 80, 100)] == [1, 3, 100, 200]
    assert (first.count, first.min_ns, first.max_ns, second.count) == (5, 1, 200, 2)


@pytest.mark.parametrize("percent", [-1, 100.1, math.nan])
def test_percentiles_outside_of_0_to_100_are_refused(percent):
    with pytest.raises(ValueError, match="0 to 100"):
        counted([1]).percentile_ns(percent)


# ---- the load ----------------------------------------------------------------------------------


def run_for(load: shmclient.Load, requests: int) -> None:
    """However long that takes."""
    running = threading.Thread(target=load.run, args=(600 * 10**9,))
    running.start()
    while load.reads + load.writes < requests:
        assert running.is_alive()
    load.stop()
    running.join(STOP_S)
    assert not running.is_alive()


def test_load_counts_what_the_server_counts(memory):
    with shmclient.connect(memory.socket) as connection:
        load = shmclient.Load(connection.open("vol"), depth=4, block_bytes=8192)
        load.run(SHORT_NS)
        (session,) = connection.sessions()
        assert session.reads == load.reads == load.read_latencies.count > 0
        assert session.read_bytes == load.reads * 8192
        assert load.writes == load.write_latencies.count == session.writes == 0
        assert load.elapsed_ns >= SHORT_NS
        assert 0 < load.cpu_ns <= load.elapsed_ns
        assert 0 < load.read_latencies.min_ns <= load.read_latencies.max_ns <= load.elapsed_ns


def test_load_writes_its_range_and_nothing_else(memory):
    with shmclient.connect(memory.socket) as connection:
        for random in (True, False):
            load = shmclient.Load(
                connection.open("vol", writable=True),
                read_percent=0,
                random=random,
                offset_bytes=MiB,
                length_bytes=3 * 4096 + 100,  # the rest of a block is no block
            )
            run_for(load, 200)
            del load
            with connection.open("vol", writable=True) as volume:
                data = volume.pread(4 * MiB, 0)
                assert data[:MiB] == b"x" * MiB
                assert data[MiB + 3 * 4096 :] == b"x" * (3 * MiB - 3 * 4096)
                for block in range(3):
                    written = data[MiB + block * 4096 :][:4096]
                    assert written.count(0) < 100
                    assert written != b"x" * 4096
                volume.pwrite(b"x" * (3 * 4096), MiB)


def test_load_mixes_as_it_is_told(memory):
    with shmclient.connect(memory.socket) as connection:
        load = shmclient.Load(connection.open("vol", writable=True), read_percent=70, depth=16)
        run_for(load, 5000)
    assert 0.6 < load.reads / (load.reads + load.writes) < 0.8


def test_load_keeps_as_many_in_flight_as_it_is_told(server):
    slow = server("--store", "fault", "--store-option", "delay-ms=200")
    with shmclient.connect(slow.socket) as connection:
        connection.create("vol", MiB)
        load = shmclient.Load(connection.open("vol"), depth=7)
        running = threading.Thread(target=load.run, args=(600 * SHORT_NS,))
        running.start()
        most = 0
        while load.reads < 21:
            most = max(most, connection.sessions()[0].in_flight)
        load.stop()
        running.join(STOP_S)
        assert most == 7
        assert load.reads == connection.sessions()[0].reads


def test_load_takes_the_volume_over_and_runs_once(memory):
    with shmclient.connect(memory.socket) as connection:
        volume = connection.open("vol")
        load = shmclient.Load(volume)
        with pytest.raises(ValueError, match="closed"):
            volume.pread(1, 0)
        with pytest.raises(RuntimeError, match="not over"):
            _ = load.elapsed_ns
        load.run(1)
        with pytest.raises(RuntimeError, match="already"):
            load.run(1)
        assert connection.stat("vol").readers == 1
        del load
        connection.open("vol", writable=True).close()


@pytest.mark.parametrize(
    "options",
    [
        {"read_percent": 101},
        {"read_percent": -1},
        {"block_bytes": 0},
        {"block_bytes": 8 * MiB},
        {"depth": 0},
        {"depth": 257},
        {"offset_bytes": 4 * MiB},
        {"length_bytes": 4095},
    ],
)
def test_load_that_makes_no_sense_is_refused(memory, options):
    with (
        shmclient.connect(memory.socket) as connection,
        connection.open("vol") as volume,
        pytest.raises(ValueError, match=r"must|no room"),
    ):
        shmclient.Load(volume, **options)


def test_load_without_room_in_the_arena_is_refused(memory):
    with (
        shmclient.connect(memory.socket) as connection,
        connection.open("vol", arena_bytes=MiB) as volume,
        pytest.raises(OSError, match="arena"),
    ):
        shmclient.Load(volume, depth=3, block_bytes=MiB // 2)


def test_load_ends_with_the_first_failure(server):
    bad = server(
        "--store", "fault", "--store-option", "error=EIO", "--store-option", "error-after=100"
    )  # fmt: skip
    with shmclient.connect(bad.socket) as connection:
        connection.create("vol", MiB)
        load = shmclient.Load(connection.open("vol"), depth=4)
        with pytest.raises(OSError, match=r'read of 4096 bytes .* "vol" failed: Input/output'):
            load.run(600 * SHORT_NS)
        assert 96 <= load.reads <= 104


def test_load_ends_when_the_server_dies(memory):
    with shmclient.connect(memory.socket) as connection:
        load = shmclient.Load(connection.open("vol"), depth=4)
        failures = []

        def run() -> None:
            try:
                load.run(600 * SHORT_NS)
            except OSError as error:
                failures.append(error)

        running = threading.Thread(target=run)
        running.start()
        while load.reads == 0:
            assert running.is_alive()
        memory.kill()
        running.join(STOP_S)
        assert len(failures) == 1


# ---- the command -------------------------------------------------------------------------------


def test_bench_reports_what_it_measured(memory):
    report = memory.client_json("bench", "vol", "--duration", "200ms", "--depth", "8")
    assert report["volume"] == "vol"
    assert (report["rw"], report["pattern"], report["depth"]) == ("read", "random", 8)
    assert report["block_bytes"] == 4096
    assert report["duration_ns"] >= 200_000_000
    assert report["write"] is None
    found = report["read"]
    assert found["requests"] == memory.client_json("status")["requests"] - 4  # what filled it
    assert found["requests_per_s"] == pytest.approx(found["requests"] * 1e9 / report["duration_ns"])
    assert found["bytes_per_s"] == pytest.approx(found["requests_per_s"] * 4096)
    latencies = [found["latency_ns"][name] for name in ("min", "p50", "p90", "p99", "p99.9", "max")]
    assert latencies == sorted(latencies)
    assert found["latency_ns"]["min"] <= found["latency_ns"]["mean"] <= found["latency_ns"]["max"]
    assert 0 < report["cpu_ns_per_request"] < 8 * found["latency_ns"]["max"]


def test_bench_prints_a_table(memory):
    words = ("--rw", "rw", "--mix", "30", "--pattern", "sequential", "--block-size", "64K")
    output = memory.client(
        "bench", "vol", *words, "--depth", "2", "--duration", "200ms", "--destroy-data"
    ).stdout
    first, heading, *lines, last = output.splitlines()
    assert first.startswith("sequential rw of 64 KiB, depth 2, ")
    assert " ".join(heading.split()) == "IOPS RATE MEAN P50 P90 P99 P99.9 MAX"
    assert [line.split()[0] for line in lines] == ["read", "write"]
    assert max(map(len, output.splitlines())) <= 80
    assert last.startswith("client CPU: ")


def test_bench_finds_room_for_blocks_of_any_size(memory):
    """The arena gives out powers of two."""
    words = ("--block-size", "2600K", "--depth", "20", "--duration", "50ms")
    memory.client("--json", "bench", "vol", *words)
    result = memory.client("bench", "vol", "--block-size", "3M", "--depth", "65", check=False)
    assert "do not fit into the 256 MiB" in result.stderr


def test_bench_writes_only_when_it_may(memory):
    with shmclient.connect(memory.socket) as connection, connection.open("vol") as volume:
        before = volume.pread(4 * MiB, 0)
        for rw in ("write", "rw"):
            result = memory.client("bench", "vol", "--rw", rw, check=False)
            assert result.returncode == 2
            assert "--destroy-data allows it" in result.stderr
        assert volume.pread(4 * MiB, 0) == before
        memory.client(
            "bench", "vol", "--rw", "write", "--duration", "100ms", "--destroy-data",
            "--offset", "1M", "--length", "1M",
        )  # fmt: skip
        after = volume.pread(4 * MiB, 0)
    assert (after[:MiB], after[2 * MiB :]) == (before[:MiB], before[2 * MiB :])
    assert after[MiB : 2 * MiB] != before[MiB : 2 * MiB]


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("none",), '"none" does not exist'),
        (("vol", "--block-size", "8M", "--depth", "1"), "no block of 8 MiB"),
        (("vol", "--offset", "4M"), "no block of 4 KiB"),
        (("vol", "--block-size", "1M", "--depth", "1000"), "do not fit"),
    ],
)
def test_bench_that_cannot_be_done_is_refused(memory, words, cause):
    result = memory.client("bench", *words, check=False)
    assert result.returncode == 1
    assert cause in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--rw", "trim"),
        ("--mix", "101"),
        ("--depth", "0"),
        ("--duration", "0"),
        ("--duration", "long"),
        ("--block-size", "0"),
        ("--pattern", "zigzag"),
        ("--seed", "-1"),
    ],
)
def test_bench_with_wrong_options_ends_with_2(memory, words):
    assert memory.client("bench", "vol", *words, check=False).returncode == 2


def test_bench_that_is_interrupted_reports_what_it_has(memory, cleanup: ExitStack):
    process = cleanup.enter_context(
        subprocess.Popen(
            client_argv(memory.socket, "--json", "bench", "vol", "--duration", "10m"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    )
    cleanup.callback(process.kill)
    with shmclient.connect(memory.socket) as connection:
        while not any(one.reads > 100 for one in connection.sessions()):
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, said = process.communicate(timeout=STOP_S)
    assert process.returncode == -signal.SIGINT
    assert said == b""
    assert json.loads(output)["read"]["requests"] > 100


def test_bench_shows_rates_while_it_runs_on_a_terminal(memory, cleanup: ExitStack):
    argv = client_argv(memory.socket, "--json", "bench", "vol", "--duration", "1s")
    output = on_terminal(cleanup, argv, stream="stderr", columns=100)
    assert "IOPS" in output
