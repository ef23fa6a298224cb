# SPDX-License-Identifier: MIT
"""The patch series as a distribution would take it: complete, and fit for its QEMU.

Method: the files that the patches name, taken from the source that the builds use.
"""

import re
import shutil
import sys
from pathlib import Path

import pytest
from conftest import TOP, run

from .tools import missing

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.skipif(missing("stock") is not None, reason=str(missing("stock"))),
]
DRIVER = TOP / "qemu-patches" / "openvstorage.c"


@pytest.fixture
def source() -> Path:
    return Path(run([TOP / "scripts" / "qemu-source"], timeout=300).stdout.strip())


def test_whole_series_applies_and_brings_the_driver(source: Path, tmp_path: Path) -> None:
    series = tmp_path / "series"
    run(["make", "-C", TOP / "qemu-patches" / "7.2", f"OUT={series}"])
    names = (series / "series").read_text().split()
    assert len(names) == 5
    tree = tmp_path / "tree"
    for patch in [series / name for name in names]:
        for name in re.findall(r"^--- a/(\S+)", patch.read_text(), re.M):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            if not (tree / name).exists():
                shutil.copy(source / name, tree / name)
    (tree / "block").mkdir(exist_ok=True)
    for name in names:
        run(["patch", "-p1", "--no-backup-if-mismatch", "--fuzz=0", "-i", series / name], cwd=tree)
    assert (tree / "block" / "openvstorage.c").read_bytes() == DRIVER.read_bytes()


def test_driver_is_found_as_a_module_by_all_its_names(source: Path, tmp_path: Path) -> None:
    header = tmp_path / "module_block.h"
    run([sys.executable, source / "scripts" / "modules" / "module_block.py", header, DRIVER])
    names = re.findall(r'\.protocol_name = "(\S+)"', header.read_text())
    assert sorted(names) == [
        "openvstorage",
        "openvstorage+rdma",
        "openvstorage+shm",
        "openvstorage+tcp",
    ]


def test_driver_is_in_qemus_style(source: Path) -> None:
    checkpatch = source / "scripts" / "checkpatch.pl"
    done = run(["perl", checkpatch, "--no-tree", "-f", DRIVER], check=False)
    assert "total: 0 errors, 0 warnings" in done.stdout, done.stdout
