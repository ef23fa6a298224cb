# SPDX-License-Identifier: MIT
"""No order of events loses a wake-up: spin searches all, and finds the bugs put in on purpose.

tests/model/ has the doorbell protocol of csrc/shared/doorbell.h over processors that delay stores.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

MODEL = Path(__file__).parent / "model"
MODELS = ["doorbell", "session"]
SEARCH_S = 120

# What is left out or turned round, and what that breaks.
SEEDED_BUGS = {
    "NO_FENCE_SLEEPER": ("doorbell", "session"),
    "NO_FENCE_RINGER": ("doorbell", "session"),
    "NO_RECHECK": ("doorbell", "session"),
    "NO_EXCHANGE": ("doorbell",),
    "CLEAR_AFTER_ARM": ("doorbell",),
    "NO_RELEASE": ("doorbell",),
}

pytestmark = pytest.mark.skipif(not shutil.which("spin"), reason="spin is not installed")


class Search(NamedTuple):
    errors: int
    states: int
    complete: bool
    output: str


def run(directory: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=directory, timeout=SEARCH_S, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


def search(directory: Path, model: str, *defines: str, liveness: bool = False) -> Search:
    """A whole search: for deadlocks and assertions, or for the ltl formula under fairness."""
    for source in MODEL.glob("*.pml"):
        shutil.copy(source, directory)
    run(directory, "spin", *(f"-D{name}" for name in defines), "-a", f"{model}.pml")
    kind = ["-DNFAIR=4"] if liveness else ["-DSAFETY", "-DNOCLAIM"]
    run(directory, "gcc", "-O2", "-w", "-DMEMLIM=4000", *kind, "-o", "pan", "pan.c")
    output = run(directory, "./pan", "-n", "-m3000000", *(["-a", "-f"] if liveness else []))
    errors = re.search(r"errors: (\d+)", output)
    states = re.search(r"(\d+) states, stored", output)
    assert errors is not None, output
    assert states is not None, output
    stopped = re.search(r"not completed|max search depth too small|truncated|out of memory", output)
    return Search(int(errors[1]), int(states[1]), stopped is None, output)


@pytest.mark.timeout(3 * SEARCH_S)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("liveness", [False, True], ids=["safety", "liveness"])
def test_no_order_of_events_loses_a_wakeup(tmp_path: Path, model: str, liveness: bool) -> None:
    result = search(tmp_path, model, liveness=liveness)
    print(f"{model}: {result.states} states")
    assert result.errors == 0, result.output
    assert result.complete, result.output
    assert result.states > 10_000, "the model has become trivial"


@pytest.mark.timeout(3 * SEARCH_S)
@pytest.mark.parametrize(
    ("model", "bug"), [(model, bug) for bug, models in SEEDED_BUGS.items() for model in models]
)
@pytest.mark.parametrize("liveness", [False, True], ids=["safety", "liveness"])
def test_checker_catches_a_seeded_bug(tmp_path: Path, model: str, bug: str, liveness: bool) -> None:
    assert search(tmp_path, model, bug, liveness=liveness).errors == 1


def test_every_seeded_bug_is_in_the_model_and_tried() -> None:
    text = "".join(path.read_text() for path in MODEL.glob("*.pml"))
    assert set(re.findall(r"#ifn?def ((?:NO|CLEAR)_\w+)", text)) == set(SEEDED_BUGS)


def test_model_makes_the_statements_of_the_code() -> None:
    """The model follows doorbell.h by hand; when that changes, so must verbs.pml."""
    code = (MODEL.parent.parent / "csrc/shared/doorbell.h").read_text()
    body = re.sub(r"/\*.*?\*/", "", code, flags=re.DOTALL)
    statements = re.findall(r"ovsshm_(?:store|load|fence|exchange)\w*\([^;&]*\)", body)
    assert statements == [
        "ovsshm_store_relaxed(armed, 1)",
        "ovsshm_fence()",
        "ovsshm_store_relaxed(armed, 0)",
        "ovsshm_fence()",
        "ovsshm_load_relaxed(armed)",
        "ovsshm_exchange(armed, 0)",
    ]
