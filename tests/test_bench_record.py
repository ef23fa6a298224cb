# SPDX-License-Identifier: MIT
"""benchmarks.record: what is written can be read, by us and by whoever has the schema."""

import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest
from bench_records import PLAIN

from benchmarks import environment, record
from benchmarks.handover import agreed, placement
from benchmarks.record import Cost, Idle, Latency, PeerInfo, Record, Results

SAMPLE = dataclasses.replace(
    PLAIN,
    loader="fio",
    workload="openloop",
    depth=64,
    iops=20000.5,
    bandwidth=20000.5 * 4096,
    cpu_us_per_io=Cost(1.5, 0.5),
    latency_us=Latency(1.0, 2.0, 3.5),
    latency_cdf=[(1.0, 0.5), (2.0, 1.0)],
    rate=20000,
)
IDLE = dataclasses.replace(
    SAMPLE,
    loader="qemu-io",
    workload="idle",
    cpu_us_per_io=None,
    latency_us=None,
    latency_cdf=None,
    idle=Idle(Cost(1.0, 2.0), Cost(0.0, 1.0)),
)


def results(*records: Record) -> Results:
    return Results(
        started="2026-01-02T03:04:05+00:00",
        command="python -m benchmarks",
        environment=environment.environment(),
        records=list(records),
        peers={"shm memory": PeerInfo("shm", "", {"read": 2, "write": 2})},
        skipped={"nbdkit memory": "nbdkit is not installed"},
    )


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(record.SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_file_is_the_one_of_the_dataclasses() -> None:
    assert record.SCHEMA_FILE.read_text() == record.schema_text(), "python -m benchmarks.record"


def test_what_is_saved_is_loaded(
    tmp_path: Path, validator: jsonschema.Draft202012Validator
) -> None:
    made = results(SAMPLE, IDLE)
    path = tmp_path / "new" / "run.json"
    record.save(made, path)
    assert record.load(path) == made
    assert [one.name for one in path.parent.iterdir()] == ["run.json"]
    validator.validate(json.loads(path.read_text()))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("placement", "sideways"),
        ("iops", None),
        ("iops", "fast"),
        ("depth", 1.5),
        ("cpu_us_per_io", {"client": 1}),
        ("latency_cdf", [[1]]),
        ("unheard_of", 1),
    ],
)
def test_both_refuse_what_is_wrong(
    tmp_path: Path, validator: jsonschema.Draft202012Validator, key: str, value: object
) -> None:
    run = json.loads(record.dumps(results(SAMPLE)))
    run["records"][0][key] = value
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run))
    with pytest.raises(ValueError, match=key):
        record.load(path)
    assert not validator.is_valid(run)


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(record.dumps(results()).replace('"schema": 1', '"schema": 2'))
    with pytest.raises(ValueError, match="schema"):
        record.load(path)


def test_the_environment_names_what_ran() -> None:
    found = environment.environment()
    assert found.cpu
    assert found.cpus > 0
    assert found.programs["gcc"]
    assert environment.version(["no-such-program"]) is None


def test_busy_cpus_are_neither_near_nor_far() -> None:
    assert [placement(ns) for ns in (50, 350, 20_000, None)] == ["near", "far", None, None]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (50, 60, (60, "near")),
        (350, 300, (350, "far")),
        (50, 350, (350, None)),  # moved meanwhile
        (20_000, 60, (60, "near")),
        (50, None, (50, "near")),
        (20_000, 30_000, (20_000, None)),
        (None, None, (None, None)),
    ],
)
def test_a_sample_is_where_the_cpus_were_before_and_after_it(
    before: int | None, after: int | None, found: tuple[int | None, str | None]
) -> None:
    assert agreed(before, after) == found
