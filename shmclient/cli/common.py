# SPDX-License-Identifier: MIT
"""What all commands share: the options of each, and the kinds of their arguments."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, TypeVar

import click

import shmclient
from shmclient.console import Failure
from shmclient.units import parse_size

Function = TypeVar("Function", bound=Callable[..., Any])


def size(ctx: click.Context, param: click.Parameter, text: str) -> int:
    try:
        size_bytes = parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    if size_bytes == 0:
        reason = "a volume of 0 bytes holds nothing; give the size it should have"
        raise click.BadParameter(reason, ctx, param)
    return size_bytes


def new_size(ctx: click.Context, param: click.Parameter, text: str) -> tuple[int, bool]:
    """A size, or with a plus sign what to add: (bytes, is relative)."""
    return size(ctx, param, text.removeprefix("+")), text.startswith("+")


class Common:
    """The options that every command takes, before or after its name."""

    def __init__(self) -> None:
        self.socket: str | None = None
        self.json = False

    def connect(self) -> AbstractContextManager[shmclient.Connection]:
        try:
            return shmclient.connect(self.socket)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise Failure(
                f"{error.strerror}\n"
                "Start a server with `shmserver --pool DIR`, or name its socket with --socket."
            ) from error
        except OSError as error:
            raise Failure(error.strerror) from error


def common_options(function: Function) -> Function:
    def remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value not in (None, False):  # not given: what stands before the command holds
            setattr(ctx.ensure_object(Common), param.name or "", value)

    function = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=remember,
        help="Print JSON, sizes in bytes.",
    )(function)
    return click.option(
        "--socket",
        metavar="PATH",
        expose_value=False,
        callback=remember,
        help="Socket of the server.  [default: $OVS_SHM_SOCKET, else /run/openvstorage/shm.sock "
        "for root, else $XDG_RUNTIME_DIR/openvstorage/shm.sock]",
    )(function)


def command(name: str, example: str) -> Callable[[Function], click.Command]:
    """A command with the common options; its function gets them first."""

    def decorate(function: Function) -> click.Command:
        @wraps(function)
        def with_common(**arguments: Any) -> None:
            function(click.get_current_context().ensure_object(Common), **arguments)

        with_options = common_options(with_common)
        return click.command(name, epilog=f"Example: {example}")(with_options)

    return decorate
