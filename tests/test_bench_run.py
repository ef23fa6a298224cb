# SPDX-License-Identifier: MIT
"""benchmarks: the order of samples, who is left out, the end of the time, the end by hand."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jsonschema
import pytest
from conftest import TOP, run

from benchmarks import idle, plan, record, runner
from benchmarks.budget import LONGEST_S, SHORTEST_S, Budget
from benchmarks.load import Command, LoadFailed, NoLoad, Outcome, Workload
from benchmarks.peers import PEERS, Disk, Peer, PeerUnavailable, QemuDisk
from benchmarks.runner import Cell, Runner

BENCHMARKS = [sys.executable, "-m", "benchmarks"]
OPEN = Workload("openloop", 4096, 64, "fio", rate=5000)
READ, WRITE = Workload("read", 4096, 1), Workload("write", 4096, 1)


class Watcher:
    """Can end a run after so many samples."""

    def __init__(self, stop: Callable[[], bool] = lambda: False) -> None:
        self._stop = stop

    def phase(self, what: str, steps: int) -> None: ...
    def round(self, number: int, of: int) -> None: ...
    def doing(self, what: str) -> None: ...
    def skipped(self, what: str, reason: str) -> None: ...

    def step(self) -> None:
        if self._stop():
            raise KeyboardInterrupt


class Echo:
    """A loader that says what it was told, and is believed."""

    TIMED = False

    def command(
        self, disks: Sequence[Disk], workload: Workload, requests: int, seconds: float | None
    ) -> Command:
        disk = disks[0].qemu
        assert disk is not None
        if disk.filename == "reads" and workload == WRITE:
            raise NoLoad("only reads")
        return Command(("false" if disk.filename == "broken" else "true",))

    def outcome(self, output: str, workload: Workload, requests: int) -> Outcome:
        return Outcome(1000, 0.1)


def maker(filename: str = "") -> runner.Maker:
    @contextlib.contextmanager
    def make(volumes: int, size_bytes: int, scratch: Path) -> Iterator[Peer]:
        if filename == "absent":
            raise PeerUnavailable("it is not installed")
        copies = {"read": 2, "write": 1}
        yield Peer(
            "its own name", "file", "file", (Disk(QemuDisk(filename)),) * volumes, copies=copies
        )

    return make


@pytest.fixture
def make_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Runner]:
    monkeypatch.setattr(runner, "PROGRAMS", {"qemu-img": Echo(), "fio": Echo()})
    monkeypatch.setattr(runner, "qemu_img", Echo())
    monkeypatch.setattr(runner, "handover_ns", lambda: 100)

    def make(watcher: Watcher | None = None, **peers: str) -> Runner:
        makers = {name: maker(kind) for name, kind in peers.items()}
        return Runner(makers, tmp_path, watcher or Watcher())

    return make


# ---- the runner ----


def test_peers_take_turns_in_every_round(make_runner: Callable[..., Runner]) -> None:
    made = make_runner(a="", b="", c="")
    made.run([Cell(READ, ("a", "b"), 3), Cell(WRITE, ("b", "c"), 2)], 60, seconds=0.1)
    order = [(one.round, one.workload, one.peer) for one in made.records]
    reads = [[(number, "read", "a"), (number, "read", "b")] for number in range(3)]
    writes = [[(number, "write", "b"), (number, "write", "c")] for number in range(2)]
    assert order == [*reads[0], *writes[0], *reads[1], *writes[1], *reads[2]]
    assert made.finished
    assert {one.placement for one in made.records} == {"near"}
    assert [one.copied_bytes_per_io for one in made.records[:3]] == [8192, 8192, 4096]


def test_volumes_are_a_stage_of_their_own(make_runner: Callable[..., Runner]) -> None:
    made = make_runner(a="")
    many = Workload("read", 4096, 1, volumes=4)
    made.run([Cell(many, ("a",), 1), Cell(READ, ("a",), 2)], 60, seconds=0.1)
    assert [one.volumes for one in made.records] == [1, 1, 4]


def test_who_cannot_run_is_named_and_the_others_go_on(make_runner: Callable[..., Runner]) -> None:
    made = make_runner(a="", b="absent", c="broken", d="reads")
    cells = [Cell(READ, ("a", "b", "c", "d"), 1), Cell(WRITE, ("a", "d"), 1)]
    made.run(cells, 60, seconds=0.1)
    assert [(one.peer, one.workload) for one in made.records] == [
        ("a", "read"),
        ("d", "read"),
        ("a", "write"),
    ]
    assert made.skipped["b"] == "it is not installed"
    assert "status 1" in made.skipped["c"]
    assert made.skipped[f"d: {WRITE}"] == "only reads"
    assert sorted(made.peers) == ["a", "d"]


def test_a_sample_that_fails_does_not_end_the_run(
    make_runner: Callable[..., Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnceWrong(Echo):
        said = 0

        def outcome(self, output: str, workload: Workload, requests: int) -> Outcome:
            self.said += 1
            if self.said == 4:  # after its rate and the pass that counts, the second round
                raise LoadFailed("what?")
            return Outcome(1000, 0.1)

    monkeypatch.setattr(runner, "PROGRAMS", {"qemu-img": OnceWrong()})
    made = make_runner(a="")
    made.run([Cell(READ, ("a",), 3)], 60, seconds=0.1)
    assert [one.round for one in made.records] == [0, 2]
    assert made.skipped == {f"a: {READ}, round 2": "what?"}


def test_what_was_measured_before_an_interruption_is_kept(
    make_runner: Callable[..., Runner],
) -> None:
    made = make_runner(Watcher(lambda: len(made.records) == 3), a="", b="")
    with pytest.raises(KeyboardInterrupt):
        made.run([Cell(READ, ("a", "b"), 5)], 60, seconds=0.1)
    assert len(made.records) == 3
    assert not made.finished


def test_no_sample_begins_after_the_time(make_runner: Callable[..., Runner]) -> None:
    made = make_runner(a="")
    made.run([Cell(READ, ("a",), 5)], 0)
    assert not made.records
    assert not made.finished
    assert any(note.startswith("no time to count: a") for note in made.notes)
    assert any(note.startswith("out of time in round 1") for note in made.notes)


# ---- time ----


def test_samples_share_the_time_that_is_left() -> None:
    now = 0.0
    budget = Budget(100, 100, clock=lambda: now)
    assert budget.length() == pytest.approx(0.75)  # 1 s, less what a loader takes to start
    for _ in range(50):
        length = budget.length()
        now += length + 0.5  # starting takes longer than thought
        budget.used(length, length + 0.5)
    assert budget.length() < 0.75
    while not budget.spent and len(budget.lengths) < 100:
        length = budget.length()
        now += length + 0.5
        budget.used(length, length + 0.5)
    assert len(budget.lengths) == 100
    assert now <= 101


def test_samples_are_neither_too_short_nor_too_long() -> None:
    assert Budget(1, 1000).length() == SHORTEST_S
    assert Budget(1000, 1).length() == LONGEST_S
    assert Budget(0, 1, 0.3).length() == 0.3
    assert not Budget(0, 1, 0.3).spent


def test_samples_of_more_weight_are_longer() -> None:
    budget = Budget(100, 20, weight=50, clock=lambda: 0.0)
    assert budget.length() == pytest.approx((100 - 20 * 0.25) / 50)
    assert budget.length(1) == pytest.approx(budget.length(0.5) * 2)
    budget.used(0.8, 1.05, 0.4)
    assert budget.length(0.4) == pytest.approx(0.4 * (100 - 19 * 0.25) / 49.6)


# ---- the plan ----


def test_every_name_in_the_plan_is_a_peer_and_figures_have_five_rounds() -> None:
    for cells in (plan.full(), plan.quick()):
        for cell in plan.resolved(cells, list(PEERS)):
            assert cell.peers
            if cell.workload.name in ("read", "randread") and cell.workload.volumes == 1:
                assert cell.rounds >= 5 or cell.workload.depth not in (1, 32)
    names = {name for cell in plan.resolved(plan.full(), list(PEERS)) for name in cell.peers}
    assert "shm memory events" in names


def test_loads_are_chosen_by_words_and_peers_by_pattern() -> None:
    cells = plan.resolved(plan.full(), ["shm memory", "null-co", "FUSE memory direct"])
    found = plan.chosen(cells, ["*m memory"], ["4k read 32 qemu-img"], 7)
    assert [str(cell.workload) for cell in found] == ["4k read, depth 32 (qemu-img)"]
    assert (found[0].peers, found[0].rounds) == (("shm memory",), 7)
    assert not plan.chosen(cells, ["nobody"], [], None)


# ---- the command ----


def test_list_and_wrong_usage() -> None:
    listed = run([*BENCHMARKS, "--list", "--quick"], cwd=TOP).stdout
    assert "4k read, depth 32 (qemu-img)" in listed
    assert "shm memory" in listed
    for options in (["--workload", "no such"], ["--rounds", "0"], ["--budget", "-1"]):
        assert run([*BENCHMARKS, *options], cwd=TOP, check=False).returncode == 2


@pytest.mark.qemu
def test_two_peers_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    options = ["--peer", "shm memory", "--peer", "plain file", "--rounds", "2", "--sample", "0.1"]
    options += ["--workload", "qemu-img 4k read 32", "--workload", str(OPEN)]
    done = run([*BENCHMARKS, *options, "--output", str(out)], cwd=TOP, timeout=120)
    found = record.load(out)
    schema = json.loads(record.SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads(out.read_text()))
    assert found.finished
    qemu = [one for one in found.records if one.loader == "qemu-img"]
    assert [(one.round, one.peer) for one in qemu] == [
        (0, "shm memory"),
        (0, "plain file"),
        (1, "shm memory"),
        (1, "plain file"),
    ]
    assert all(one.doorbells_per_io is not None for one in qemu if one.peer == "shm memory")
    opened = [one for one in found.records if one.workload == "openloop"]
    assert {one.peer for one in opened} >= {"plain file"}
    assert all(one.latency_us and one.latency_cdf and one.rate == 5000 for one in opened)
    for one in found.records:
        assert one.iops > 0
        assert one.cpu_us_per_io is not None
    assert "4k read, depth 32 (qemu-img)" in done.stdout


@pytest.mark.qemu
def test_an_interrupted_run_writes_what_it_has(tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    options = ["--peer", "null-co", "--workload", "qemu-img 4k read 1", "--rounds", "9999"]
    argv = [*BENCHMARKS, *options, "--sample", "0.02", "--output", str(out)]
    with subprocess.Popen(argv, cwd=TOP, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("round 2"):
                    process.send_signal(signal.SIGINT)
                    break
            rest = process.communicate(timeout=60)[0]
        finally:
            process.kill()
    assert process.returncode == 130, rest
    found = record.load(out)
    assert found.records
    assert not found.finished
    assert "interrupted" in found.notes


@pytest.mark.qemu
def test_idle_disks_are_open_and_cost_next_to_nothing(tmp_path: Path) -> None:
    images = [tmp_path / str(number) for number in range(3)]
    for image in images:
        image.write_bytes(bytes(1 << 20))
    disks = [Disk(QemuDisk(str(image), options=("-f", "raw", "-n"))) for image in images]
    found, noise = idle.sample(disks, (), 0.2)
    assert found.cpu_us_per_second.client < 1e6  # of 3 processes; they would use all of it
    assert found.cpu_us_per_second.server == found.wakeups_per_second.server == 0
    assert 0 <= noise <= 1
    missing = Disk(QemuDisk(str(tmp_path / "missing")))
    with pytest.raises(LoadFailed, match="No such file"):
        idle.sample([missing], (), 0.2)
