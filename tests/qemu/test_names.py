# SPDX-License-Identifier: MIT
"""How volumes are named to QEMU: all forms and options, and the refusal of each bad one.

Method: qemu-img info, which opens and prints back the name it would open the volume by.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ServerProcess

from .tools import MIB, Qemu

pytestmark = pytest.mark.qemu


@pytest.fixture
def vol(qemu: Qemu) -> Qemu:
    qemu.create("vol", "1M")
    return qemu


def known_as(qemu: Qemu, *words: str) -> str:
    info = qemu.img_json("info", *words)
    assert info["virtual-size"] == MIB
    return str(info["filename"])


# ---- file names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("openvstorage:vol", "openvstorage:vol"),
        ("openvstorage+shm:vol", "openvstorage:vol"),
        ("openvstorage:%76ol", "openvstorage:vol"),
        ("openvstorage:vol:snapshot-timeout=120:enable-ha=on", "openvstorage:vol"),
        ("openvstorage:vol:enable-ha=off", "openvstorage:vol:enable-ha=off"),
        ("openvstorage:vol:snapshot-timeout=9", "openvstorage:vol:snapshot-timeout=9"),
        (
            "openvstorage+shm:vol:enable-ha=off:snapshot-timeout=0",
            "openvstorage:vol:snapshot-timeout=0:enable-ha=off",
        ),
    ],
)
def test_file_name_is_opened_and_given_back(vol: Qemu, name: str, canonical: str) -> None:
    assert known_as(vol, name) == canonical
    assert known_as(vol, canonical) == canonical


def test_socket_option_names_the_server(vol: Qemu, server: Callable[..., ServerProcess]) -> None:
    other = server("--store", "memory")
    name = f"openvstorage:elsewhere:socket={other.socket}"
    vol.img("create", "-q", "-f", "raw", name, "1M")
    assert known_as(vol, name) == name
    assert [v["name"] for v in vol.server.client_json("list")] == ["vol"]
    assert known_as(vol, f"openvstorage:vol:socket={vol.server.socket}") == "openvstorage:vol"


@pytest.mark.parametrize("volume", ["a:b", "50%", "with space", "dir/ü#?x"])
def test_odd_volume_names_are_escaped_and_found_again(qemu: Qemu, volume: str) -> None:
    qemu.server.client("create", volume, "1M")
    structured = f"driver=openvstorage,volume={volume}"
    name = known_as(qemu, "--image-opts", structured)
    assert known_as(qemu, name) == name
    assert ":" not in name.removeprefix("openvstorage:")


# ---- structured --------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", [{}, {"transport": "shm"}])
def test_structured_options_open_a_volume(vol: Qemu, transport: dict[str, str]) -> None:
    options = {"driver": "openvstorage", "volume": "vol", "snapshot-timeout": "5"} | transport
    canonical = "openvstorage:vol:snapshot-timeout=5"
    pairs = ",".join(f"{key}={value}" for key, value in options.items())
    assert known_as(vol, "--image-opts", pairs) == canonical
    nested = {"driver": "raw", "file": options | {"enable-ha": True}}
    assert known_as(vol, f"json:{json.dumps(nested)}") == canonical


def test_name_and_options_together_are_refused(qemu: Qemu) -> None:
    name = "openvstorage:vol"
    for option in ("transport=shm", "volume=v", "host=h", "port=1", "snapshot-timeout=1"):
        drive = f"if=none,file={name},file.{option}"
        refusal = qemu.refused("qemu-system-x86_64", "-display", "none", "-drive", drive)
        assert f"'{option.split('=')[0]}' may not be specified at the same time" in refusal


def test_name_with_the_options_it_does_not_contain_is_fine(vol: Qemu) -> None:
    drive = f"if=none,id=d,file=openvstorage:vol,file.socket={vol.server.socket},file.enable-ha=off"
    with vol.daemon(
        "-nodefaults", "-display", "none", "-drive", drive, program="qemu-system-x86_64"
    ) as machine:
        block = machine.execute("query-block")[0]
        assert block["inserted"]["file"] == "openvstorage:vol:enable-ha=off"
        machine.quit()


# ---- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("openvstorage:", "volume name must be specified"),
        ("openvstorage::snapshot-timeout=1", "volume name must be specified"),
        ("openvstorage:vol:foo=1", "unknown option 'foo=1'"),
        ("openvstorage:vol:", "unknown option ''"),
        ("openvstorage:vol:snapshot-timeout=1:snapshot-timeout=2", "specified twice"),
        ("openvstorage:vol:snapshot-timeout=abc", "'snapshot-timeout' expects a number"),
        ("openvstorage:vol:snapshot-timeout=", "'snapshot-timeout' expects a number"),
        ("openvstorage:vol:snapshot-timeout=-1", "snapshot-timeout must be between 0 and"),
        ("openvstorage:vol:enable-ha=maybe", "'enable-ha' expects 'on' or 'off'"),
        ("openvstorage:vol:enable-ha=", "'enable-ha' expects 'on' or 'off'"),
        ("openvstorage:v%zz", "'v%zz' is not a valid volume"),
        ("openvstorage:v%00", "'v%00' is not a valid volume"),
        ("openvstorage+tcp:host", "server and volume name must be specified"),
        ("openvstorage+tcp:/vol", "server and volume name must be specified"),
        ("openvstorage+tcp:host/", "server and volume name must be specified"),
        ("openvstorage+tcp:host:/vol", "server/port must be specified"),
        ("openvstorage+tcp:host:x/vol", "server/port must be specified"),
        ("openvstorage+tcp:host:99/vol:enable-ha=off", "'tcp' is not supported yet"),
        ("openvstorage+rdma:host/vol", "'rdma' is not supported yet"),
        (
            "openvstorage:nope",
            "No such file or directory",
        ),
        ("openvstorage:/vol", "cannot open volume '/vol': Invalid argument"),
        ("openvstorage:a/../b", "cannot open volume 'a/../b': Invalid argument"),
        ("openvstorage:" + "x" * 255, "File name too long"),
        ("openvstorage:vol:socket=/nowhere/sock", "/nowhere/sock: No such file or directory"),
    ],
)
def test_bad_name_is_refused_with_its_reason(vol: Qemu, name: str, refusal: str) -> None:
    assert refusal in vol.refused("qemu-img", "info", name)


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({}, "volume name must be specified"),
        ({"volume": ""}, "volume name must be specified"),
        ({"volume": "vol", "transport": "pigeon"}, "'pigeon' is none of"),
        ({"volume": "vol", "transport": "tcp", "host": "h"}, "'tcp' is not supported yet"),
        ({"volume": "vol", "host": "h"}, "transport 'shm' has neither host nor port"),
        ({"volume": "vol", "colour": "red"}, "doesn't support the option 'colour'"),
    ],
)
def test_bad_options_are_refused_by_name(vol: Qemu, options: dict[str, str], refusal: str) -> None:
    name = f"json:{json.dumps({'driver': 'openvstorage'} | options)}"
    assert refusal in vol.refused("qemu-img", "info", name)


def test_server_that_is_not_there_is_told_with_its_socket(vol: Qemu) -> None:
    vol.server.stop()
    refusal = vol.refused("qemu-img", "info", "openvstorage:vol")
    assert f"cannot connect to {vol.server.socket}: No such file or directory" in refusal
    assert "is shmserver running?" in refusal
    refusal = vol.refused("qemu-img", "create", "openvstorage:new", "1M")
    assert f"openvstorage:new: cannot connect to {vol.server.socket}" in refusal


def test_socket_of_another_program_is_told(vol: Qemu, tmp_path: Path) -> None:
    plain = tmp_path / "file"
    plain.touch()
    assert "Connection refused" in vol.refused("qemu-img", "info", f"openvstorage:v:socket={plain}")
