# SPDX-License-Identifier: MIT
"""What `shmserver` refuses to start with: a message that names thing and cause, exit 1 or 2."""

import json
import os
import re
import socket
import sys

import pytest
from conftest import SCRIPTS, run, start_refused

from shmclient.units import parse_duration, parse_size
from shmserver import Server

SHMSERVER = str(SCRIPTS / "shmserver")
# Loaded before root is given up: others may not look into the home of root, with a checkout in it.
NOT_AS_ROOT = "import os, shmserver.__main__ as s; os.geteuid() or os.setuid(65534); s.main()"


def misused(*options: str) -> str:
    result = run([SHMSERVER, *options], check=False)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert "shmserver: error: " in result.stderr
    return result.stderr


def test_missing_pool_is_named(short_dir):
    path = short_dir / "absent"
    message = start_refused(short_dir / "s.sock", "--pool", str(path))
    assert str(path) in message
    assert "No such file" in message or "does not exist" in message


def test_pool_that_is_a_file_is_named(short_dir):
    path = short_dir / "file"
    path.touch()
    message = start_refused(short_dir / "s.sock", "--pool", str(path))
    assert str(path) in message
    assert "ot a directory" in message


def test_read_only_pool_is_named(short_dir, pool):
    """A read-only mount, in a mount name space of its own: root ignores permissions."""
    script = f'mount -t tmpfs -o ro none "{pool}" && exec "$@"'
    prefix = ["unshare", "--mount", "--propagation", "private"]
    if run([*prefix, "sh", "-c", script, "sh", "true"], check=False).returncode:
        pytest.skip("mounting needs root")
    argv = [*prefix, "sh", "-c", script, "sh", SHMSERVER, "--pool", pool]
    result = run([*argv, "--socket", short_dir / "s.sock"], check=False)
    assert result.returncode == 1
    assert str(pool) in result.stderr
    assert "ead-only" in result.stderr


def test_unknown_store_is_named_with_the_known(short_dir):
    message = start_refused(short_dir / "s.sock", "--store", "flie")
    assert 'no store "flie"' in message
    assert "file, memory" in message


def test_store_object_that_cannot_be_loaded_is_named(short_dir):
    path = short_dir / "s.so"
    assert str(path) in start_refused(short_dir / "s.sock", "--store", str(path))
    path.write_text("no ELF")
    assert str(path) in start_refused(short_dir / "s.sock", "--store", str(path))


def test_object_that_is_no_store_is_named(short_dir):
    (short_dir / "empty.c").write_text("int nothing;\n")
    library = str(short_dir / "empty.so")
    run(["cc", "-shared", "-fPIC", "-o", library, short_dir / "empty.c"])
    message = start_refused(short_dir / "s.sock", "--store", library)
    assert "ovsshm_store_plugin" in message


def test_store_of_another_interface_is_refused(short_dir):
    (short_dir / "old.c").write_text("const unsigned ovsshm_store_plugin[64] = {999};\n")
    library = str(short_dir / "old.so")
    run(["cc", "-shared", "-fPIC", "-o", library, short_dir / "old.c"])
    assert "interface 999" in start_refused(short_dir / "s.sock", "--store", library)


@pytest.mark.parametrize("store", ["file", "memory", "null", "fault"])
def test_unknown_store_option_is_named(short_dir, pool, store):
    options = ("--store", store, "--pool", str(pool), "--store-option", "no-such-option=1")
    assert "no-such-option" in start_refused(short_dir / "s.sock", *options)


def test_option_that_is_not_utf8_is_refused_like_any_other(short_dir):
    option = os.fsdecode(b"no-such-\xff=1")
    message = start_refused(short_dir / "s.sock", "--store", "memory", "--store-option", option)
    assert 'store "memory" has no option' in message
    assert "no store" in start_refused(short_dir / "s.sock", "--store", os.fsdecode(b"\xff"))


def test_default_socket_that_cannot_be_is_explained(short_dir):
    argv = [SHMSERVER, "--store", "memory"]
    long = run(argv, env={"OVS_SHM_SOCKET": "/" + "x" * 5000}, check=False)
    assert long.returncode == 1
    assert "does not fit" in long.stderr
    argv = [sys.executable, "-c", NOT_AS_ROOT, "--store", "memory"]
    absent = short_dir / "absent"
    result = run(argv, env={"OVS_SHM_SOCKET": "", "XDG_RUNTIME_DIR": str(absent)}, check=False)
    assert result.returncode == 1
    assert f'cannot make "{absent}/openvstorage" for the default socket' in result.stderr


@pytest.mark.parametrize("option", ["--ready-file", "--config", "--pool", "--socket"])
def test_empty_path_is_refused(option):
    assert f"Invalid value for '{option}': must not be empty" in misused(option, "")


def test_ready_fd_that_cannot_be_written_is_named(short_dir):
    message = start_refused(short_dir / "s.sock", "--store", "memory", "--ready-fd", "0")
    assert "--ready-fd 0" in message
    assert "serving" not in message


def test_socket_in_a_missing_directory_is_named(short_dir):
    path = short_dir / "absent" / "s.sock"
    message = start_refused(path, "--store", "memory")
    assert f'no directory "{path.parent}"' in message
    assert str(path) in message


def test_pool_that_the_store_does_not_use_is_mentioned(server, pool):
    assert f'nothing in the pool "{pool}"' in server("--store", "memory", "--pool", pool).log
    assert "pool" not in server("--store", "memory").log


def test_socket_path_that_is_too_long_is_refused(short_dir):
    path = short_dir / ("x" * 120)
    assert "longer than 107 bytes" in start_refused(path, "--store", "memory")


def test_socket_path_of_something_else_is_left_alone(short_dir):
    path = short_dir / "precious"
    path.write_text("data")
    message = start_refused(path, "--store", "memory")
    assert str(path) in message
    assert "not a socket" in message
    assert path.read_text() == "data"


def test_socket_of_another_program_is_left_alone(short_dir):
    path = short_dir / "s.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        other.listen()
        assert str(path) in start_refused(path, "--store", "memory")
        assert path.exists()


def test_config_mistakes_are_named_with_their_paths(short_dir):
    path = short_dir / "vpool.json"
    path.write_text(
        json.dumps({"shm_interface": {"shm_region_sise": 1}, "shm_server": {"reactors": "x"}})
    )
    message = start_refused(short_dir / "s.sock", "--config", str(path))
    assert str(path) in message
    assert 'shm_interface.shm_region_sise: unknown key; did you mean "shm_region_size"?' in message
    assert "shm_server.reactors: must be a valid integer" in message


def test_config_is_used_and_the_command_line_goes_over_it(server, short_dir, pool):
    path = short_dir / "vpool.json"
    section = {"store": "file", "pool": str(pool), "depth_max": 32, "request_max": "128K"}
    path.write_text(
        json.dumps({"shm_interface": {"shm_region_size": 1 << 20}, "shm_server": section})
    )
    one = server("--config", path, "--depth-max", "16")
    status = one.client_json("status")
    assert (status["store"], status["depth_max"]) == ("file", 16)
    assert (status["request_bytes_max"], status["arena_bytes_max"]) == (128 << 10, 1 << 20)


def test_ready_fd_that_is_not_open_is_named(short_dir):
    message = start_refused(short_dir / "s.sock", "--store", "memory", "--ready-fd", "77")
    assert "--ready-fd 77" in message


def test_ready_file_that_cannot_be_written_is_named(short_dir):
    path = short_dir / "absent" / "ready"
    message = start_refused(short_dir / "s.sock", "--store", "memory", "--ready-file", str(path))
    assert str(path) in message
    assert not (short_dir / "s.sock").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--store", "file"], "--pool"),
        ([], "--pool"),
        (["--depth-max", "0x10"], "--depth-max"),
        (["--depth-max", "5000"], "4096"),
        (["--depth-max", "-1"], "--depth-max"),
        (["--depth-max", "0"], "greater than or equal to 1"),
        (["--reactors", "0"], "greater than or equal to 1"),
        (["--request-max", "lots"], "--request-max"),
        (["--arena-max", "1"], "--arena-max"),
        (["--socket-mode", "rw-rw----"], "octal"),
        (["--socket-owner", "no-such-user"], "no-such-user"),
        (["--allow-user", "no-such-user"], "no-such-user"),
        (["--allow-group", "no-such-group"], "no-such-group"),
        (["--drain-timeout", "soon"], "--drain-timeout"),
        (["--store-option", "novalue"], "KEY=VALUE"),
        (["--log-level", "loud"], "--log-level"),
        (["--ready-fd", "x"], "--ready-fd"),
        (["--ready-fd", "9" * 20], "--ready-fd"),
        (["--allow-user", "9" * 20], "no user"),
        (["--bogus"], "--bogus"),
        (["surplus"], "surplus"),
    ],
)
def test_wrong_usage_is_named_and_ends_with_2(options, said):
    assert said in misused(*options)


def test_help_breaks_no_table_and_no_command():
    output = run([SHMSERVER, "--help"], env={"COLUMNS": "60"}).stdout
    assert "read,write,flush,discard,write-zeroes,block-status,\n" in output
    assert "\n  shmserver --pool /srv/vpool --socket-owner :kvm --allow-group kvm\n" in output


def test_help_names_every_store_and_the_defaults_of_the_core(short_dir):
    output = run([SHMSERVER, "--help"], env={"COLUMNS": "100"}).stdout
    for store in ("file: ", "memory: ", "null: ", "fault: "):
        assert store in output
    with Server("null", socket=short_dir / "s.sock") as server:
        limits = server.limits
    for option, name, parse in (
        ("--depth-max", "depth_max", int),
        ("--queues-max", "queues_max", int),
        ("--connections-max", "connections_max", int),
        ("--request-max", "request_bytes_max", parse_size),
        ("--arena-max", "arena_bytes_max", parse_size),
        ("--spin-max", "spin_ns_max", parse_duration),
    ):
        (default,) = re.findall(rf"{option} .*?\[default: (.*?)\]", output, re.DOTALL)
        assert parse(default) == limits[name], option


def test_version_is_that_of_the_project():
    assert run([SHMSERVER, "--version"]).stdout.startswith("shmserver, version ")
