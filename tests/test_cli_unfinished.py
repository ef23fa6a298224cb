# SPDX-License-Identifier: MIT
"""Transfers that do not get to their end: what is said, and what is left behind.

Method: the installed program on servers that fail, hang or die at a known point; that a transfer
has got there is seen in the server's list of sessions.
"""

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import STOP_S, ServerProcess, client_argv, run
from terminal import on_terminal

import shmclient

MiB = 1 << 20
DATA = bytes(range(1, 256)) * 257 * 64  # 4 MiB without a zero


@pytest.fixture
def faulty(server: Callable[..., ServerProcess]) -> Callable[..., ServerProcess]:
    """Servers of a store in memory with faults: faulty("error=ENOSPC", ...)."""

    def start(*options: str) -> ServerProcess:
        words = [word for option in options for word in ("--store-option", option)]
        return server("--store", "fault", "--drain-timeout", "0", *words)

    return start


@pytest.fixture
def source(server) -> ServerProcess:
    """A server with 16 MiB of data in "vol"."""
    started = server("--store", "memory")
    fill(started, "vol")
    return started


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(DATA * 4)
    return path


def fill(at: ServerProcess, name: str) -> None:
    with shmclient.connect(at.socket) as connection:
        connection.create(name, 16 * MiB)
        with connection.open(name, writable=True) as volume:
            for offset in range(0, 16 * MiB, len(DATA)):
                volume.pwrite(DATA[: 16 * MiB - offset], offset)


def names(at: ServerProcess) -> list[str]:
    return [one["name"] for one in at.client_json("list")]


class Running:
    """A shmclient in the background."""

    def __init__(self, at: ServerProcess, cleanup: ExitStack, *words: str) -> None:
        self.process = cleanup.enter_context(
            subprocess.Popen(
                client_argv(at.socket, *words),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        cleanup.callback(self.process.kill)

    def until_stuck(self, at: ServerProcess) -> None:
        """It has requests in flight at that server, which does not complete them."""
        with shmclient.connect(at.socket) as connection:
            while not any(one.in_flight for one in connection.sessions()):
                assert self.process.poll() is None, self.said()

    def until_open(self, at: ServerProcess) -> None:
        with shmclient.connect(at.socket) as connection:
            while not connection.sessions():
                assert self.process.poll() is None, self.said()

    def said(self) -> str:
        """What it has said on stderr when it is over."""
        _, text = self.process.communicate(timeout=STOP_S)
        assert "Traceback" not in text
        return text


# ---- failures ----------------------------------------------------------------------------------


def test_full_store_leaves_no_new_volume(source, faulty, image):
    full = faulty("error=ENOSPC", "error-op=write", "error-after=20")
    for words, at in (
        (("copy", "vol", "twin", "--to-socket", str(full.socket)), source),
        (("import", str(image), "twin"), full),
    ):
        result = at.client(*words, check=False)
        assert result.returncode == 1
        assert "No space left on device" in result.stderr
        assert 'removing the unfinished volume "twin"' in result.stderr
        assert names(full) == []


def test_full_store_with_an_old_volume_says_what_it_holds(faulty, image):
    full = faulty("error=ENOSPC", "error-op=write", "error-after=20")
    full.client("create", "vol", "16M")
    result = full.client("import", str(image), "vol", check=False)
    assert result.returncode == 1
    assert 'volume "vol" has only a part of the new data' in result.stderr
    assert names(full) == ["vol"]


def test_failure_of_a_pipe_s_target_does_not_wait_for_the_pipe(faulty, cleanup):
    """The writer of the pipe has more to come, some time."""
    full = faulty("error=ENOSPC", "error-op=write")
    importing = Running(full, cleanup, "import", "-", "vol")
    assert importing.process.stdin is not None
    importing.process.stdin.buffer.write((DATA * 2)[: 4 * MiB])  # what is taken in a round
    importing.process.stdin.buffer.flush()
    assert importing.process.wait(STOP_S) == 1
    assert names(full) == []


def test_source_that_cannot_be_read_leaves_no_new_volume(faulty, server):
    bad = faulty("error=EIO", "error-op=read", "error-after=20")
    fill(bad, "vol")
    target = server("--store", "memory")
    result = bad.client("copy", "vol", "twin", "--to-socket", str(target.socket), check=False)
    assert result.returncode == 1
    assert 'cannot read volume "vol"' in result.stderr
    assert names(target) == []


def test_export_of_what_cannot_be_read_leaves_no_new_file(faulty, tmp_path):
    bad = faulty("error=EIO", "error-op=read", "error-after=20")
    fill(bad, "vol")
    result = bad.client("export", "vol", str(tmp_path / "image"), check=False)
    assert result.returncode == 1
    assert "removing the unfinished" in result.stderr
    assert not (tmp_path / "image").exists()
    (tmp_path / "image").write_bytes(b"old")
    result = bad.client("export", "vol", str(tmp_path / "image"), "--overwrite", check=False)
    assert "only a part of the new data" in result.stderr
    assert (tmp_path / "image").exists()


def test_target_that_dies_is_reported_with_what_it_may_have(source, faulty, cleanup):
    dying = faulty("never-op=write")
    copying = Running(source, cleanup, "copy", "vol", "twin", "--to-socket", str(dying.socket))
    copying.until_stuck(dying)
    dying.kill()
    said = copying.said()
    assert copying.process.returncode == 1
    assert 'cannot write volume "twin"' in said
    assert "it is left: " in said
    assert source.client_json("info", "vol")["readers"] == 0


def test_source_that_dies_leaves_no_new_volume(faulty, server, cleanup):
    dying = faulty("never-op=read")
    fill(dying, "vol")
    target = server("--store", "memory")
    copying = Running(dying, cleanup, "copy", "vol", "twin", "--to-socket", str(target.socket))
    copying.until_stuck(dying)
    dying.kill()
    said = copying.said()
    assert copying.process.returncode == 1
    assert 'cannot read volume "vol"' in said
    assert names(target) == []


def test_server_that_dies_ends_cat(faulty, cleanup):
    dying = faulty("never-op=read")
    fill(dying, "vol")
    printing = Running(dying, cleanup, "cat", "vol")
    printing.until_stuck(dying)
    dying.kill()
    assert "shmclient: error: cannot read" in printing.said()
    assert printing.process.returncode == 1


def test_source_that_grows_is_copied_as_it_was(faulty, server, cleanup):
    slow = faulty("delay-ms=300", "delay-op=read")
    fill(slow, "vol")
    target = server("--store", "memory")
    copying = Running(slow, cleanup, "copy", "vol", "twin", "--to-socket", str(target.socket))
    copying.until_stuck(slow)
    slow.client("resize", "vol", "32M")
    assert 'volume "vol" has grown meanwhile' in copying.said()
    assert copying.process.returncode == 0
    assert target.client_json("info", "twin")["size_bytes"] == 16 * MiB


def test_file_that_becomes_shorter_leaves_no_new_volume(faulty, image, cleanup):
    slow = faulty("delay-ms=300", "delay-op=write")
    importing = Running(slow, cleanup, "import", str(image), "vol")
    importing.until_stuck(slow)
    os.truncate(image, MiB)
    assert "became shorter" in importing.said()
    assert importing.process.returncode == 1
    assert names(slow) == []


def test_file_that_becomes_longer_is_imported_as_it_was(faulty, image, cleanup):
    slow = faulty("delay-ms=300", "delay-op=write")
    length = image.stat().st_size
    importing = Running(slow, cleanup, "import", str(image), "vol")
    importing.until_stuck(slow)
    os.truncate(image, length + MiB)
    assert "has changed its size meanwhile" in importing.said()
    assert importing.process.returncode == 0
    assert slow.client_json("info", "vol")["size_bytes"] == length + -length % 512


# ---- signals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_takes_the_new_volume_away(source, faulty, cleanup, number):
    slow = faulty("delay-ms=500", "delay-op=write")
    copying = Running(source, cleanup, "copy", "vol", "twin", "--to-socket", str(slow.socket))
    copying.until_stuck(slow)
    copying.process.send_signal(number)
    said = copying.said()
    assert copying.process.returncode == -number
    assert said.splitlines() == [
        "shmclient: interrupted",
        'shmclient: removing the unfinished volume "twin"',
    ]
    assert names(slow) == []


def test_signal_says_what_cannot_be_taken_away(source, faulty, cleanup):
    """The store never lets go of the volume."""
    stuck = faulty("never-op=write")
    copying = Running(source, cleanup, "copy", "vol", "twin", "--to-socket", str(stuck.socket))
    copying.until_stuck(stuck)
    copying.process.send_signal(signal.SIGINT)
    said = copying.said()
    assert copying.process.returncode == -signal.SIGINT
    assert "interrupted" in said
    assert 'it is left: volume "twin" is open' in said
    assert names(stuck) == ["twin"]


def test_signal_leaves_an_old_volume_and_says_what_it_holds(source, faulty, cleanup):
    stuck = faulty("never-op=write")
    stuck.client("create", "twin", "16M")
    copying = Running(source, cleanup, "copy", "vol", "twin", "--to-socket", str(stuck.socket))
    copying.until_stuck(stuck)
    copying.process.send_signal(signal.SIGINT)
    assert 'volume "twin" has only a part of the new data' in copying.said()
    assert names(stuck) == ["twin"]


def test_signal_ends_an_import_that_waits_for_its_pipe(server, cleanup):
    target = server("--store", "memory")
    importing = Running(target, cleanup, "import", "-", "vol")
    importing.until_open(target)
    importing.process.send_signal(signal.SIGINT)
    assert importing.process.wait(STOP_S) == -signal.SIGINT
    assert 'removing the unfinished volume "vol"' in importing.said()
    assert names(target) == []


def test_signal_takes_the_new_file_away(faulty, tmp_path, cleanup):
    stuck = faulty("never-op=read")
    fill(stuck, "vol")
    exporting = Running(stuck, cleanup, "export", "vol", str(tmp_path / "image"))
    exporting.until_stuck(stuck)
    exporting.process.send_signal(signal.SIGINT)
    assert "removing the unfinished" in exporting.said()
    assert not (tmp_path / "image").exists()


def test_signal_that_is_ignored_stays_ignored(faulty, image, cleanup):
    """As nohup has it."""
    slow = faulty("delay-ms=300", "delay-op=write")
    argv = ["nohup", *client_argv(slow.socket, "import", str(image), "vol")]
    process = cleanup.enter_context(
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    )
    cleanup.callback(process.kill)
    with shmclient.connect(slow.socket) as connection:
        while not any(one.in_flight for one in connection.sessions()):
            assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=STOP_S)
    assert process.returncode == 0


def test_signal_ends_cat_at_once(faulty, cleanup):
    stuck = faulty("never-op=read")
    fill(stuck, "vol")
    printing = Running(stuck, cleanup, "cat", "vol")
    printing.until_stuck(stuck)
    printing.process.send_signal(signal.SIGINT)
    assert printing.process.wait(STOP_S) == -signal.SIGINT
    assert printing.said() == ""


# ---- progress ----------------------------------------------------------------------------------


def test_progress_is_shown_on_a_terminal_only(source, image, cleanup):
    shown = on_terminal(
        cleanup, client_argv(source.socket, "copy", "vol", "[red]twin[/red]"), stream="stderr"
    )
    assert "[red]twin[/red]" in shown
    assert "100%" in shown
    assert "16 MiB of data" in shown
    shown = on_terminal(
        cleanup, client_argv(source.socket, "import", str(image), "imported"), stream="stderr"
    )
    assert "100%" in shown
    assert run(client_argv(source.socket, "copy", "vol", "quiet")).stderr == ""
