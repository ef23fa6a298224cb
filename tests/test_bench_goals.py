# SPDX-License-Identifier: MIT
"""benchmarks.goals: ratios of one round and one placement, against the right peer."""

import dataclasses

import pytest
from bench_records import PLAIN

from benchmarks.goals import GOALS, Goal, figure, figures
from benchmarks.record import Cost, Placement, Record

GOAL = Goal("usual", 1, 20, 8, "FUSE memory direct")
BEST = Goal("best", 1, 8, 3, "FUSE memory", best=True)


def sample(peer: str, number: int, iops: float, placement: Placement | None = "near") -> Record:
    return dataclasses.replace(
        PLAIN,
        peer=peer,
        round=number,
        placement=placement,
        iops=iops,
        cpu_us_per_io=Cost(1e6 / iops, 1e6 / iops),
    )


def rounds(peer: str, *iops: float, placement: Placement = "near") -> list[Record]:
    return [sample(peer, number, one, placement) for number, one in enumerate(iops)]


def test_ratios_are_taken_within_a_round() -> None:
    ours, theirs = (100, 1000, 10), (10, 50, 1)  # 10, 20 and 10 times
    found = figure(GOAL, rounds("shm memory", *ours) + rounds(GOAL.other, *theirs), "near")
    assert found is not None
    assert (found.ratio, found.low, found.high) == (10, 10, 20)
    assert (found.rounds, found.paired, found.reached) == (3, True, False)


def test_placements_are_not_mixed() -> None:
    near = rounds("shm memory", 90, 90, 90) + rounds(GOAL.other, 3, 3, 3)
    far = rounds("shm memory", 90, 90, 90, placement="far")
    far += rounds(GOAL.other, 10, 10, 10, placement="far")
    unknown = [dataclasses.replace(one, placement=None, iops=1e9) for one in near]
    for placement, ratio in (("near", 30), ("far", 9)):
        found = figure(GOAL, near + far + unknown, placement)
        assert found is not None
        assert (found.ratio, found.reached) == (ratio, True)
    assert figure(GOAL, rounds("shm memory", 90), "near") is None
    assert figure(GOAL, unknown, "near") is None


def test_few_rounds_give_the_ratio_of_medians_and_say_so() -> None:
    records = rounds("shm memory", 100, 120, 140)
    records += [sample(GOAL.other, number, iops) for number, iops in ((7, 10), (8, 12), (9, 14))]
    found = figure(GOAL, records, "near")
    assert found is not None
    assert (found.ratio, found.paired, found.rounds) == (10, False, 3)


def test_the_best_is_the_one_with_the_best_median() -> None:
    records = rounds("shm memory", 100, 100, 100)
    records += rounds("FUSE memory direct", 5, 5, 99)
    records += rounds("FUSE memory direct one CPU", 20, 20, 20)
    records += rounds("FUSE file direct", 90, 90, 90)
    found = figure(BEST, records, "near")
    assert found is not None
    assert (found.against, found.ratio, found.reached) == ("FUSE memory direct one CPU", 5, False)


def test_cpu_is_better_when_less() -> None:
    goal = dataclasses.replace(GOAL, metric="cpu")
    records = rounds("shm memory", 200, 200, 200) + rounds(GOAL.other, 10, 10, 10)
    found = figure(goal, records, "near")
    assert found is not None
    assert found.ratio == pytest.approx(20)


def test_every_goal_asks_more_near_than_far() -> None:
    assert all(goal.near > goal.far > 1 for goal in GOALS)
    assert figures([]) == []
