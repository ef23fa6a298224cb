# SPDX-License-Identifier: MIT
"""The vPool's JSON file: what is understood, what is refused and in which words.

Method: literals through shmserver.config, the module the daemon uses; no process is started.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from shmclient.console import Failure
from shmclient.units import format_duration, format_size, parse_duration, parse_size
from shmserver import config

EXAMPLE = Path(__file__).resolve().parent.parent / "docs" / "vpool.example.json"


def load(tmp_path: Path, document: object, **given: Any) -> config.Settings:
    path = tmp_path / "vpool.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return config.load(str(path), given)


def refusal(tmp_path: Path, document: object) -> list[str]:
    """The lines of the error, without the file's name."""
    with pytest.raises(Failure) as caught:
        load(tmp_path, document)
    message = str(caught.value)
    assert str(tmp_path / "vpool.json") in message
    return [line.strip() for line in message.splitlines()[1:]] or [message]


def test_example_of_the_documentation_is_valid():
    settings = config.load(str(EXAMPLE), {})
    assert settings.pool == "/srv/vpool"
    assert settings.arena_max == 268435456
    assert settings.request_max == 1 << 20
    assert settings.drain_timeout == 10 * 10**9
    assert settings.socket_mode == 0o660


def test_no_file_and_an_empty_one_mean_the_defaults(tmp_path):
    assert config.load(None, {}) == load(tmp_path, {}) == config.Settings()


def test_historical_keys_are_understood(tmp_path):
    settings = load(
        tmp_path,
        {
            "filesystem": {"fs_enable_shm_interface": True, "fs_virtual_disk_format": "raw"},
            "shm_interface": {"shm_region_size": 1048576},
            "network_interface": {"network_uri": "tcp://127.0.0.1:21321"},
        },
    )
    assert settings.arena_max == 1048576


def test_strings_are_values_as_in_the_historical_parser(tmp_path):
    settings = load(
        tmp_path,
        {
            "filesystem": {"fs_enable_shm_interface": "1", "fs_enable_network_interface": "0"},
            "shm_interface": {"shm_region_size": "268435456"},
            "shm_server": {"depth_max": "64"},
        },
    )
    assert (settings.arena_max, settings.depth_max) == (268435456, 64)


@pytest.mark.parametrize("off", [False, "false", "0", 0])
def test_shm_interface_switched_off_without_a_mount_is_refused(tmp_path, off):
    (line,) = refusal(tmp_path, {"filesystem": {"fs_enable_shm_interface": off}})
    assert line.startswith("filesystem.fs_enable_shm_interface: false would leave nothing to serve")


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("filesystem", "fs_enable_network_interface", True, "has no network interface"),
        ("filesystem", "fs_virtual_disk_format", "vmdk", 'must be "raw", not "vmdk"'),
        ("filesystem", "fs_raw_disk_suffix", "/raw", "must be an ending of files"),
        ("filesystem", "fs_raw_disk_suffix", 7, "must be a string, not 7"),
        ("shm_server", "mount", "", "must not be empty"),
        ("shm_server", "mount_options", {"cache": "some"}, "cache must be none, auto or writeback"),
        ("shm_server", "mount_options", {"cash": "none"}, "no option 'cash'; there are cache, "),
        ("shm_server", "mount_options", {"threads": 0}, "threads must be a number from 1 to 256"),
        ("shm_server", "mount_options", {"max-write": "5K"}, "max-write must be a multiple of 4K"),
        ("shm_server", "mount_options", {"splice": "yes"}, "splice must be on or off, not 'yes'"),
        ("filesystem", "fs_enable_shm_interface", "maybe", 'true or false, not "maybe"'),
        ("shm_interface", "shm_region_size", "lots", '"lots" is not a size'),
        ("shm_interface", "shm_region_size", True, "must be a size"),
        ("shm_interface", "shm_region_size", -1, "is not a size"),
        ("shm_interface", "shm_region_size", 100, "greater than or equal to 4096"),
        ("shm_interface", "shm_region_size", "10GB", "ambiguous"),
        ("shm_server", "depth_max", "deep", "valid integer"),
        ("shm_server", "depth_max", 4097, "less than or equal to 4096"),
        ("shm_server", "depth_max", None, "integer"),
        ("shm_server", "socket", 7, "must be a string, not 7"),
        ("shm_server", "pool", "", "must not be empty"),
        ("shm_server", "pool", "/a\0b", "NUL"),
        ("shm_server", "socket_owner", "4294967295", "no user"),
        ("shm_server", "drain_timeout", "9999999999h", "292 years"),
        ("shm_server", "socket_mode", 660, "octal"),
        ("shm_server", "socket_mode", "0999", "octal"),
        ("shm_server", "socket_owner", "no-such-user", 'no user "no-such-user"'),
        ("shm_server", "socket_owner", "root:no-such-group", 'no group "no-such-group"'),
        ("shm_server", "drain_timeout", "soon", "is not a duration"),
        ("shm_server", "log_level", "loud", "'error', 'warning', 'info' or 'debug'"),
        ("shm_server", "store_options", ["a=b"], "valid dictionary"),
        ("shm_server", "allow_users", "root", "valid list"),
    ],
)
def test_bad_value_is_named_with_its_path(tmp_path, section, key, value, said):
    (line,) = refusal(tmp_path, {section: {key: value}})
    assert line.startswith(f"{section}.{key}: ")
    assert said in line


def test_bad_element_is_named_with_its_index(tmp_path):
    (line,) = refusal(tmp_path, {"shm_server": {"allow_users": ["root", "no-such-user"]}})
    assert line == 'shm_server.allow_users.1: there is no user "no-such-user"'


def test_bad_store_option_is_named_with_its_key(tmp_path):
    (line,) = refusal(tmp_path, {"shm_server": {"store_options": {"engine": None}}})
    assert line == "shm_server.store_options.engine: must be a string, not null"


def test_section_that_is_no_object_is_named(tmp_path):
    (line,) = refusal(tmp_path, {"filesystem": 7})
    assert line.startswith("filesystem: ")


def test_unknown_keys_are_named_with_a_guess(tmp_path):
    lines = refusal(
        tmp_path,
        {"shm_interface": {"shm_region_sise": 1}, "filesistem": {}, "shm_server": {"qqq": 1}},
    )
    assert 'shm_interface.shm_region_sise: unknown key; did you mean "shm_region_size"?' in lines
    assert 'filesistem: unknown key; did you mean "filesystem"?' in lines
    assert any(line.startswith("shm_server.qqq: unknown key; known are pool, ") for line in lines)


def test_all_mistakes_are_reported_at_once(tmp_path):
    lines = refusal(
        tmp_path,
        {
            "filesystem": {"fs_virtual_disk_format": "vmdk", "fs_enable_network_interface": 1},
            "shm_server": {"depth_max": 0.5, "bogus": 1},
        },
    )
    assert len(lines) == 4


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "{} {}", "\xff"])
def test_file_that_is_no_json_object_is_refused(tmp_path, text):
    (line,) = refusal(tmp_path, text)
    assert "JSON" in line


def test_shm_interface_may_be_switched_off_beside_a_mount(tmp_path):
    settings = load(
        tmp_path,
        {
            "filesystem": {"fs_enable_shm_interface": False, "fs_raw_disk_suffix": ".raw"},
            "shm_server": {"mount": "/mnt/vpool", "mount_options": {"threads": 4}},
        },
    )
    assert not settings.shared_memory
    assert (settings.mount, settings.volume_suffix) == ("/mnt/vpool", ".raw")
    assert settings.mount_options == {"threads": "4"}


def test_missing_file_is_named(tmp_path):
    with pytest.raises(Failure, match=r"nothing.json.*No such file"):
        config.load(str(tmp_path / "nothing.json"), {})


def test_directory_in_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(Failure, match="Is a directory"):
        config.load(str(tmp_path), {})


def test_command_line_goes_over_the_file(tmp_path):
    document = {"shm_server": {"pool": "/a", "store_options": {"x": 1, "y": True}}}
    settings = load(tmp_path, document, pool="/b", store_options={"x": "2"})
    assert settings.pool == "/b"
    assert settings.store_options == {"x": "2", "y": "true"}


def test_another_store_on_the_command_line_leaves_the_old_ones_options(tmp_path):
    document = {"shm_server": {"store": "fault", "store_options": {"x": 1}}}
    assert load(tmp_path, document, store="memory").store_options == {}


def test_names_and_numbers_name_users_and_groups(tmp_path):
    settings = load(
        tmp_path,
        {
            "shm_server": {
                "allow_users": ["root", 12, "34"],
                "allow_groups": ["root"],
                "socket_owner": ":root",
            }
        },
    )
    assert settings.allow_users == [0, 12, 34]
    assert settings.allow_groups == [0]
    assert settings.socket_owner == (config.UNCHANGED_ID, 0)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1K", 1024),
        ("512M", 512 << 20),
        ("10G", 10 << 30),
        ("10g", 10 << 30),
        ("10GiB", 10 << 30),
        ("1.5T", 3 << 39),
        ("2P", 2 << 50),
        (" 7 B ", 7),
    ],
)
def test_sizes_are_read(text, size_bytes):
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "G", "1X", "-1", "1e3", "0x10", "1.5", "0.3G", "1GB", "1,5G", "٣", "8E"]
)
def test_sizes_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match=r"size|whole|ambiguous|larger"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (3 << 39, "1.5 TiB"), (10 << 30, "10 GiB")],
)
def test_sizes_are_written_for_people(size_bytes, text):
    assert format_size(size_bytes) == text


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [("10", 10**10), ("500ms", 5 * 10**8), ("50us", 50_000), ("2m", 120 * 10**9), ("0", 0)],
)
def test_durations_are_read(text, duration_ns):
    assert parse_duration(text) == duration_ns


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.5, "1.5 s"), (61, "1 m 1 s"), (3600, "1 h 0 m"), (90061, "1 d 1 h")],
)
def test_durations_are_written_for_people(seconds, text):
    assert format_duration(int(seconds * 10**9)) == text
