# SPDX-License-Identifier: MIT
"""QEMU's own tests of the block layer, on volumes: `check -openvstorage` of the patched build.

The generic ones only, and of these not the ones that open the image as a local file.
"""

import os
import re
from pathlib import Path

import pytest
from conftest import SCRIPTS, run

from .tools import Qemu

pytestmark = pytest.mark.qemu

TESTS = {
    "raw": "001 002 003 004 005 008 009 010 011 021 032 033 077 104 145",
    "qcow2": "001 002 004 005 008 009 010 011 017 021 027 029 032 033 035 047 062 073 105 145",
}
NOT_RUN = {"005"}  # wants a scratch directory for files of many TiB, though it makes none there


@pytest.mark.timeout(600)
@pytest.mark.parametrize("image_format", TESTS)
def test_iotests_pass(patched: Qemu, image_format: str, tmp_path: Path, short_dir: Path) -> None:
    check = Path(os.environ["OVS_QEMU_BUILD"]) / "tests" / "qemu-iotests" / "check"
    wanted = TESTS[image_format].split()
    done = run(
        [check, "-openvstorage", f"-{image_format}", *wanted],
        cwd=check.parent,
        env={
            **patched.env,
            "SHMCLIENT_PROG": str(SCRIPTS / "shmclient"),
            "TEST_DIR": str(tmp_path / "scratch"),
            "SOCK_DIR": str(short_dir / "sockets"),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        },
        check=False,
        timeout=580,
    )
    passed = set(re.findall(r"(\S+) +pass ", done.stdout.replace("\r", "\n")))
    assert done.returncode == 0, done.stdout
    assert passed | NOT_RUN >= set(wanted), done.stdout
    assert patched.server.client_json("list") == []
