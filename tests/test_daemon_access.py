# SPDX-License-Identifier: MIT
"""Who may use a server: the socket's mode and owner, and the allow-list by SO_PEERCRED.

Method: the test process forks, the child becomes another user and tries; needs root.
"""

import os
import stat
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import shmclient
import shmserver
from shmserver.daemon import _default_socket

NOBODY = 65534
DAEMON = 1

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


@pytest.fixture
def open_dir(short_dir: Path) -> Path:
    """A directory that everybody can enter."""
    short_dir.chmod(0o755)
    return short_dir


def as_user(uid: int, function: Callable[[], object], gid: int = NOBODY) -> str:
    """What `function` returns or raises as another user, as text."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            result = str(function())
        except OSError as error:
            result = f"{type(error).__name__}: {error.strerror}"
        except BaseException:
            result = traceback.format_exc()
        os.write(writer, result.encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


def try_server(path: Path) -> Callable[[], object]:
    def connect() -> str:
        with shmclient.connect(path) as connection:
            return connection.hello.store

    return connect


def test_socket_has_mode_0660_unless_told(server):
    one = server("--store", "memory")
    assert stat.S_IMODE(one.socket.stat().st_mode) == 0o660


def test_socket_has_the_mode_and_owner_asked_for(server):
    one = server("--store", "memory", "--socket-mode", "0600", "--socket-owner", "nobody:daemon")
    status = one.socket.stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert (status.st_uid, status.st_gid) == (NOBODY, DAEMON)


def test_socket_group_alone_can_be_set(server):
    status = server("--store", "memory", "--socket-owner", ":daemon").socket.stat()
    assert (status.st_uid, status.st_gid) == (os.geteuid(), DAEMON)


def test_user_without_permission_on_the_socket_is_refused(server, open_dir):
    one = server("--store", "memory")
    answer = as_user(NOBODY, try_server(one.socket))
    assert answer.startswith("PermissionError: ")
    assert str(one.socket) in answer


def test_user_with_permission_on_the_socket_is_served(server, open_dir):
    one = server("--store", "memory", "--socket-owner", "nobody")
    assert as_user(NOBODY, try_server(one.socket)) == "memory"


def test_group_with_permission_on_the_socket_is_served(server, open_dir):
    one = server("--store", "memory", "--socket-owner", ":daemon")
    assert as_user(NOBODY, try_server(one.socket), gid=DAEMON) == "memory"


def test_user_not_on_the_list_is_refused_and_logged(server, open_dir):
    who = ("--socket-mode", "0666", "--allow-user", "daemon")
    one = server("--store", "memory", *who, "--log-level", "warning")
    answer = as_user(NOBODY, try_server(one.socket))
    assert answer.startswith("PermissionError: ")
    assert as_user(DAEMON, try_server(one.socket)) == "memory"
    assert try_server(one.socket)() == "memory", "root is always served"
    one.stop()
    (line,) = one.log.splitlines()
    assert "warning: pid " in line
    assert f"user {NOBODY} is not on the server's list" in line


def test_group_on_the_list_is_served(server, open_dir):
    one = server("--store", "memory", "--socket-mode", "0666", "--allow-group", "daemon")
    assert as_user(NOBODY, try_server(one.socket), gid=DAEMON) == "memory"
    assert as_user(NOBODY, try_server(one.socket)).startswith("PermissionError: ")


# ---- default socket ----------------------------------------------------------------------------


def default_sockets() -> str:
    assert shmclient.default_socket() == shmserver.default_socket()
    return shmserver.default_socket()


def test_default_socket_of_root_is_under_run(monkeypatch):
    monkeypatch.delenv("OVS_SHM_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/elsewhere")
    assert default_sockets() == "/run/openvstorage/shm.sock"


def test_default_socket_of_others_is_under_their_runtime_directory(monkeypatch):
    monkeypatch.delenv("OVS_SHM_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/65534")
    assert as_user(NOBODY, default_sockets) == "/run/user/65534/openvstorage/shm.sock"


def test_default_socket_comes_from_the_environment_first(monkeypatch):
    monkeypatch.setenv("OVS_SHM_SOCKET", "/some/where.sock")
    assert default_sockets() == "/some/where.sock"
    assert as_user(NOBODY, default_sockets) == "/some/where.sock"


def test_no_default_socket_is_explained(monkeypatch):
    monkeypatch.delenv("OVS_SHM_SOCKET", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    for function in (shmclient.default_socket, shmserver.default_socket):
        assert "$XDG_RUNTIME_DIR" in as_user(NOBODY, function)


def test_directory_of_the_default_socket_is_made(monkeypatch, open_dir):
    monkeypatch.delenv("OVS_SHM_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(open_dir / "runtime"))
    (open_dir / "runtime").mkdir()
    os.chown(open_dir / "runtime", NOBODY, NOBODY)
    path = str(open_dir / "runtime" / "openvstorage" / "shm.sock")
    assert as_user(NOBODY, _default_socket) == path
    assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700


def test_directory_of_any_other_socket_is_not_made(monkeypatch, open_dir):
    monkeypatch.setenv("OVS_SHM_SOCKET", str(open_dir / "absent" / "shm.sock"))
    _default_socket()
    assert not (open_dir / "absent").exists()
