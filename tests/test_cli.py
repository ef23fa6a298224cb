# SPDX-License-Identifier: MIT
"""`shmclient`: what its commands do, print and refuse.

Method: the installed program against a real `shmserver`; JSON is compared as data, text by what a
person needs to find in it.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click
import pytest
from conftest import STOP_S, ServerProcess, client_argv, run
from terminal import on_terminal

import shmclient


@pytest.fixture
def vpool(server: Callable[..., ServerProcess], pool: Path) -> ServerProcess:
    return server("--pool", pool)


@pytest.fixture(scope="module")
def fields() -> dict[str, tuple[str, ...]]:
    """What the objects of each --json output have, from the binding's own records."""
    return {
        "volume": shmclient.VolumeInfo._fields,
        "snapshot": shmclient.SnapshotInfo._fields,
        "status": shmclient.Hello._fields + shmclient.Status._fields,
    }


def refused(vpool: ServerProcess, *words: str) -> str:
    """The one error message of a command that must fail with exit code 1."""
    result = vpool.client(*words, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("shmclient: error: ")
    assert "Traceback" not in result.stderr
    return result.stderr.strip()


def misused(*words: str) -> str:
    result = run(client_argv("/nowhere", *words), check=False)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


# ---- what works --------------------------------------------------------------------------------


def test_volume_from_create_to_remove(vpool):
    assert vpool.client_json("list") == []
    created = vpool.client_json("create", "dir/vol", "64M")
    assert (created["name"], created["size_bytes"]) == ("dir/vol", 64 << 20)
    assert vpool.client_json("info", "dir/vol") == created
    assert vpool.client_json("list") == [created]
    assert vpool.client_json("resize", "dir/vol", "128M")["size_bytes"] == 128 << 20
    assert vpool.client_json("resize", "dir/vol", "+1G")["size_bytes"] == (1 << 30) + (128 << 20)
    assert ": 1.13 GiB (1208483840 bytes)" in vpool.client("resize", "dir/vol", "+512K").stdout
    assert vpool.client_json("remove", "dir/vol") == {"removed": ["dir/vol"]}
    assert vpool.client_json("list") == []


def test_snapshot_from_create_to_remove(vpool):
    vpool.client("create", "vol", "1M")
    with shmclient.connect(vpool.socket) as connection:
        with connection.open("vol", writable=True) as volume:
            volume.pwrite(b"before" * 100, 0)
            volume.flush()
        made = vpool.client_json("snapshot", "create", "vol", "s1")
        assert made == {"volume": "vol", "snapshot": "s1"}
        vpool.client("snapshot", "create", "vol", "s2", "--timeout", "1.5m")
        with connection.open("vol", writable=True) as volume:
            volume.pwrite(b"behind" * 100, 0)
        assert [one["name"] for one in vpool.client_json("snapshot", "list", "vol")] == ["s1", "s2"]
        assert vpool.client_json("info", "vol")["snapshots"] == 2
        vpool.client("snapshot", "remove", "vol", "s2")
        vpool.client("snapshot", "rollback", "vol", "s1")
        with connection.open("vol") as volume:
            assert volume.pread(600, 0) == b"before" * 100
    vpool.client("snapshot", "remove", "vol", "s1")
    assert vpool.client_json("snapshot", "list", "vol") == []


def test_json_has_the_fields_of_the_records(vpool, fields):
    assert tuple(vpool.client_json("create", "vol", "1M")) == fields["volume"]
    vpool.client("snapshot", "create", "vol", "s1")
    assert tuple(vpool.client_json("list")[0]) == fields["volume"]
    assert tuple(vpool.client_json("snapshot", "list", "vol")[0]) == fields["snapshot"]
    status = vpool.client_json("status")
    assert tuple(status) == fields["status"]
    assert (status["store"], status["pid"]) == ("file", vpool.pid)


def test_options_may_stand_before_and_after_the_command(vpool):
    vpool.client("create", "vol", "1M")
    socket = str(vpool.socket)
    before = run([*client_argv(socket), "--json", "info", "vol"])
    after = run([*client_argv("/nowhere")[:1], "info", "vol", "--json", "--socket", socket])
    last = run([*client_argv("/nowhere")[:1], "snapshot", "list", "vol", "--socket", socket])
    assert json.loads(before.stdout) == json.loads(after.stdout)
    assert last.stdout.split() == ["NAME", "SIZE", "ALLOCATED", "CREATED"]


def test_socket_comes_from_the_environment(vpool):
    result = run([client_argv("")[0], "--json", "list"], env={"OVS_SHM_SOCKET": str(vpool.socket)})
    assert json.loads(result.stdout) == []


def test_tables_are_plain_columns_away_from_a_terminal(vpool):
    vpool.client("create", "a-volume-with-quite-a-long-name/" + "x" * 100, "10G")
    heading, line = vpool.client("list").stdout.splitlines()
    assert heading.split() == ["NAME", "SIZE", "ALLOCATED", "SNAPSHOTS", "OPEN"]
    assert line.split()[1:3] == ["10", "GiB"]
    assert "x" * 100 in line
    assert heading.isascii()


def test_tables_show_who_has_a_volume_open(vpool):
    vpool.client("create", "vol", "1M")
    with shmclient.connect(vpool.socket) as connection:
        first = connection.open("vol", writable=True)
        with first, connection.open("vol"):
            assert "1 writer, 1 reader" in vpool.client("list").stdout
            assert "1 writer, 1 reader" in vpool.client("info", "vol").stdout
            assert "2 volumes" in vpool.client("status").stdout


def listed(vpool: ServerProcess, cleanup: ExitStack) -> str:
    """What `list` prints on a narrow terminal."""
    argv = client_argv(vpool.socket, "list")
    return on_terminal(cleanup, argv, stream="stdout", columns=60)


def test_tables_are_drawn_on_a_terminal(vpool, cleanup):
    vpool.client("create", "vol", "1G")
    output = listed(vpool, cleanup)
    assert "─" in output
    assert "vol" in output


def test_names_are_never_taken_for_markup(vpool, cleanup):
    for name in ("[red]x[/red]", ":smile:", "%s{0}", "\\n"):
        vpool.client("create", name, "1M")
        assert name in listed(vpool, cleanup)
        assert name in vpool.client("list").stdout


def test_names_that_are_not_utf8_come_out_as_they_went_in(vpool):
    name = os.fsdecode(b"caf\xe9")
    vpool.client("create", name, "1M")
    assert name in vpool.client("list").stdout
    assert vpool.client_json("list")[0]["name"] == name
    vpool.client("remove", name)


def test_many_volumes_are_all_listed(vpool):
    with shmclient.connect(vpool.socket) as connection:
        names = [f"v{i:04}" for i in range(500)]
        for name in names:
            connection.create(name, 512)
    assert [one["name"] for one in vpool.client_json("list")] == names


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("create",),
        ("list",),
        ("info",),
        ("resize",),
        ("remove",),
        ("map",),
        ("import",),
        ("export",),
        ("copy",),
        ("cat",),
        ("bench",),
        ("top",),
        ("completion",),
        ("status",),
        ("snapshot",),
        ("snapshot", "create"),
        ("snapshot", "list"),
        ("snapshot", "rollback"),
        ("snapshot", "remove"),
    ],
)
def test_help_shows_an_example(words):
    output = run([client_argv("")[0], *words, "--help"]).stdout
    assert "shmclient " + " ".join(words) in output
    if words != ("snapshot",):
        assert "Example" in output


def test_version_is_that_of_the_project():
    version = (Path(__file__).resolve().parent.parent / "VERSION").read_text().strip()
    assert version in run([client_argv("")[0], "--version"]).stdout
    assert shmclient.__version__ == version


def test_manual_page_names_every_command_and_option():
    from shmclient.cli import cli

    page = Path(__file__).resolve().parent.parent / "docs" / "man" / "shmclient.1"
    text = page.read_text().replace("\\-", "-").replace("\\fB", "").replace("\\fR", "")

    def check(command: click.Command, name: str) -> None:
        if isinstance(command, click.Group):
            for inner in command.commands.values():
                check(inner, f"{name} {inner.name}")
            return
        assert name in text
        for param in command.params:
            if isinstance(param, click.Option):
                assert [option for option in param.opts if option not in text] == []

    check(cli, "shmclient")


# ---- what is refused ---------------------------------------------------------------------------


def test_caller_asking_for_a_missing_volume_is_told_so(vpool):
    for words in (
        ("info", "nothing"),
        ("resize", "nothing", "1G"),
        ("resize", "nothing", "+1G"),
        ("remove", "nothing"),
        ("snapshot", "list", "nothing"),
        ("snapshot", "create", "nothing", "s"),
        ("snapshot", "rollback", "nothing", "s"),
        ("snapshot", "remove", "nothing", "s"),
    ):
        assert refused(vpool, *words).endswith(': volume "nothing" does not exist')


def test_caller_asking_for_a_missing_snapshot_is_told_so(vpool):
    vpool.client("create", "vol", "1M")
    for verb in ("rollback", "remove"):
        message = refused(vpool, "snapshot", verb, "vol", "nothing")
        assert message.endswith(': volume "vol" has no snapshot "nothing"')


def test_caller_creating_a_volume_twice_loses_nothing(vpool):
    vpool.client("create", "vol", "1M")
    assert "exists" in refused(vpool, "create", "vol", "2M")
    vpool.client("snapshot", "create", "vol", "s")
    message = refused(vpool, "snapshot", "create", "vol", "s")
    assert message.endswith(': snapshot "s" exists already')
    assert vpool.client_json("info", "vol")["size_bytes"] == 1 << 20


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("", "is empty"),
        ("/abs", 'starts with "/"'),
        ("a//b", "empty component"),
        ("a/", "empty component"),
        ("..", '".."'),
        ("a/../b", '".."'),
        (".", '"."'),
        ("x" * 255, "longer than 254"),
        ("tab\there", "control character"),
        ("line\nbreak", "control character"),
    ],
)
def test_caller_with_a_bad_name_is_told_the_cause(vpool, name, cause):
    assert cause in refused(vpool, "create", name, "1M")
    assert cause in refused(vpool, "info", name)
    assert vpool.client_json("list") == []


def test_caller_with_a_bad_snapshot_name_is_told_the_cause(vpool):
    vpool.client("create", "vol", "1M")
    for name, cause in (("", "is empty"), ("a/b", 'has a "/"'), ("x" * 255, "longer than 254")):
        assert cause in refused(vpool, "snapshot", "create", "vol", name)


def test_caller_shrinking_a_volume_is_refused(vpool):
    vpool.client("create", "vol", "2M")
    assert "shrink" in refused(vpool, "resize", "vol", "1M")
    assert vpool.client_json("info", "vol")["size_bytes"] == 2 << 20


def test_caller_with_a_size_between_sectors_is_refused(vpool):
    assert "multiple of 512" in refused(vpool, "create", "vol", "1000")


@pytest.mark.parametrize("size", ["0", "0G", "ten", "1GB", "1.0001K", "10Q", "8E", ""])
def test_caller_with_a_bad_size_is_told_the_usage(size):
    message = misused("create", "vol", size)
    assert "shmclient: error: Invalid value for 'SIZE'" in message


def test_caller_removing_an_open_volume_is_refused(vpool):
    vpool.client("create", "vol", "1M")
    with shmclient.connect(vpool.socket) as connection, connection.open("vol"):
        message = refused(vpool, "remove", "vol")
        assert "open" in message or "use" in message
    vpool.client("remove", "vol")


def test_remove_stops_at_the_first_that_cannot_be(vpool):
    for name in ("a", "b"):
        vpool.client("create", name, "1M")
    result = vpool.client("remove", "a", "nothing", "b", check=False)
    assert result.returncode == 1
    assert '"nothing"' in result.stderr
    assert [one["name"] for one in vpool.client_json("list")] == ["b"]


def test_no_server_is_explained(short_dir):
    missing = run(client_argv(short_dir / "none.sock", "list"), check=False)
    assert missing.returncode == 1
    assert str(short_dir / "none.sock") in missing.stderr
    assert "shmserver --pool" in missing.stderr


def test_dead_server_is_explained(vpool):
    vpool.kill()
    message = refused(vpool, "list")
    assert "refused" in message
    assert "shmserver --pool" in message


def test_empty_socket_path_is_not_taken_for_the_default(vpool):
    argv = client_argv("", "list")
    result = run(argv, env={"OVS_SHM_SOCKET": str(vpool.socket)}, check=False)
    assert result.returncode == 1
    assert "the socket path is empty" in result.stderr


def test_socket_that_is_a_file_is_refused(short_dir):
    path = short_dir / "file"
    path.touch()
    result = run(client_argv(path, "list"), check=False)
    assert result.returncode == 1
    assert str(path) in result.stderr


class Peer:
    """A process that listens like a server, takes one message, answers `reply`, then waits."""

    CODE = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "s.bind(sys.argv[1]); s.listen(); print(flush=True)\n"
        "c = s.accept()[0]; c.recv(65536); print(flush=True)\n"
        "if sys.argv[2]: c.send(sys.argv[2].encode())\n"
        "c.recv(1)\n"
    )

    def __init__(self, path: Path, reply: str, cleanup: ExitStack) -> None:
        self.process = cleanup.enter_context(
            subprocess.Popen(
                ["/usr/bin/python3", "-c", self.CODE, str(path), reply], stdout=subprocess.PIPE
            )
        )
        cleanup.callback(self.process.kill)
        self.wait()

    def wait(self) -> None:
        """Until it listens; again, until it has got a message."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline()


def test_server_of_another_kind_is_refused(short_dir, cleanup):
    path = short_dir / "s.sock"
    Peer(path, "HTTP/1.1 400 Bad Request", cleanup)
    result = run(client_argv(path, "list"), check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("shmclient: error: ")
    assert "protocol" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("bogus",),
        ("create",),
        ("create", "vol"),
        ("create", "vol", "1G", "more"),
        ("remove",),
        ("snapshot", "bogus"),
        ("snapshot", "create", "vol"),
        ("snapshot", "create", "vol", "s", "--timeout", "soon"),
        ("snapshot", "create", "vol", "s", "--timeout", "9" * 20),
        ("list", "--bogus"),
    ],
)
def test_wrong_usage_ends_with_2(words):
    assert "shmclient: error: " in misused(*words)


@pytest.mark.parametrize("words", [(), ("snapshot",)])
def test_no_command_shows_the_help(words):
    result = run([client_argv("")[0], *words], check=False)
    assert result.returncode == 2
    assert "Commands:" in result.stderr


def test_reader_that_goes_away_is_no_error_worth_a_word(vpool):
    with shmclient.connect(vpool.socket) as connection:
        for i in range(300):
            connection.create(f"v{i}" + "x" * 200, 512)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        result = subprocess.run(
            client_argv(vpool.socket, "list"), stdout=gone, stderr=subprocess.PIPE, timeout=60
        )
    assert result.stderr == b""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_full_standard_output_is_named(vpool, monkeypatch, unbuffered):
    """And not taken for what the server has done: the volume is there."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    for words in (("create", "vol", "1M"), ("list",), ("--json", "status")):
        with Path("/dev/full").open("wb") as full:
            result = subprocess.run(
                client_argv(vpool.socket, *words), stdout=full, stderr=subprocess.PIPE, timeout=60
            )
        assert result.returncode == 1
        said = b"shmclient: error: cannot write standard output: No space left on device\n"
        assert result.stderr == said
    with shmclient.connect(vpool.socket) as connection:
        assert connection.stat("vol").size_bytes == 1 << 20


def test_closed_standard_output_is_refused(vpool):
    """Its number would be that of the next socket."""
    command = " ".join([*client_argv(vpool.socket, "list"), ">&-"])
    result = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "standard output or error is closed" in result.stderr


def test_interrupt_ends_it_at_once(short_dir, cleanup):
    """Ctrl-C while it waits for the answer to its hello."""
    peer = Peer(short_dir / "s.sock", "", cleanup)
    client = subprocess.Popen(client_argv(short_dir / "s.sock", "list"), stderr=subprocess.PIPE)
    cleanup.callback(client.kill)
    peer.wait()
    client.send_signal(signal.SIGINT)
    _, said = client.communicate(timeout=STOP_S)
    assert client.returncode == -signal.SIGINT  # 130 to a shell
    assert said == b""
