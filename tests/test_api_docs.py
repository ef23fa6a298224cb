# SPDX-License-Identifier: MIT
"""The reference of the Python packages: it builds, and leaves no public name without its text."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import TOP, run

import shmclient
import shmclient.aio
import shmserver

SCRIPT = TOP / "scripts" / "api_docs.py"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("docs")
    done = run([sys.executable, "-W", "error", SCRIPT, target])
    assert done.stdout + done.stderr == ""
    return target


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("api_docs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("module", [shmclient, shmclient.aio, shmserver])
def test_reference_has_every_public_name(pages: Path, module: ModuleType) -> None:
    page = (pages / f"{module.__name__.replace('.', '/')}.html").read_text()
    missing = [name for name in module.__all__ if f'id="{name}"' not in page]
    assert missing == []


def test_reference_has_types_and_texts(pages: Path) -> None:
    page = (pages / "shmclient.html").read_text()
    opened = page[page.index('id="Connection.open"') :][:3000]
    assert "Open a Volume" in opened
    plain = re.sub("<[^>]+>", "", opened)
    assert "writable: bool = False" in plain
    assert "-> Volume" in plain
    assert "pybind11" not in page
    assert "unknown" not in page


@pytest.fixture
def without_stubs(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, module in (("shmclient", "_native"), ("bad", "bad")):
        (tmp_path / package).mkdir()
        (tmp_path / package / f"{module}.pyi").touch()
    monkeypatch.setattr(script, "TOP", tmp_path)
    monkeypatch.setattr(script, "COMPILED", {"shmclient": "_native", "bad": "bad"})


def test_signature_that_is_missing_is_told(script: ModuleType, without_stubs: None) -> None:
    """Functions of pybind11 have none but in the stubs."""
    assert "shmclient.Connection.open has no signature" in script.faults(script.load(["shmclient"]))


def test_text_that_is_missing_is_told(
    script: ModuleType, without_stubs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.py").write_text(
        '"""A module."""\n'
        "def good() -> None:\n"
        '    """It is."""\n'
        "def silent() -> None: ...\n"
        "class Class:\n"
        '    """A class."""\n'
        "    @property\n"
        "    def value(self) -> int: ...\n"
        "    def _private(self) -> int: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    faults = script.faults(script.load(["bad"]))
    assert sorted(faults) == ["bad.Class.value has no docstring", "bad.silent has no docstring"]
