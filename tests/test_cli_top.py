# SPDX-License-Identifier: MIT
"""`shmclient top`: what it makes of the server's counters.

Method: the arithmetic on made-up counters; the program next to requests whose number is known.
"""

import json
import os
import pty
import signal
import subprocess
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import STOP_S, ServerProcess, client_argv
from terminal import read_rest

import shmclient
from shmclient.cli.rates import COUNTED, COUNTERS, activity, percentile_ns, together
from shmclient.cli.top import Sample, _rows

SECOND_NS = 10**9


@pytest.fixture
def memory(server) -> ServerProcess:
    started = server("--store", "memory")
    for name in ("a", "b"):
        started.client("create", name, "1M")
    return started


def session(**counters: Any) -> SimpleNamespace:
    """Counters of a session: those not given are 0."""
    zero = dict.fromkeys(("id", "in_flight", *COUNTERS), 0)
    names = {"volume": "vol", "client": "qemu", "pid": 1, "mode": "read"}
    return SimpleNamespace(**{**zero, **names, "latency_counts": [0] * 32, **counters})


# ---- arithmetic --------------------------------------------------------------------------------


def test_rates_are_those_of_the_interval():
    before = session(reads=100, writes=10, read_bytes=4096, latency_ns=5000)
    after = session(
        reads=300, writes=20, others=2, errors=1, read_bytes=8192, latency_ns=26_200, in_flight=3
    )
    did = activity(before, after, 2 * SECOND_NS)
    assert (did.reads, did.writes, did.others, did.errors, did.in_flight) == (200, 10, 2, 1, 3)
    assert did.per_s(did.reads) == 100
    assert did.per_s(did.read_bytes) == 2048
    assert did.mean_ns == 100
    assert did.requests == 212


def test_rates_of_a_new_session_count_from_nothing():
    counts = [0] * 32
    counts[10] = 5
    did = activity(None, session(reads=5, latency_counts=counts), SECOND_NS)
    assert did.reads == 5
    assert 1024 <= did.percentile_ns(99) <= 2048


def test_rates_of_an_idle_session_are_zero():
    did = activity(session(reads=7, latency_ns=9), session(reads=7, latency_ns=9), SECOND_NS)
    assert (did.requests, did.mean_ns, did.percentile_ns(99)) == (0, 0, 0)


def test_sum_of_activities():
    parts = [
        activity(None, session(reads=i, latency_ns=10 * i, in_flight=1), SECOND_NS) for i in (1, 2)
    ]
    did = together(parts)
    assert (did.reads, did.latency_ns, did.in_flight, did.sessions) == (3, 30, 2, 2)
    assert did.elapsed_ns == SECOND_NS


def test_percentile_is_in_the_bucket_of_its_rank():
    counts = [0] * 32
    counts[10], counts[20] = 99, 1  # 99 of 1 to 2 us, one of 1 to 2 ms
    assert percentile_ns(counts, 99) == 2048
    assert 1 << 10 < percentile_ns(counts, 50) < 2 << 10
    assert percentile_ns(counts, 99.1) == 2 << 20
    assert percentile_ns([0] * 32, 99) == 0
    counts = [0] * 32
    counts[0] = 1  # 0 or 1 ns
    assert percentile_ns(counts, 50) <= 2


def rows(by: str, sort: str) -> list[Any]:
    sessions = [
        session(volume="v1", client="qemu", pid=1, reads=10, read_bytes=10),
        session(volume="v1", client="nbd", pid=2, writes=30, written_bytes=1),
        session(volume="v2", client="qemu", pid=1, reads=20, read_bytes=99, in_flight=4),
        session(volume="v0", client="idle", pid=3),
    ]
    sample = Sample(SECOND_NS, [(one, activity(None, one, SECOND_NS)) for one in sessions])
    return [row.key for row in _rows(sample, by, sort)]


def test_lines_are_sorted_and_summed_up():
    assert rows("volume", "requests") == [("v1",), ("v2",), ("v0",)]
    assert rows("volume", "bytes") == [("v2",), ("v1",), ("v0",)]
    assert rows("volume", "name") == [("v0",), ("v1",), ("v2",)]
    assert rows("client", "requests") == [("nbd", 2), ("qemu", 1), ("idle", 3)]
    assert rows("session", "in-flight")[0][:2] == ("v2", "qemu")


# ---- the program -------------------------------------------------------------------------------


class Top:
    """top --json: one object a line."""

    def __init__(self, at: ServerProcess, cleanup: ExitStack, *words: str) -> None:
        self.process = cleanup.enter_context(
            subprocess.Popen(
                client_argv(at.socket, "--json", "top", "--interval", "100ms", *words),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        cleanup.callback(self.process.kill)

    def sample(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


def test_top_counts_every_request_once(memory, cleanup: ExitStack):
    with shmclient.connect(memory.socket) as connection:
        volume = cleanup.enter_context(connection.open("a", writable=True))
        top = Top(memory, cleanup)
        top.sample()
        for i in range(100):
            volume.pread(4096, i * 4096)
            volume.pwrite(b"x" * 512, i * 4096)
        volume.flush()
        with pytest.raises(OSError, match="too large"):
            volume.batch([shmclient.Write(b"x" * 1024, (1 << 20) - 512)])
        seen = dict.fromkeys(COUNTED, 0)
        while seen["writes"] < 101:
            (one,) = top.sample()["sessions"]
            for name in seen:
                seen[name] += one[name]
            assert one["reads_per_s"] >= one["reads"]  # the interval is less than a second
        assert seen == {
            "reads": 100,
            "writes": 101,
            "others": 1,
            "errors": 1,
            "read_bytes": 409600,
            "written_bytes": 51200,
        }
        assert (one["volume"], one["pid"], one["mode"]) == ("a", os.getpid(), "write")


def test_top_sums_up_by_volume_and_by_client(memory, cleanup: ExitStack):
    with shmclient.connect(memory.socket) as connection:
        for name in ("a", "a", "b"):
            cleanup.enter_context(connection.open(name))
        words = ("--once", "--interval", "50ms", "--sort", "name")
        by_volume = memory.client_json("top", "--by", "volume", *words)
        assert [(one["volume"], one["sessions"]) for one in by_volume["volumes"]] == [
            ("a", 2),
            ("b", 1),
        ]
        by_client = memory.client_json("top", "--by", "client", *words)
        assert [(one["pid"], one["sessions"]) for one in by_client["clients"]] == [(os.getpid(), 3)]
        assert by_volume["elapsed_ns"] >= 50_000_000


def test_top_away_from_a_terminal_prints_one_sample_after_the_other(memory):
    with shmclient.connect(memory.socket) as connection, connection.open("a"):
        output = memory.client("top", "-n", "2", "--interval", "50ms").stdout
    samples = output.strip().split("\n\n")
    assert len(samples) == 2
    for sample in samples:
        total, heading, line = sample.splitlines()
        assert "1 session on 1 volume" in total
        assert heading.split()[:4] == ["VOLUME", "CLIENT", "PID", "MODE"]
        assert line.split()[0] == "a"


def test_top_without_sessions_says_so(memory):
    assert "no volume is open" in memory.client("top", "--once", "--interval", "10ms").stdout


def test_top_stays_on_a_terminal_until_it_is_interrupted(memory, cleanup: ExitStack):
    main, end = pty.openpty()
    cleanup.callback(os.close, main)
    process = subprocess.Popen(
        client_argv(memory.socket, "top", "--interval", "50ms"),
        stdout=end,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "20"},
    )
    cleanup.enter_context(process)
    cleanup.callback(process.kill)
    os.close(end)
    output = b""
    with shmclient.connect(memory.socket) as connection, connection.open("b"):
        while output.count(b"1 session on 1 volume") < 3:
            output += os.read(main, 65536)
    process.send_signal(signal.SIGINT)
    output += read_rest(main)
    assert process.wait(STOP_S) == 0
    assert b"\x1b[?1049h" in output  # a screen of its own ...
    assert b"\x1b[?1049l" in output  # ... and back
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_top_ends_when_the_server_does(memory, cleanup: ExitStack):
    top = Top(memory, cleanup)
    top.sample()
    memory.kill()
    _, said = top.process.communicate(timeout=STOP_S)
    assert top.process.returncode == 1
    assert "shmclient: error: cannot ask for the sessions" in said


@pytest.mark.parametrize(
    "words", [("--by", "colour"), ("--sort", "age"), ("-n", "0"), ("--interval", "0")]
)
def test_top_with_wrong_options_ends_with_2(memory, words):
    assert memory.client("top", *words, check=False).returncode == 2
