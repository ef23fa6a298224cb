# SPDX-License-Identifier: MIT
"""The distribution: source archive, wheel, types, and what a machine without the headers is told.

Method: the source archive is made from the checkout, the wheel from the archive, and the wheel is
installed into a fresh virtual environment that knows nothing of the checkout.
"""

import ast
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import TOP, ServerProcess, run

VERSION = (TOP / "VERSION").read_text().strip()
# Everything in one worker: the wheel takes a while to build.
pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("packaging")]


def build(argv: list[str], cwd: Path) -> None:
    run([sys.executable, *argv], cwd=cwd, timeout=600)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    build(["setup.py", "-q", "egg_info", "-e", str(out), "sdist", "-d", str(out)], TOP)
    (archive,) = out.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def source(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source archive."""
    out = tmp_path_factory.mktemp("source")
    run(["tar", "-xf", sdist, "-C", out])
    (top,) = out.iterdir()
    return top


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    options = ["--no-build-isolation", "--no-deps", "--disable-pip-version-check"]
    build(["-m", "pip", "wheel", "-q", *options, "-w", str(out), "."], source)
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of a fresh environment with the wheel and what it needs."""
    venv = tmp_path_factory.mktemp("clean") / "venv"
    run(["/usr/bin/python3", "-m", "venv", venv], timeout=300)
    pip = [venv / "bin" / "pip", "install", "-q", "--disable-pip-version-check"]
    run([*pip, wheel], cwd=venv, timeout=600)
    return venv / "bin"


def test_source_archive_has_what_a_build_needs(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = run(["git", "ls-files", "csrc", "shmclient", "shmserver"], cwd=TOP).stdout.split()
    assert set(tracked) <= names
    assert {"LICENSE", "VERSION", "pyproject.toml", "setup.py", "docs/man/shmserver.1"} <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".a", ".pyc"))]


def test_wheel_has_the_packages_with_types_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata_name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(metadata_name).decode()
    assert f"Name: openvstorage-shm\nVersion: {VERSION}\n" in metadata
    assert "License-Expression: MIT" in metadata
    for package, module in (("shmclient", "_native"), ("shmserver", "_core")):
        assert {f"{package}/py.typed", f"{package}/{module}.pyi", f"{package}/__init__.py"} <= names
        assert [name for name in names if name.startswith(f"{package}/{module}.cpython-")]
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"shmclient", "shmserver"}


def test_wheel_works_in_a_clean_environment(installed, short_dir, pool):
    """Server, command line and binding, from a directory that is not the checkout."""
    environment = {"PYTHONPATH": "", "OVS_SHM_SOCKET": str(short_dir / "s.sock")}
    code = (
        "import os, signal, subprocess, sys, shmclient\n"
        "reader, writer = os.pipe()\n"
        "argv = [sys.argv[1] + '/shmserver', '--pool', sys.argv[2], '--ready-fd', str(writer)]\n"
        "with subprocess.Popen(argv, pass_fds=[writer]) as server:\n"
        "    os.close(writer)\n"
        "    assert os.read(reader, 64)\n"
        "    subprocess.run([sys.argv[1] + '/shmclient', 'create', 'vol', '1M'], check=True)\n"
        "    with shmclient.connect() as connection:\n"
        "        with connection.open('vol', writable=True) as volume:\n"
        "            volume.pwrite(b'hello', 3)\n"
        "            assert volume.pread(5, 3) == b'hello'\n"
        "    server.send_signal(signal.SIGTERM)\n"
        "assert server.returncode == 0, server.returncode\n"
        "print(shmclient.__file__)\n"
    )
    result = run(
        [installed / "python", "-c", code, installed, pool], env=environment, cwd=short_dir
    )
    assert str(TOP) not in result.stdout
    assert str(installed.parent) in result.stdout


def test_wheel_is_all_that_a_store_in_cpp_needs(installed, short_dir):
    """Compiled with the headers in it, and served by the server in it."""
    include = run(
        [installed / "python", "-c", "import shmserver; print(shmserver.get_include())"],
        cwd=short_dir,
    ).stdout.strip()
    assert include.startswith(str(installed.parent))
    store = short_dir / "dedup.so"
    source = TOP / "examples" / "cpp_store.cpp"
    flags = ["-std=c++17", "-shared", "-fPIC", f"-I{include}"]
    run(["g++", *flags, source, "-o", store], timeout=120)
    served = ServerProcess(
        short_dir / "s.sock", ["--store", str(store)], log=short_dir / "log", scripts=installed
    )
    with ExitStack() as stack:
        stack.callback(served.kill)
        served.start()
        stack.callback(served.stop)
        words = ["--socket", served.socket]
        run([installed / "shmclient", "create", "vol", "1M", *words], cwd=short_dir)
        run([installed / "shmclient", "import", source, "vol", "--overwrite", *words])
        exported = run([installed / "shmclient", "cat", "vol", *words]).stdout
        assert exported.startswith(source.read_text())


def test_wheel_without_the_extra_says_what_the_reference_needs(installed):
    code = "import shmclient; shmclient.connect('/nowhere', implementation='reference')"
    result = run([installed / "python", "-c", code], cwd=installed, check=False)
    assert "ImportError" in result.stderr
    assert "pip install 'openvstorage-shm[reference]'" in result.stderr
    argv = [installed / "shmserver", "--implementation", "reference", "--socket", "/nowhere"]
    result = run(argv, cwd=installed, check=False)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "pip install 'openvstorage-shm[reference]'" in result.stderr


def test_wheel_has_the_wire_header_that_the_reference_reads(wheel, tmp_path):
    """With the packages of this environment, which has the extra."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "from shmclient.reference import wire\n"
        "from shmserver.reference import Server\n"
        "Server('memory', socket='s.sock').close()\n"
        "print(wire.HEADER, wire.OP_FLUSH)\n"
    )
    result = run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    header, flush = result.stdout.split()
    assert Path(header).parent == tmp_path / "shmclient/reference"
    original = TOP / "csrc/include/openvstorage/shm_wire.h"
    assert Path(header).read_bytes() == original.read_bytes()
    assert flush == "3"


def test_wheel_needs_no_library_of_this_project(installed):
    modules = run(
        [
            installed / "python",
            "-c",
            "import shmclient._native as a, shmserver._core as b; print(a.__file__, b.__file__)",
        ],
        cwd=installed,
    ).stdout.split()
    for module in modules:
        needed = run(["readelf", "-dW", module]).stdout
        assert "libovs" not in needed
        exported = run(["nm", "-D", "--defined-only", module]).stdout
        assert "ovsshm_connect" not in exported


def test_build_without_headers_names_the_debian_packages(source, tmp_path):
    """A compiler that finds no header, as on a machine without the packages."""
    (tmp_path / "bin").mkdir()
    compiler = tmp_path / "bin" / "headerless-cc"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    result = run(
        [sys.executable, "setup.py", "-q", "build_ext"],
        cwd=source,
        env={"CC": str(compiler)},
        check=False,
    )
    assert result.returncode != 0
    assert "apt-get install libc6-dev libfuse3-dev liburing-dev python3-dev" in result.stderr
    assert "Traceback" not in result.stderr


def test_build_without_tools_names_the_debian_packages(source, tmp_path):
    result = run(
        [sys.executable, "setup.py", "-q", "build_ext"],
        cwd=source,
        env={"PATH": str(tmp_path)},
        check=False,
    )
    assert result.returncode != 0
    assert "apt-get install g++ gcc make" in result.stderr
    assert "Traceback" not in result.stderr


def test_types_check():
    run([sys.executable, "-m", "mypy"], cwd=TOP, timeout=300)


def test_stub_of_the_binding_says_what_the_module_has(tmp_path):
    import shmclient._native as native

    tree = ast.parse((TOP / "shmclient" / "_native.pyi").read_text())
    stub = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    classes = {name for name in vars(native) if isinstance(getattr(native, name), type)}
    assert classes == {name for name in stub if not name.startswith("_")}

    # What the classes of pybind11 have in common, and what this Python cannot tell.
    allowed = [r"\w+", r"\w+\.__init__", r"Buffer\.__buffer__"]
    allowlist = tmp_path / "allowed"
    allowlist.write_text("".join(rf"shmclient\._native\.{one}" + "\n" for one in allowed))
    options = ["--mypy-config-file", "pyproject.toml", "--ignore-disjoint-bases", "--concise"]
    checker = [sys.executable, "-m", "mypy.stubtest", "shmclient._native", *options]
    run([*checker, "--allowlist", str(allowlist)], cwd=TOP, timeout=120)


def test_version_has_one_home():
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
    import shmclient
    import shmserver

    assert shmclient.__version__ == shmserver.__version__ == VERSION


def test_manual_pages_are_well_formed():
    for page in sorted((TOP / "docs" / "man").glob("*.[1-8]")):
        result = subprocess.run(
            ["groff", "-man", "-ww", "-Tutf8", "-z", page],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        assert result.stderr == ""


def test_manual_pages_name_every_option():
    from shmclient.cli import cli as client
    from shmserver.__main__ import cli as server

    for command, page in ((client, "shmclient.1"), (server, "shmserver.1")):
        text = (TOP / "docs" / "man" / page).read_text().replace("\\-", "-")
        options = [option for param in command.params for option in param.opts]
        assert [option for option in options if option not in text] == []
