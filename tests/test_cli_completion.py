# SPDX-License-Identifier: MIT
"""Shell completion: what a tab proposes.

Method: the script is sourced in a real bash, whose completion function is then called as readline
would call it; for the shells that are not there, the protocol that their scripts use.
"""

import os
import shutil
import socket
from pathlib import Path

import pytest
from conftest import SCRIPTS, ServerProcess, client_argv, run

import shmclient

# Sources the script, pretends that the words have been typed, and prints what is proposed.
TYPED = """
source <(shmclient completion bash)
complete -p shmclient > /dev/null || exit 1
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_shmclient_completion shmclient
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def vpool(server, pool) -> ServerProcess:
    started = server("--pool", pool)
    with shmclient.connect(started.socket) as connection:
        for name in ("vm1/root", "vm1/data", "other"):
            connection.create(name, 512)
        connection.snapshot_create("other", "before")
        connection.snapshot_create("other", "after")
    return started


def typed(*words: str, at: str | os.PathLike[str] = "/nowhere") -> list[str]:
    """What bash proposes for the last word."""
    if not shutil.which("bash"):
        pytest.skip("bash is not installed")
    env = {"OVS_SHM_SOCKET": os.fspath(at), "PATH": f"{SCRIPTS}:{os.environ['PATH']}"}
    result = run(["bash", "-c", TYPED, "bash", "shmclient", *words], env=env)
    assert result.stderr == ""
    return sorted(result.stdout.split())


def test_commands_and_options_are_completed():
    assert typed("sna") == ["snapshot"]
    assert typed("snapshot", "r") == ["remove", "rollback"]
    assert typed("create", "--so") == ["--socket"]


@pytest.mark.parametrize("command", ["info", "resize", "remove"])
def test_names_of_volumes_are_completed(vpool, command):
    assert typed(command, "", at=vpool.socket) == ["other", "vm1/data", "vm1/root"]
    assert typed(command, "vm1/", at=vpool.socket) == ["vm1/data", "vm1/root"]
    assert typed(command, "none", at=vpool.socket) == []


def test_names_of_snapshots_are_completed(vpool):
    for command in ("rollback", "remove"):
        assert typed("snapshot", command, "o", at=vpool.socket) == ["other"]
        assert typed("snapshot", command, "other", "", at=vpool.socket) == ["after", "before"]
        assert typed("snapshot", command, "missing", "", at=vpool.socket) == []


def test_the_server_named_on_the_line_is_asked(vpool):
    named = ("--socket", str(vpool.socket), "info", "oth")
    assert typed(*named) == ["other"]


def test_new_names_are_not_completed(vpool):
    assert typed("create", "", at=vpool.socket) == []


def test_names_that_are_not_utf8_are_left_out(vpool):
    with shmclient.connect(vpool.socket) as connection:
        for name in (os.fsdecode(b"caf\xe9"), "café"):
            connection.create(name, 512)
    assert typed("info", "caf", at=vpool.socket) == ["café"]


def test_no_server_is_silent():
    assert typed("info", "") == []


def test_server_that_does_not_answer_is_silent(short_dir: Path, cleanup):
    """It is not waited for as long as a command would."""
    path = short_dir / "s.sock"
    listener = cleanup.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    listener.bind(str(path))
    listener.listen()
    assert typed("info", "", at=path) == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_names_too(vpool, shell):
    script = run([client_argv("")[0], "completion", shell]).stdout
    assert f"_SHMCLIENT_COMPLETE={shell}_complete" in script
    env = {
        "_SHMCLIENT_COMPLETE": f"{shell}_complete",
        "OVS_SHM_SOCKET": str(vpool.socket),
        "COMP_WORDS": "shmclient info vm1/r",
        "COMP_CWORD": "vm1/r" if shell == "fish" else "2",
    }
    assert "vm1/root" in run([client_argv("")[0]], env=env).stdout


def test_unknown_shell_is_wrong_usage():
    result = run([client_argv("")[0], "completion", "dos"], check=False)
    assert result.returncode == 2
