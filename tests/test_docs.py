# SPDX-License-Identifier: MIT
"""Documents do what they say: their code blocks are run in order, in an empty directory.

A block is run by its language:
    console   commands after "$ ", each with its output; a shell goes through the whole document
    python    with ">>>": a session, which goes on in the next block unless a console is between;
              otherwise a file, with its name in a comment in the first line
In output "..." stands for anything (doctest's ELLIPSIS).  A command may fail where its output says
"error".  A server in the background is waited for, as by systemd.
"""

import doctest
import os
import re
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import SCRIPTS, START_S, STOP_S, TOP
from markdown_it import MarkdownIt
from qemu.tools import missing

COMMAND_S = 120
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
DOCTEST = "python3 -W error -m doctest -o ELLIPSIS -o NORMALIZE_WHITESPACE -o FAIL_FAST session.txt"


TUTORIAL = "docs/TUTORIAL.md"


class Block(NamedTuple):
    language: str
    code: str
    line: int

    @property
    def kind(self) -> str:
        if self.language == "python":
            return "session" if self.code.startswith(">>> ") else "file"
        return self.language


def blocks(path: Path) -> list[Block]:
    tokens = MarkdownIt().parse(path.read_text())
    return [
        Block(token.info, token.content, token.map[0] + 1)
        for token in tokens
        if token.type == "fence" and token.map
    ]


class Command(NamedTuple):
    text: str
    output: str


def commands(console: str) -> list[Command]:
    """A command goes on in the next line after a backslash, or where that begins with "> "."""
    found = re.findall(r"^\$ (.*(?:(?<=\\)\n.*)*)\n((?:(?!\$ ).*\n)*)", console, re.MULTILINE)
    assert "".join(f"$ {text}\n{output}" for text, output in found) == console, "text before a $"
    return [Command(*one) for one in found]


class Shell:
    """A bash that runs one command after the other, as a reader's does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._readiness = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._readiness.settimeout(START_S)
        self._readiness.bind(str(directory / ".notify"))
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={
                **os.environ,
                "PATH": f"{SCRIPTS}:{TOP / 'build' / 'qemu'}:/usr/sbin:/sbin:{os.environ['PATH']}",
                "OVS": str(TOP),
                "NOTIFY_SOCKET": str(directory / ".notify"),
                "NO_COLOR": "1",
                "COLUMNS": "100",
            },
            start_new_session=True,
        )
        self._output = b""

    def run(self, command: str) -> tuple[str, int]:
        """Its output and exit code."""
        assert self._process.stdin is not None
        script = f"{{ {command}\n}} </dev/null; printf '\\0%d\\0' $?\n"
        self._process.stdin.write(script.encode())
        self._process.stdin.flush()
        output, status = self._read_texts(2)
        if command.endswith("&"):
            while self._readiness.recv(100) != b"READY=1":
                pass  # an earlier server says that it is stopping
        return output.decode(), int(status)

    def _read_texts(self, count: int) -> list[bytes]:
        """So many, each with a zero byte behind it."""
        while self._output.count(b"\0") < count:
            data = self._read(COMMAND_S)
            assert data, f"no end after {self._output.decode()}"
            self._output += data
        *texts, self._output = self._output.split(b"\0", count)
        return texts

    def _read(self, timeout_s: float) -> bytes:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        return os.read(self._process.stdout.fileno(), 65536) if ready else b""

    def end(self) -> None:
        """Also of what it has in the background, which must let go of the output."""
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            while self._read(STOP_S):
                pass
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._readiness.close()


@pytest.fixture
def shell(short_dir: Path) -> Iterator[Shell]:
    shell = Shell(short_dir)
    yield shell
    shell.end()


def run_file(shell: Shell, code: str) -> None:
    name = re.match(r"# (\w+\.py)\n", code)
    assert name, "no name in the first line"
    (shell.directory / name[1]).write_text(code)


def run_session(shell: Shell, code: str) -> None:
    (shell.directory / "session.txt").write_text(code)
    output, status = shell.run(DOCTEST)
    assert status == 0, output


def run_console(shell: Shell, code: str) -> None:
    for command, expected in commands(code):
        output, status = shell.run(command)
        assert status == 0 or "error" in expected, f"{command}: {status}\n{output}"
        checker = doctest.OutputChecker()
        example = doctest.Example(command, expected)
        assert checker.check_output(example.want, output, FLAGS), (
            f"{command}\n{checker.output_difference(example, output, FLAGS)}"
        )


RUNS = {"file": run_file, "session": run_session, "console": run_console}


def documents() -> list[str]:
    """Those with Python in them."""
    paths = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
    languages = {path: {block.language for block in blocks(path)} for path in paths}
    return [str(path.relative_to(TOP)) for path in paths if "python" in languages[path]]


@pytest.mark.guest
@pytest.mark.qemu
@pytest.mark.parametrize("name", documents())
def test_document_does_what_it_says(shell: Shell, name: str) -> None:
    if name == TUTORIAL and (reason := missing("stock")):
        pytest.skip(reason)
    found = blocks(TOP / name)
    if name != TUTORIAL:  # consoles of others install things, and so on
        found = [block for block in found if block.language == "python"]
    for kind, group in groupby(found, key=lambda block: block.kind):
        several = list(group)
        parts = [several] if kind == "session" else [[block] for block in several]
        for part in parts:
            try:
                RUNS[kind](shell, "\n".join(block.code for block in part))
            except AssertionError as error:
                pytest.fail(f"{name}, line {part[0].line}: {error}")


def test_tutorial_is_among_them() -> None:
    assert TUTORIAL in documents()


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("console", "$ echo two\none\n"),
        ("console", "$ true\nsomething\n"),
        ("console", "$ false\n"),
        ("console", "one\n$ echo one\n"),
        ("session", ">>> 1 + 1\n3\n"),
        ("session", ">>> import warnings; warnings.warn('deprecated')\n"),
        ("file", "import os\n"),
    ],
)
def test_document_that_is_wrong_is_caught(shell: Shell, kind: str, code: str) -> None:
    with pytest.raises(AssertionError):
        RUNS[kind](shell, code)
