# SPDX-License-Identifier: MIT
"""Settings of the daemon: the vPool's JSON file, and the command line over it.

The file has the historical sections (filesystem, shm_interface, network_interface) and one of this
server's own, shm_server, whose keys are the long options with "_" for "-".  Nothing is skipped
silently: unknown keys, bad values and features that this server lacks are all reported, each with
its JSON path.  As in the historical parser "1", "0" and numbers in quotes are fine.
"""

import grp
import json
import os
import pwd
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
)
from pydantic_core import ErrorDetails

from shmclient.console import Failure
from shmclient.units import parse_duration, parse_size
from shmserver import mounting
from shmserver._core import DEPTH_MAX, PAGE_BYTES, QUEUES_MAX

# In a call of chown(): leave it as it is.
UNCHANGED_ID = 2**32 - 1
SUFFIX_BYTES_MAX = 32


def _number_or_text(parse: Callable[[str], int], unit: str) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(f"must be {unit}, not {_json(value)}")
        return parse(str(value))

    return check


def _json(value: object) -> str:
    return json.dumps(value, default=str)


def _flag(value: object) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    text = str(value).lower()
    if isinstance(value, bool | int | str) and text in known:
        return known[text]
    raise ValueError(f"must be true or false, not {_json(value)}")


def _mode(value: object) -> int:
    text = value if isinstance(value, str) else ""
    if not text or set(text) - set("01234567") or int(text, 8) > 0o777:
        raise ValueError(f'must be an octal mode in quotes such as "0660", not {_json(value)}')
    return int(text, 8)


def _number_id(text: str) -> int | None:
    return int(text) if text.isdecimal() and int(text) < UNCHANGED_ID else None


def user_id(value: object) -> int:
    text = str(value)
    number = _number_id(text)
    try:
        return pwd.getpwnam(text).pw_uid if number is None else number
    except (KeyError, ValueError):
        raise ValueError(f"there is no user {_json(text)}") from None


def group_id(value: object) -> int:
    text = str(value)
    number = _number_id(text)
    try:
        return grp.getgrnam(text).gr_gid if number is None else number
    except (KeyError, ValueError):
        raise ValueError(f"there is no group {_json(text)}") from None


def _owner(value: object) -> tuple[int, int]:
    user, _, group = str(value).partition(":")
    if not user and not group:
        raise ValueError(f"must be USER, USER:GROUP or :GROUP, not {_json(value)}")
    return (user_id(user) if user else UNCHANGED_ID, group_id(group) if group else UNCHANGED_ID)


def _text(value: object) -> str:
    """A string that C can have; not UTF-8 is fine, as for the names of files."""
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {_json(value)}")
    if "\0" in value:
        raise ValueError(f"must not have a NUL character: {_json(value)}")
    return value


def _name(value: object) -> str:
    if value == "":
        raise ValueError("must not be empty")
    return _text(value)


def _mount_options(options: dict[str, str]) -> dict[str, str]:
    mounting.parse(options)
    return options


def _option_value(value: object) -> str:
    return _json(value) if isinstance(value, bool | int | float) else _text(value)


Flag = Annotated[bool, BeforeValidator(_flag)]
Size = Annotated[int, BeforeValidator(_number_or_text(parse_size, 'a size such as "64M"'))]
DurationNs = Annotated[
    int, BeforeValidator(_number_or_text(parse_duration, 'a duration such as "10s"'))
]
User = Annotated[int, BeforeValidator(user_id)]
Group = Annotated[int, BeforeValidator(group_id)]
Name = Annotated[str, PlainValidator(_name)]
OptionValue = Annotated[str, PlainValidator(_option_value)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShmServer(Section):
    """What is served and how; also the defaults.  0 and None: not given, the core has its own."""

    pool: Name | None = None
    socket: Name | None = None
    store: Name = "file"
    store_options: dict[Name, OptionValue] = {}
    implementation: Literal["native", "reference"] = "native"
    store_deadline: Annotated[DurationNs, Field(gt=0)] | None = None
    reactors: int = Field(0, ge=1, le=64)
    depth_max: int = Field(0, ge=1, le=DEPTH_MAX)
    queues_max: int = Field(0, ge=1, le=QUEUES_MAX)
    request_max: Annotated[Size, Field(ge=PAGE_BYTES, le=2**30)] | None = None
    connections_max: int = Field(0, ge=1, le=10**6)
    socket_mode: Annotated[int, BeforeValidator(_mode)] = 0o660
    socket_owner: Annotated[tuple[int, int], BeforeValidator(_owner)] | None = None
    allow_users: list[User] = []
    allow_groups: list[Group] = []
    drain_timeout: DurationNs = 10 * 10**9
    spin_max: DurationNs | None = None
    mount: Name | None = None
    mount_options: Annotated[dict[Name, OptionValue], AfterValidator(_mount_options)] = {}
    log_level: Literal["error", "warning", "info", "debug"] = "info"


class Settings(ShmServer):
    """The section together with what has its home in a historical one."""

    arena_max: Annotated[Size, Field(ge=PAGE_BYTES, le=2**40)] | None = None
    shared_memory: bool = True
    volume_suffix: str = ""


def _network_off(value: bool) -> bool:
    if value:
        raise ValueError("this server has no network interface; set it to false or remove it")
    return value


def _raw_only(value: object) -> str:
    if value != "raw":
        raise ValueError(
            f'must be "raw", not {_json(value)}: volumes are served byte for byte; '
            "convert others with qemu-img convert"
        )
    return "raw"


def _suffix(value: object) -> str:
    text = _text(value)
    if "/" in text or len(os.fsencode(text)) > SUFFIX_BYTES_MAX:
        raise ValueError(
            f'must be an ending of files such as ".raw" of at most {SUFFIX_BYTES_MAX} bytes, '
            f"not {_json(value)}"
        )
    return text


class Filesystem(Section):
    fs_enable_shm_interface: Flag = True
    fs_enable_network_interface: Annotated[
        bool, BeforeValidator(lambda v: _network_off(_flag(v)))
    ] = False
    fs_virtual_disk_format: Annotated[str, BeforeValidator(_raw_only)] = "raw"
    fs_raw_disk_suffix: Annotated[str, PlainValidator(_suffix)] = ""


class ShmInterface(Section):
    shm_region_size: Annotated[Size, Field(ge=PAGE_BYTES, le=2**40)] | None = None


class NetworkInterface(Section):
    """Known so that old files are read; of no effect while the interface is off."""

    network_uri: str = ""


class VPool(Section):
    filesystem: Filesystem = Filesystem()
    shm_interface: ShmInterface = ShmInterface()
    network_interface: NetworkInterface = NetworkInterface()
    shm_server: ShmServer = ShmServer()


def load(path: str | None, given: dict[str, Any]) -> Settings:
    """The settings of a file (None: no file), with what the command line gave over them."""
    values = _from_file(Path(path)) if path is not None else {}
    if given.get("store", values.get("store")) != values.get("store"):
        # Options of another store.
        values.pop("store_options", None)
    given = dict(given)
    for key in ("store_options", "mount_options"):
        values[key] = {**values.get(key, {}), **given.pop(key, {})}
    values |= given
    if values.get("implementation") == "reference":
        values.setdefault("store", "memory")
        if values.get("mount") is not None or values.get("volume_suffix"):
            raise Failure("the reference implementation has no mount and no suffix of volumes")
    if not values.get("shared_memory", True) and values.get("mount") is None:
        raise Failure(
            f'cannot use the config "{path}":\n  filesystem.fs_enable_shm_interface: false would '
            "leave nothing to serve; set it to true, remove it, or give --mount DIR"
        )
    return Settings.model_construct(**{**Settings().model_dump(), **values})


def check(name: str, value: Any) -> Any:
    """One setting as the command line gives it.  ValueError says what is wrong with it."""
    try:
        return getattr(Settings.model_validate({name: value}), name)
    except ValidationError as error:
        raise ValueError(_message(error.errors()[0])) from None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text)
    except OSError as error:
        raise Failure(f'cannot read the config "{path}": {error.strerror}') from error
    except ValueError as error:
        raise Failure(f'the config "{path}" is not JSON: {error}') from error
    if not isinstance(document, dict):
        raise Failure(f'the config "{path}" must be a JSON object of sections')
    try:
        vpool = VPool.model_validate(document)
    except ValidationError as error:
        problems = "".join(f"\n  {_located(one)}" for one in error.errors())
        raise Failure(f'cannot use the config "{path}":{problems}') from error
    values = vpool.shm_server.model_dump(exclude_unset=True)
    if vpool.shm_interface.shm_region_size is not None:
        values["arena_max"] = vpool.shm_interface.shm_region_size
    values["shared_memory"] = vpool.filesystem.fs_enable_shm_interface
    values["volume_suffix"] = vpool.filesystem.fs_raw_disk_suffix
    return values


def _located(error: ErrorDetails) -> str:
    location = [str(part) for part in error["loc"]]
    path = ".".join(location)
    if error["type"] != "extra_forbidden":
        return f"{path}: {_message(error)}"
    known = list(VPool.model_fields)
    if len(location) > 1:
        section = VPool.model_fields[location[0]].annotation
        known = list(section.model_fields) if section else []
    near = get_close_matches(location[-1], known, 1)
    hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(known)}"
    return f"{path}: unknown key; {hint}"


def _message(error: ErrorDetails) -> str:
    """The complaint without pydantic's own words in front."""
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, ValueError):
        return str(cause)
    message = error["msg"].replace("Input should be", "must be", 1)
    message = message.partition(", unable to parse")[0]
    return f"{message}, not {_json(error['input'])}"
