# SPDX-License-Identifier: MIT
"""Every C test program, as it is and under the sanitizers.

`make lib-tests` builds them; one that is missing here fails, it does not skip.
"""

import os
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
NAMES = sorted(path.stem for path in (TOP / "tests/c").glob("test_*.c"))
SKIPPED = 77
LIMIT_S = 280
ENVIRONMENT = {
    "release": {},
    "asan": {
        "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    },
    "tsan": {"TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1"},
}


@pytest.mark.parametrize("variant", ENVIRONMENT)
@pytest.mark.parametrize("name", NAMES)
def test_c_program_passes(name: str, variant: str, tmp_path: Path) -> None:
    program = TOP / "build" / variant / "tests" / name
    done = subprocess.run(
        [program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=LIMIT_S,
        cwd=tmp_path,
        env=os.environ | ENVIRONMENT[variant] | {"TMPDIR": str(tmp_path)},
    )
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip().rpartition("\n")[2])
    assert done.returncode == 0, f"{name} ({variant}) ended with {done.returncode}\n{done.stdout}"
