# SPDX-License-Identifier: MIT
"""benchmarks.python_bench: every row measures something; the figures are not judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TOP, run

from benchmarks.python_bench import FIGURES
from benchmarks.python_clients import ROWS, SYSTEM_PYTHON


@pytest.mark.skipif(
    subprocess.run([SYSTEM_PYTHON, "-c", "import nbd"], capture_output=True).returncode != 0,
    reason="python3-libnbd is not installed",
)
def test_every_row_has_a_rate_and_every_figure_two(tmp_path: Path) -> None:
    out = tmp_path / "records.json"
    options = ["--rounds", "1", "--seconds", "0.02", "--json", str(out)]
    done = run([sys.executable, "-m", "benchmarks.python_bench", *options], cwd=TOP, timeout=120)
    rates = {one["row"]: one["sample"]["iops"] for one in json.loads(out.read_text())}
    assert list(rates) == list(ROWS)
    assert min(rates.values()) > 0
    for figure in FIGURES:
        assert f"{rates[figure.row] / rates[figure.other]:,.2f}" in done.stdout
