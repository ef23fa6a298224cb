# SPDX-License-Identifier: MIT
"""`shmserver --store package.module:Class`: what it loads, what it says when it cannot."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import SCRIPTS, TOP, run, start_refused

import shmclient

MODULE = '''
import errno, logging, os, sys, threading
import shmserver

class Disk(shmserver.Store):
    """Options are written into the volume."""
    def __init__(self, text, other="default", pool=None):
        self.data = bytearray(f"{text} {other} {pool}".encode().ljust(4096))
    def size(self, name):
        return {"disk": 4096}[name]
    def pread(self, volume, buffer, offset_bytes):
        buffer[:] = self.data[offset_bytes : offset_bytes + len(buffer)]

class Fails(shmserver.Store):
    def __init__(self):
        raise RuntimeError("no luck")

class Refuses(shmserver.Store):
    def __init__(self):
        raise PermissionError(errno.EACCES, "not for you")

class Opens(shmserver.Store):
    def __init__(self):
        open("/absent")

class FailsToStart(Disk):
    def __init__(self):
        super().__init__("")
    def startup(self):
        raise LookupError("nothing there")

class Odd(Disk):
    block_bytes = 3
    def __init__(self):
        super().__init__("")

class Slow(Disk):
    def __init__(self, deadline=None):
        super().__init__("")
    def pread(self, volume, buffer, offset_bytes):
        print("reading", flush=True)
        threading.Event().wait()

class Stuck(Disk):
    def __init__(self):
        import shmserver._core
        shmserver._core.STUCK_S = 0.2
        super().__init__("")
        threading.Thread(target=threading.Event().wait).start()
    def pread(self, volume, buffer, offset_bytes):
        open("arrived", "w").close()
        threading.Event().wait()

class NoStore:
    pass

class NoSize(shmserver.Store):
    pass

class NoRead(shmserver.Store):
    def size(self, name):
        return 4096

unread = NoRead()

class Outer:
    class Inner(Disk):
        def __init__(self):
            super().__init__("inner")

def made(text):
    return Disk("made from " + text)

def nothing():
    return None

instance = Disk("instance")
number = 5
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory has the module `mine`, and packages around broken ones."""
    (tmp_path / "mine.py").write_text(MODULE)
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "deep.py").write_text(MODULE)
    (package / "syntax.py").write_text("def broken(:\n")
    (package / "needs.py").write_text("import a_package_that_nobody_has\n")
    (package / "exits.py").write_text("raise SystemExit(3)\n")
    (package / "raises.py").write_text("raise ValueError('first\\nsecond')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(socket: Path) -> str:
    with shmclient.connect(socket) as connection, connection.open("disk") as volume:
        return volume.pread(4096, 0).decode().rstrip()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["mine:Disk", "--store-arg", "text=a"], "a default None"),
        (["mine:Disk", "--store-option", "text=a", "--store-arg", "other=b"], "a b None"),
        (["mine:Disk", "--store-arg", "text=a", "--pool", "here"], "a default here"),
        (["package.deep:Disk", "--store-arg", "text=a=b"], "a=b default None"),
        (["mine:Outer.Inner"], "inner default None"),
        (["mine:made", "--store-arg", "text=x"], "made from x default None"),
        (["mine:instance"], "instance default None"),
    ],
)
def test_store_is_found_and_gets_its_options(module, server, options, expected):
    process = server("--store", *options)
    assert contents(process.socket) == expected


def test_config_names_a_store_and_its_options(module, server):
    config = module / "vpool.json"
    config.write_text(
        '{"shm_server": {"store": "mine:Disk", "store_options": {"text": 5}, '
        '"store_deadline": "30s"}}'
    )
    process = server("--config", config)
    assert contents(process.socket) == "5 default None"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["absent:Disk"], ["absent", "No module named"]),
        (["package.syntax:Disk"], ["package.syntax", "SyntaxError"]),
        (["package.needs:Disk"], ["package.needs", "a_package_that_nobody_has"]),
        (["package.raises:Disk"], ["package.raises", "ValueError: first second"]),
        (["package.exits:Disk"], ["package.exits", "SystemExit"]),
        (["mine:Absent"], ['"mine"', '"Absent"', "stores in it: Disk, Fails, "]),
        (["mine:"], ["package.module:Class"]),
        ([":Disk"], ["package.module:Class"]),
        (["mine:Disk"], ["mine:Disk", 'needs the option "text"']),
        (
            ["mine:Disk", "--store-arg", "text=a", "--store-arg", "txt=b"],
            ['has no option "txt"', "text, other, pool"],
        ),
        (["mine:instance", "--store-arg", "text=a"], ["takes no options"]),
        (["mine:Fails"], ["mine:Fails", "RuntimeError: no luck", "mine.py, line "]),
        (["mine:Refuses"], ["cannot make", "mine:Refuses", "not for you"]),
        (["mine:Opens"], ["mine:Opens", 'No such file or directory: "/absent"']),
        (["mine:FailsToStart"], ["LookupError: nothing there"]),
        (["mine:Odd"], ["block_bytes is 3", "power of two"]),
        (["mine:NoSize"], ["needs a method size()"]),
        (["mine:NoRead"], ["needs a method pread() or submit()"]),
        (["mine:unread"], ["needs a method pread() or submit()"]),
        (["mine:NoStore"], ["NoStore", "not a shmserver.Store"]),
        (["mine:nothing"], ["NoneType", "not a shmserver.Store"]),
        (["mine:number"], ["not a shmserver.Store"]),
        (["mine:instance", "--reactors", "2"], ["one reactor, not 2"]),
        (["memory", "--store-deadline", "1s"], ["only stores in Python have a deadline"]),
    ],
)
def test_store_that_cannot_be_had_is_one_readable_line(module, short_dir, options, words):
    message = start_refused(short_dir / "s.sock", "--store", *options)
    assert all(word in message for word in words), message
    assert len(message.splitlines()) == 1, message


def test_traceback_comes_with_the_level_debug(module, short_dir):
    argv = [SCRIPTS / "shmserver", "--socket", short_dir / "s.sock", "--log-level", "debug"]
    result = run([*argv, "--store", "package.needs:Disk"], check=False)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "needs.py" in result.stderr


def test_deadline_of_zero_is_refused(short_dir):
    argv = [SCRIPTS / "shmserver", "--store", "x:y", "--store-deadline", "0"]
    result = run(argv, check=False)
    assert result.returncode == 2
    assert "--store-deadline" in result.stderr


def test_deadline_ends_a_request_of_a_store_that_blocks(module, server):
    process = server("--store", "mine:Slow", "--store-deadline", "50ms")
    with pytest.raises(TimeoutError):
        contents(process.socket)
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def test_store_that_blocks_does_not_keep_the_daemon(module, server):
    """Nor does a thread of it that nobody has told to end."""
    os.mkfifo("arrived")
    process = server("--store", "mine:Stuck", "--drain-timeout", "50ms")
    with ThreadPoolExecutor() as pool:
        read = pool.submit(contents, process.socket)
        Path("arrived").read_bytes()
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert isinstance(read.exception(), OSError)
    assert "blocks" in process.log
    assert not process.socket.exists()


def test_help_names_python_stores_and_their_options():
    text = run([SCRIPTS / "shmserver", "--help"]).stdout
    assert "MODULE:CLASS" in text
    assert "--store-arg" in text
    assert "--store-deadline" in text


def test_example_of_twenty_lines(server, monkeypatch):
    monkeypatch.chdir(TOP / "examples")
    process = server("--store", "memory_store:Memory")
    process.client("create", "vol", "1M")
    with (
        shmclient.connect(process.socket) as connection,
        connection.open("vol", writable=True) as volume,
    ):
        assert volume.pwrite(b"data", 4094) == 4
        assert volume.pread(6, 4093) == b"\0data\0"
    process.client("remove", "vol")
    assert process.client_json("list") == []
