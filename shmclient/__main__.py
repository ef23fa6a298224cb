# SPDX-License-Identifier: MIT
"""shmclient: manage the volumes of an openvstorage shared-memory server."""

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from functools import wraps
from typing import Any, TypeVar

import click

import shmclient
from shmclient import console, display
from shmclient.console import Failure, doing
from shmclient.units import format_duration, format_size, parse_size

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


def command(group: click.Group, name: str, epilog: str) -> Callable[[Function], click.Command]:
    """A subcommand with the common options; its function gets them first."""

    def decorate(function: Function) -> click.Command:
        @wraps(function)
        def with_common(**arguments: Any) -> None:
            function(click.get_current_context().ensure_object(Common), **arguments)

        wrapped = common_options(with_common)
        return group.command(name, epilog=f"Example: {epilog}")(wrapped)

    return decorate


@click.group(
    "shmclient",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  shmclient create demo 10G
  shmclient list
  shmclient snapshot create demo before-upgrade
  shmclient --json info demo
\b
Sizes are bytes, or numbers with K, M, G, T or P (powers of 1024).
Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
""",
)
@click.version_option(shmclient.__version__, prog_name="shmclient")
@common_options
def cli() -> None:
    """Manage the volumes of an openvstorage shared-memory server."""


@command(cli, "create", "shmclient create vm1/root 10G")
@click.argument("name")
@click.argument("size", callback=size)
def create(common: Common, name: str, size: int) -> None:
    """Create a volume of SIZE bytes (10G, 512M, ...), all zeroes.

    A name is 1 to 254 bytes; "/" in it makes directories on demand.
    """
    with common.connect() as server, doing(f'create "{name}"'):
        server.create(name, size)
        _show_done(common, server.stat(name), "created")


@command(cli, "list", "shmclient list")
def list_(common: Common) -> None:
    """List all volumes."""
    with common.connect() as server, doing("list volumes"):
        volumes = server.list()
    if common.json:
        display.as_json([volume._asdict() for volume in volumes])
        return
    display.table(
        ("NAME", "SIZE", "ALLOCATED", "SNAPSHOTS", "OPEN"),
        [
            (
                volume.name,
                format_size(volume.size_bytes),
                format_size(volume.allocated_bytes),
                str(volume.snapshots),
                _users(volume),
            )
            for volume in volumes
        ],
        right="SIZE ALLOCATED SNAPSHOTS",
    )


@command(cli, "info", "shmclient info demo")
@click.argument("name")
def info(common: Common, name: str) -> None:
    """Show one volume."""
    with common.connect() as server, doing(f'show "{name}"'):
        volume = server.stat(name)
    if common.json:
        display.as_json(volume._asdict())
        return
    display.fields(
        (
            ("name", volume.name),
            ("size", _exact(volume.size_bytes)),
            ("allocated", _exact(volume.allocated_bytes)),
            ("block size", f"{volume.block_bytes} B"),
            ("snapshots", str(volume.snapshots)),
            ("open", _users(volume)),
        )
    )


@command(cli, "resize", "shmclient resize demo +1G")
@click.argument("name")
@click.argument("size", metavar="[+]SIZE", callback=new_size)
def resize(common: Common, name: str, size: tuple[int, bool]) -> None:
    """Grow a volume.

    To SIZE, or by SIZE when it starts with "+"; also while it is open.  Shrinking is refused.
    """
    size_bytes, relative = size
    with common.connect() as server, doing(f'resize "{name}"'):
        if relative:
            size_bytes += server.stat(name).size_bytes
        server.resize(name, size_bytes)
        _show_done(common, server.stat(name), "resized")


@command(cli, "remove", "shmclient remove demo old-demo")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def remove(common: Common, names: tuple[str, ...]) -> None:
    """Remove volumes and their snapshots.

    Stops at the first one that cannot be removed.
    """
    with common.connect() as server:
        for name in names:
            with doing(f'remove "{name}"'):
                server.remove(name)
            if not common.json:
                click.echo(f'removed "{name}"')
    if common.json:
        display.as_json({"removed": list(names)})


@command(cli, "status", "shmclient status")
def status(common: Common) -> None:
    """Show the server, its limits and its totals."""
    with common.connect() as server, doing("ask for the status"):
        hello, totals = server.hello, server.status()
    if common.json:
        display.as_json({**hello._asdict(), **totals._asdict()})
        return
    display.fields(
        (
            ("server", f"{hello.server}, pid {totals.pid}"),
            ("store", f"{hello.store} ({', '.join(hello.capabilities)})"),
            ("up for", format_duration(totals.uptime_ns)),
            ("clients", _count(totals.connections, "connection")),
            ("open", _count(totals.sessions, "volume")),
            ("requests", f"{totals.requests}, {totals.errors} with an error"),
            ("read", format_size(totals.read_bytes)),
            ("written", format_size(totals.written_bytes)),
            ("reactors", f"{totals.reactors}, slept {_count(totals.sleeps, 'time')}"),
            ("doorbells", str(totals.doorbells)),
            ("violations", str(totals.violations)),
            (
                "limits",
                f"depth {hello.depth_max}, {hello.queues_max} queues, "
                f"requests of {format_size(hello.request_bytes_max)}, "
                f"arena of {format_size(hello.arena_bytes_max)}",
            ),
        )
    )


@cli.group("snapshot")
@common_options
def snapshot() -> None:
    """Snapshots of a volume."""


@command(snapshot, "create", "shmclient snapshot create demo before-upgrade")
@click.argument("volume")
@click.argument("name")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.IntRange(1, 2**31),
    help="Wait at most so long for the snapshot to be safe.  [default: for ever]",
)
def snapshot_create(common: Common, volume: str, name: str, timeout: int | None) -> None:
    """Make the snapshot NAME of VOLUME, also while it is in use."""
    with common.connect() as server, doing(f'create the snapshot "{name}" of "{volume}"'):
        server.snapshot_create(volume, name, timeout_s=timeout or 0)
    _show_snapshot_done(common, volume, name, "created")


@command(snapshot, "list", "shmclient snapshot list demo")
@click.argument("volume")
def snapshot_list(common: Common, volume: str) -> None:
    """List the snapshots of VOLUME, oldest first."""
    with common.connect() as server, doing(f'list the snapshots of "{volume}"'):
        found = server.snapshot_list(volume)
    if common.json:
        display.as_json([one._asdict() for one in found])
        return
    display.table(
        ("NAME", "SIZE", "ALLOCATED", "CREATED"),
        [
            (
                one.name,
                format_size(one.size_bytes),
                format_size(one.allocated_bytes),
                f"{datetime.fromtimestamp(one.created_ns // 10**9):%Y-%m-%d %H:%M:%S}",
            )
            for one in found
        ],
        right="SIZE ALLOCATED",
    )


@command(snapshot, "rollback", "shmclient snapshot rollback demo before-upgrade")
@click.argument("volume")
@click.argument("name")
def snapshot_rollback(common: Common, volume: str, name: str) -> None:
    """Put VOLUME back to the snapshot NAME.  Newer snapshots are dropped."""
    with common.connect() as server, doing(f'roll "{volume}" back to the snapshot "{name}"'):
        server.snapshot_rollback(volume, name)
    _show_snapshot_done(common, volume, name, "rolled back to")


@command(snapshot, "remove", "shmclient snapshot remove demo before-upgrade")
@click.argument("volume")
@click.argument("name")
def snapshot_remove(common: Common, volume: str, name: str) -> None:
    """Remove the snapshot NAME of VOLUME."""
    with common.connect() as server, doing(f'remove the snapshot "{name}" of "{volume}"'):
        server.snapshot_remove(volume, name)
    _show_snapshot_done(common, volume, name, "removed")


def _exact(size_bytes: int) -> str:
    return f"{format_size(size_bytes)} ({size_bytes} bytes)"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _users(volume: shmclient.VolumeInfo) -> str:
    parts = []
    if volume.writers:
        parts.append(_count(volume.writers, "writer"))
    if volume.readers:
        parts.append(_count(volume.readers, "reader"))
    return ", ".join(parts) or "no"


def _show_done(common: Common, volume: shmclient.VolumeInfo, done: str) -> None:
    if common.json:
        display.as_json(volume._asdict())
    else:
        click.echo(f'{done} "{volume.name}": {format_size(volume.size_bytes)}')


def _show_snapshot_done(common: Common, volume: str, name: str, done: str) -> None:
    if common.json:
        display.as_json({"volume": volume, "snapshot": name})
    else:
        click.echo(f'{done} snapshot "{name}" of "{volume}"')


def main() -> None:
    # Ctrl-C ends it like any Unix program, also while it waits for the server in C.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    console.run(cli)


if __name__ == "__main__":
    main()
