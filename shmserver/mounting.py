# SPDX-License-Identifier: MIT
"""The options of the mount: what they are called, which values they take, what they mean."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from shmclient.units import parse_size


class Option(NamedTuple):
    """One option: `parse` makes the C core's value of a text, or raises ValueError."""

    key: str
    values: str
    parse: Callable[[str], int]
    default: str
    help: str

    @property
    def name(self) -> str:
        """As the C core calls it."""
        return self.key.replace("-", "_")


def _one_of(*names: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if text not in names:
            raise ValueError(f"must be {', '.join(names[:-1])} or {names[-1]}, not {text!r}")
        return names.index(text)

    return parse


def _switch(text: str) -> int:
    known = {"on": 1, "true": 1, "1": 1, "off": 0, "false": 0, "0": 0}
    if text.lower() not in known:
        raise ValueError(f"must be on or off, not {text!r}")
    return known[text.lower()]


def _count(maximum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= maximum:
            raise ValueError(f"must be a number from 1 to {maximum}, not {text!r}")
        return int(text)

    return parse


def _request_size(text: str) -> int:
    size = parse_size(text)
    if size % 4096 or not 4096 <= size <= 2**20:
        raise ValueError(f"must be a multiple of 4K from 4K to 1M, not {text!r}")
    return size


OPTIONS = (
    Option(
        "cache",
        "none|auto|writeback",
        _one_of("none", "auto", "writeback"),
        "none",
        "the kernel's page cache: not used, for reads, for writes too",
    ),
    Option("threads", "COUNT", _count(256), "10", "most that serve requests; 1: one loop"),
    Option("clone-fd", "on|off", _switch, "on", "each thread has a descriptor of its own"),
    Option("splice", "on|off", _switch, "off", "replies from a file without a copy of ours"),
    Option("io-uring", "auto|on|off", _one_of("auto", "on", "off"), "auto", "requests by io_uring"),
    Option("allow-other", "on|off", _switch, "off", "other users too, as file modes allow"),
    Option("max-write", "SIZE", _request_size, "1M", "longest request"),
    Option("max-background", "COUNT", _count(65535), "128", "asynchronous requests at a time"),
)


def parse(options: Mapping[str, str]) -> dict[str, int]:
    """The values for the C core by name, defaults filled in.  ValueError says what is wrong."""
    known = {option.key: option for option in OPTIONS}
    values = {option.name: option.parse(option.default) for option in OPTIONS}
    for key, text in options.items():
        option = known.get(key.replace("_", "-"))
        if option is None:
            raise ValueError(f"the mount has no option {key!r}; there are {', '.join(known)}")
        try:
            values[option.name] = option.parse(str(text))
        except ValueError as error:
            raise ValueError(f"{option.key} {error}") from None
    return values


def describe() -> list[str]:
    """A line for each option."""
    words = [(f"{one.key}={one.values}", one.help, one.default) for one in OPTIONS]
    width = max(len(word) for word, _, _ in words)
    return [f"{word:<{width}}  {text}  [default: {default}]" for word, text, default in words]
