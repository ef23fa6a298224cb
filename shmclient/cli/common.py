# SPDX-License-Identifier: MIT
"""What all commands share: the options of each, and the kinds of their arguments."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, TypeVar

import click

import shmclient
from shmclient.console import Failure
from shmclient.units import parse_duration, parse_size

Function = TypeVar("Function", bound=Callable[..., Any])
AnyCommand = TypeVar("AnyCommand", bound=click.Command)


def size(ctx: click.Context, param: click.Parameter, text: str) -> int:
    try:
        size_bytes = parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    if size_bytes == 0:
        reason = "a volume of 0 bytes holds nothing; give the size it should have"
        raise click.BadParameter(reason, ctx, param)
    return size_bytes


def optional_size(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    return None if text is None else size(ctx, param, text)


def size_or_zero(ctx: click.Context, param: click.Parameter, text: str | None) -> int:
    try:
        return parse_size(text or "0")
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def duration(ctx: click.Context, param: click.Parameter, text: str) -> int:
    """Nanoseconds, more than 0."""
    try:
        duration_ns = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    if duration_ns == 0:
        raise click.BadParameter("must be more than 0", ctx, param)
    return duration_ns


def whole_seconds(ctx: click.Context, param: click.Parameter, text: str | None) -> int:
    """A duration rounded up; 0 when it is not given."""
    if text is None:
        return 0
    seconds = -(-duration(ctx, param, text) // 10**9)
    if seconds > 2**31:
        raise click.BadParameter(f'"{text}" is more than {2**31} seconds', ctx, param)
    return seconds


def new_size(ctx: click.Context, param: click.Parameter, text: str) -> tuple[int, bool]:
    """A size, or with a plus sign what to add: (bytes, is relative)."""
    return size(ctx, param, text.removeprefix("+")), text.startswith("+")


class Common:
    """The options that every command takes, before or after its name."""

    def __init__(self) -> None:
        self.socket: str | None = None
        self.json = False

    def connect(self, socket: str | None = None) -> AbstractContextManager[shmclient.Connection]:
        """To the server of --socket, unless another one is named."""
        try:
            return shmclient.connect(self.socket if socket is None else socket)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise Failure(
                f"{error.strerror}\n"
                "Start a server with `shmserver --pool DIR`, or name its socket with "
                f"{'--socket' if socket is None else '--to-socket'}."
            ) from error
        except OSError as error:
            raise Failure(error.strerror) from error


def add_common_options(to: AnyCommand) -> AnyCommand:
    """Behind the command's own."""

    def remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value not in (None, False):  # not given: what stands before the command holds
            setattr(ctx.ensure_object(Common), param.name or "", value)

    to.params += [
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=remember,
            help="Print JSON: sizes in bytes, times in nanoseconds.",
        ),
        click.Option(
            ["--socket"],
            metavar="PATH",
            expose_value=False,
            callback=remember,
            help="Socket of the server.  [default: $OVS_SHM_SOCKET, else "
            "/run/openvstorage/shm.sock for root, else $XDG_RUNTIME_DIR/openvstorage/shm.sock]",
        ),
    ]
    return to


UNITS = {
    "SIZE": "Sizes are bytes, or numbers with K, M, G, T or P (powers of 1024).",
    "DURATION": "Durations are seconds, or numbers with ns, us, ms, s, m or h.",
}


def command(name: str, *examples: str) -> Callable[[Function], click.Command]:
    """A command with the common options; its function gets them first."""

    def decorate(function: Function) -> click.Command:
        @wraps(function)
        def with_common(**arguments: Any) -> None:
            function(click.get_current_context().ensure_object(Common), **arguments)

        made = click.command(name)(with_common)
        given = " ".join((param.metavar or param.name or "").upper() for param in made.params)
        units = [text for unit, text in UNITS.items() if unit in given]
        shown = [f"Example{'s' if examples[1:] else ''}:", *(f"  {one}" for one in examples)]
        made.epilog = "\n\n".join("\n".join(["\b", *lines]) for lines in (units, shown) if lines)
        return add_common_options(made)

    return decorate


offset_option = click.option(
    "--offset", metavar="SIZE", callback=size_or_zero, help="Start there.  [default: 0]"
)
length_option = click.option(
    "--length", metavar="SIZE", callback=optional_size, help="So much.  [default: to the end]"
)
