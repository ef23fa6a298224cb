# SPDX-License-Identifier: MIT
"""ovs-qemu and its preload, on the distribution's unmodified QEMU and on everything else.

A tiny driver stands in for the real one, so that what fails here is the way into QEMU.
"""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRELOAD_DIR = ROOT / "qemu-patches" / "preload"
HERE = Path(__file__).resolve().parent
QEMU_PROGRAMS = ["qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon", "qemu-system-x86_64"]

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.skipif(shutil.which("qemu-img") is None, reason="no qemu-img installed"),
]


def run(*argv: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(a) for a in argv],
        check=False,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def build(out: Path, *arguments: str) -> Path:
    made = run("make", "-C", PRELOAD_DIR, f"OUT={out}", *arguments)
    assert made.returncode == 0, made.stdout + made.stderr
    return out


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wrapper and preload for the installed QEMU, with the tiny driver."""
    return build(
        tmp_path_factory.mktemp("preload"),
        "all",
        f"DRIVER={HERE / 'tiny_driver.c'}",
        "OVS_CFLAGS=",
        "OVS_LIBS=",
    )


@pytest.fixture
def foreign_objects(tmp_path: Path) -> Path:
    """The same for a QEMU that is not the installed one."""
    headers = tmp_path / "headers"
    headers.mkdir()
    (headers / "ovs-qemu-target.h").write_text(
        '#define OVS_QEMU_STAMP "qemu_stamp_of_another_build"\n'
        '#define OVS_QEMU_VERSION "6.1.0 (Fancy 1:6.1)"\n'
    )
    return build(tmp_path / "out", "shim", f"HEADERS={headers}")


def test_every_qemu_program_loads_the_driver(objects: Path) -> None:
    for program in QEMU_PROGRAMS:
        result = run(objects / "ovs-qemu", program, "--version")
        assert (result.returncode, result.stderr) == (0, ""), program


def test_volume_of_the_driver_is_read(objects: Path) -> None:
    read = run(objects / "ovs-qemu", "qemu-io", "-r", "-c", "read -P 0x4f 4096 64k", "ovstiny:")
    assert "read 65536/65536 bytes at offset 4096" in read.stdout
    assert read.returncode == 0
    info = run(objects / "ovs-qemu", "qemu-img", "info", "--image-opts", "driver=ovstiny")
    assert "virtual size: 1 MiB" in info.stdout


def test_without_the_wrapper_the_driver_is_unknown() -> None:
    assert "Unknown protocol 'ovstiny'" in run("qemu-img", "info", "ovstiny:").stderr


def test_nothing_of_the_preload_is_left_for_children_of_qemu(objects: Path) -> None:
    seen = run(objects / "ovs-qemu", "qemu-img", "info", "ovstiny:environment").stderr
    assert "LD_PRELOAD=(unset) OVS_QEMU_PID=(unset)" in seen


def test_other_preloads_stay(objects: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.so"
    made = run("gcc", "-shared", "-x", "c", "-o", other, "/dev/null")
    assert made.returncode == 0, made.stderr
    seen = run(
        objects / "ovs-qemu", "qemu-img", "info", "ovstiny:environment", LD_PRELOAD=str(other)
    )
    assert f"LD_PRELOAD={other} OVS_QEMU_PID=(unset)" in seen.stderr


def test_leaked_preload_does_nothing_elsewhere(objects: Path) -> None:
    leak = {"LD_PRELOAD": str(objects / "ovs-qemu-preload.so"), "OVS_QEMU_PID": "1"}
    for argv in (["true"], ["sh", "-c", "ls / >/dev/null"], ["python3", "-c", "import ctypes"]):
        result = run(*argv, **leak)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", ""), argv


def test_leaked_preload_of_another_build_leaves_qemu_alone(foreign_objects: Path) -> None:
    leak = {"LD_PRELOAD": str(foreign_objects / "ovs-qemu-preload.so")}
    result = run("qemu-img", "--version", **leak)
    assert (result.returncode, result.stderr) == (0, "")


def test_preload_alone_serves_the_qemu_programs_of_a_script(objects: Path) -> None:
    leak = {"LD_PRELOAD": str(objects / "ovs-qemu-preload.so")}
    result = run("sh", "-c", "qemu-img info ovstiny: | grep size", **leak)
    assert "virtual size: 1 MiB" in result.stdout


def test_qemu_of_another_build_is_refused_by_name_and_version(foreign_objects: Path) -> None:
    result = run(foreign_objects / "ovs-qemu", "qemu-img", "--version")
    assert result.returncode == 1
    assert result.stdout == ""
    assert "/usr/bin/qemu-img is another QEMU than" in result.stderr
    assert "QEMU 6.1.0 (Fancy 1:6.1)" in result.stderr


def test_program_that_is_no_qemu_is_refused(objects: Path) -> None:
    result = run(objects / "ovs-qemu", "env")
    assert (result.returncode, result.stdout) == (1, "")
    assert "/env is no QEMU program" in result.stderr


def test_missing_driver_object_is_named(objects: Path, tmp_path: Path) -> None:
    for name in ("ovs-qemu", "ovs-qemu-preload.so"):
        shutil.copy(objects / name, tmp_path)
    result = run(tmp_path / "ovs-qemu", "qemu-img", "--version")
    assert result.returncode == 1
    assert f"{tmp_path}/block-openvstorage.so: cannot open shared object file" in result.stderr


def test_missing_preload_object_is_named(objects: Path, tmp_path: Path) -> None:
    shutil.copy(objects / "ovs-qemu", tmp_path)
    result = run(tmp_path / "ovs-qemu", "qemu-img", "--version")
    assert result.returncode == 125
    assert "ovs-qemu-preload.so is neither in" in result.stderr


def test_directory_that_cannot_be_preloaded_from_is_named(objects: Path, tmp_path: Path) -> None:
    shutil.copytree(objects, tmp_path / "a b")
    result = run(tmp_path / "a b" / "ovs-qemu", "qemu-img", "--version")
    assert result.returncode == 125
    assert "has a space or colon" in result.stderr


def test_installed_wrapper_finds_its_objects(objects: Path, tmp_path: Path) -> None:
    build(
        objects,
        "install",
        f"DRIVER={HERE / 'tiny_driver.c'}",
        "OVS_CFLAGS=",
        "OVS_LIBS=",
        f"DESTDIR={tmp_path}",
    )
    result = run(tmp_path / "usr/local/bin/ovs-qemu", "qemu-img", "info", "ovstiny:")
    assert "virtual size: 1 MiB" in result.stdout


def make_program(path: Path, content: str, mode: int) -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


def test_what_cannot_be_run_is_told_by_exit_status_and_reason(
    objects: Path, tmp_path: Path
) -> None:
    script = make_program(tmp_path / "script", "#!/bin/sh\n", 0o755)
    plain = make_program(tmp_path / "plain", "", 0o644)
    looped = tmp_path / "looped"
    looped.symlink_to(looped)
    cases: list[tuple[str | Path, int, str]] = [
        ("no-such-qemu", 127, "no-such-qemu: no such program in PATH"),
        (tmp_path / "absent", 127, "absent: No such file or directory"),
        (tmp_path, 126, "Is a directory"),
        (looped, 126, "Too many levels of symbolic links"),
        (plain, 126, "Permission denied"),
        (script, 126, "is no binary program"),
    ]
    for program, status, reason in cases:
        result = run(objects / "ovs-qemu", program)
        assert (result.returncode, result.stdout) == (status, ""), program
        assert reason in result.stderr
        assert result.stderr.startswith("ovs-qemu: ")


def test_statically_linked_program_is_refused(objects: Path, tmp_path: Path) -> None:
    source = make_program(tmp_path / "s.c", "int main(void) { return 0; }\n", 0o644)
    made = run("gcc", "-static", "-o", tmp_path / "static", source)
    assert made.returncode == 0, made.stderr
    result = run(objects / "ovs-qemu", tmp_path / "static")
    assert (result.returncode, "statically linked" in result.stderr) == (126, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_set_user_id_program_is_refused(objects: Path, tmp_path: Path) -> None:
    program = tmp_path / "qemu-img"
    shutil.copy("/usr/bin/qemu-img", program)
    os.chown(program, 65534, -1)
    program.chmod(0o755 | stat.S_ISUID)
    result = run(objects / "ovs-qemu", program, "--version")
    assert (result.returncode, "changes its user" in result.stderr) == (126, True)


def test_usage_errors_point_to_help(objects: Path) -> None:
    for argv in ([], ["--no-such-option"]):
        result = run(objects / "ovs-qemu", *argv)
        assert (result.returncode, "--help" in result.stderr) == (125, True)
    shown = run(objects / "ovs-qemu", "--help")
    assert shown.returncode == 0
    for promised in ("usage: ovs-qemu PROGRAM", "openvstorage:vol", "125", "126", "127"):
        assert promised in shown.stdout
