# SPDX-License-Identifier: MIT
"""Comparing two runs: known changes are found, noise is not one, and what cannot be compared is
refused.  The statistics are checked against sums over all orders.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench_records import MACHINE, idle, openloop, rounds, run_of
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import compare, record, significance
from benchmarks.record import Results
from benchmarks.units import duration, quantity, share, size, times

BASE = [1000e3, 1010e3, 990e3, 1020e3, 980e3]
figures = st.lists(st.floats(1.0, 1e7), min_size=5, max_size=8)


def scaled(factor: float) -> list[float]:
    return [value * factor for value in BASE]


def only(before: Results, after: Results, **options: float) -> compare.Verdict:
    """The verdict on IOPS, of which there must be one."""
    verdicts = compare.compare(before, after, **options)
    (verdict,) = (v for v in verdicts if v.metric.name == "IOPS")
    return verdict


@given(st.integers(1, 4), st.integers(1, 4))
def test_the_distribution_is_that_of_all_orders(before: int, after: int) -> None:
    counted = [0] * (before * after + 1)
    for places in itertools.combinations(range(before + after), after):
        others = set(range(before + after)) - set(places)
        counted[sum(other > place for place in places for other in others)] += 1
    assert significance.inversions(before, after) == counted


@pytest.mark.parametrize(
    ("strata", "pairs"),
    [
        ([(3, 3)], None),  # 1 of 20 orders is more than 1 %
        ([(4, 4)], None),
        ([(5, 5)], 1),  # U = 0 or 1: 2 of 252 orders; 4 of 252 would be more
        ([(3, 3), (2, 2)], 0),  # 1 of 120
        ([], None),
    ],
)
def test_the_cut_is_what_one_counts_by_hand(
    strata: list[tuple[int, int]], pairs: int | None
) -> None:
    assert significance.cut(strata, 0.01) == pairs


def test_the_change_is_the_median_of_the_pairs() -> None:
    found = significance.change([([10.0, 20.0], [30.0]), ([], [5.0]), ([2.0], [2.0])], 0.98)
    assert found is not None
    assert found.ratio == 1.5  # of 1.5, 3 and 1
    assert not found.known
    assert found.high == math.inf
    assert significance.change([([1.0], []), ([], [1.0])], 0.98) is None


@given(figures, figures)
def test_looking_from_the_other_side_gives_the_inverse(
    before: list[float], after: list[float]
) -> None:
    there = significance.change([(before, after)], 0.98)
    back = significance.change([(after, before)], 0.98)
    assert there is not None
    assert back is not None
    assert there.known
    assert there.low <= there.ratio <= there.high
    assert there.low == pytest.approx(1 / back.high)
    assert there.high == pytest.approx(1 / back.low)


@given(figures, st.floats(0.01, 100))
def test_a_factor_on_everything_is_found_exactly(values: list[float], factor: float) -> None:
    same = significance.change([(values, values)], 0.98)
    moved = significance.change([(values, [v * factor for v in values])], 0.98)
    assert same is not None
    assert moved is not None
    assert same.low <= 1 <= same.high
    assert moved.ratio == pytest.approx(same.ratio * factor)


def test_noise_alone_is_called_worse_as_rarely_as_promised() -> None:
    """Two thousand pairs of runs in which nothing changed, with a spread of a third."""
    random = np.random.default_rng(20260102)
    wrong = 0
    for _ in range(2000):
        before, after = random.lognormal(0.0, 0.3, (2, 5))
        found = significance.change([(list(before), list(after))], 0.98)
        assert found is not None
        wrong += found.high < 1
    assert 2 <= wrong <= 32  # 2 of 252 orders: 16 expected


def test_a_regression_is_found() -> None:
    verdict = only(run_of(rounds(BASE)), run_of(rounds(scaled(0.8))))
    assert verdict.decision == compare.WORSE
    assert verdict.change.ratio == pytest.approx(0.8, rel=0.02)
    assert verdict.medians["near"] == compare.Medians(1000e3, 800e3, (5, 5))


def test_an_improvement_is_found() -> None:
    assert only(run_of(rounds(BASE)), run_of(rounds(scaled(1.3)))).decision == compare.BETTER


def test_noise_is_no_change() -> None:
    wild = [700e3, 1300e3, 900e3, 1100e3, 1000e3]
    assert (
        only(run_of(rounds(wild)), run_of(rounds([v * 0.9 for v in wild]))).decision == compare.SAME
    )


def test_what_is_within_the_threshold_is_no_change() -> None:
    runs = run_of(rounds([1e6] * 5)), run_of(rounds([0.97e6] * 5))
    assert only(*runs).decision == compare.SAME
    assert only(*runs, threshold=0.02).decision == compare.WORSE


def test_three_rounds_decide_nothing() -> None:
    found = only(run_of(rounds([1e6] * 3)), run_of(rounds([0.5e6] * 3)))
    assert found.decision == compare.UNKNOWN
    assert found.change.ratio == 0.5


def test_other_placements_are_not_compared() -> None:
    """The CPUs moved apart between the runs: no regression, and said that nothing was compared."""
    near, far = run_of(rounds(BASE)), run_of(rounds(scaled(0.4), placement="far"))
    assert compare.compare(near, far) == []


def test_placements_are_judged_together_but_each_with_its_own() -> None:
    near, far = [1e6, 1.01e6, 1.02e6], [3e5, 3.1e5, 3.2e5]
    before = run_of(rounds(near), rounds(far, placement="far"))
    after = run_of(rounds([v * 0.8 for v in near]), rounds([v * 0.8 for v in far], placement="far"))
    found = only(before, after)
    assert found.decision == compare.WORSE  # 1 of 400 orders, each alone 1 of 20
    assert set(found.medians) == {"near", "far"}
    assert found.change.ratio == pytest.approx(0.8, rel=0.03)


def test_latency_and_cpu_are_worse_when_they_grow() -> None:
    before = run_of(openloop([40.0, 41, 42, 43, 44]), idle([10.0, 11, 12, 13, 14]))
    after = run_of(openloop([60.0, 61, 62, 63, 64]), idle([5.0, 5.1, 5.2, 5.3, 5.4]))
    found = {(v.metric.name, v.metric.unit): v.decision for v in compare.compare(before, after)}
    assert found == {
        ("p50", "us"): compare.WORSE,
        ("p99", "us"): compare.WORSE,
        ("CPU", "us/IO"): compare.SAME,
        ("CPU", "us/s"): compare.BETTER,
    }


def invoke(tmp_path: Path, before: Results, after: Results, *options: str) -> Result:
    for name, results in (("before", before), ("after", after)):
        record.save(results, tmp_path / f"{name}.json")
    paths = [str(tmp_path / f"{name}.json") for name in ("before", "after")]
    return CliRunner().invoke(compare.main, [*paths, *options])


def test_the_command_fails_for_a_regression_of_ours(tmp_path: Path) -> None:
    done = invoke(tmp_path, run_of(rounds(BASE)), run_of(rounds(scaled(0.7))))
    assert done.exit_code == 1
    assert "worse" in done.output
    assert "-30" in done.output
    assert "warning" not in done.output


def test_the_command_passes_when_nothing_or_only_another_program_changed(tmp_path: Path) -> None:
    same = rounds(BASE)
    done = invoke(tmp_path, run_of(same), run_of(same))
    assert done.exit_code == 0
    assert "no change" in done.output
    other = invoke(
        tmp_path,
        run_of(same, rounds(BASE, peer="qemu-nbd")),
        run_of(same, rounds(scaled(0.5), peer="qemu-nbd")),
    )
    assert other.exit_code == 0
    assert "other people's programs moved by -50.0%" in other.output


def test_the_command_warns_of_another_machine(tmp_path: Path) -> None:
    moved = replace(MACHINE, kernel="7.0", programs=MACHINE.programs | {"fio": "3.99"})
    done = invoke(tmp_path, run_of(rounds(BASE)), run_of(rounds(BASE), environment=moved), "--all")
    assert done.exit_code == 0
    assert "kernel: 6.18.5 before, 7.0 after" in done.output
    assert "fio: 3.33 before, 3.99 after" in done.output
    assert "shm memory" in done.output


def test_json_says_every_verdict(tmp_path: Path) -> None:
    done = invoke(tmp_path, run_of(rounds(BASE)), run_of(rounds(scaled(0.7))), "--json")
    assert done.exit_code == 1
    rows = json.loads(done.stdout)["verdicts"]
    (iops,) = (row for row in rows if row["figure"] == "IOPS")
    assert (iops["peer"], iops["loader"], iops["depth"]) == ("shm memory", "qemu-img", 1)
    assert iops["decision"] == "worse"
    assert iops["interval"][1] < 0.95
    assert iops["medians"]["near"]["before"] == statistics.median(BASE)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            lambda text: text.replace('"schema": 1', '"schema": 2'),
            "no results of python -m benchmarks",
        ),
        (lambda _: "{}", "no results of python -m benchmarks"),
        (lambda text: text.replace('"qemu-img",', '"fio",'), "no peer, load"),
    ],
)
def test_files_that_cannot_be_compared_are_refused(tmp_path: Path, damage, reason: str) -> None:
    good = record.dumps(run_of(rounds(BASE)))
    (tmp_path / "a").write_text(good)
    (tmp_path / "b").write_text(damage(good))
    done = CliRunner().invoke(compare.main, [str(tmp_path / "a"), str(tmp_path / "b")])
    assert done.exit_code == 2
    assert reason in done.output


def test_a_missing_file_and_a_strange_threshold_are_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(compare.main, [str(tmp_path / "none"), str(tmp_path / "none")])
    assert done.exit_code == 2
    again = invoke(tmp_path, run_of(rounds(BASE)), run_of(rounds(BASE)), "--threshold", "much")
    assert again.exit_code == 2
    assert "write 5% or 0.05" in again.output


def test_help_says_how_it_decides() -> None:
    text = CliRunner().invoke(compare.main, ["--help"]).output
    for words in ("BEFORE", "--threshold", "Exit status", "same placement"):
        assert words in text


def test_quantities_are_written_with_three_digits() -> None:
    assert [quantity(v) for v in (1.034e6, 742e3, 17.16e3, 999.7, 12.34, 0.957, 0.0)] == [
        "1.03 M",
        "742 k",
        "17.2 k",
        "1.00 k",
        "12.3",
        "0.96",
        "0.00",
    ]
    assert [size(v) for v in (4096, 1 << 20, 65536, 512)] == ["4k", "1M", "64k", "512"]
    assert [times(v) for v in (24.2, 1.83, 1.0, 0.97, 0.31)] == [
        "24x", "1.8x", "1.0x", "0.97x", "1/3.2x",
    ]  # fmt: skip
    assert [duration(v) for v in (104, 4147, 2720172)] == ["104 ns", "4.15 us", "2.72 ms"]


@given(st.floats(0, 0.99))
def test_a_share_is_the_same_in_both_spellings(value: float) -> None:
    assert share(str(value)) == value
    assert share(f"{value * 100!r}%") == pytest.approx(value)
