# SPDX-License-Identifier: MIT
"""list, info, map, status."""

import click

import shmclient
from shmclient import display
from shmclient.cli.common import Common, command, length_option, offset_option
from shmclient.cli.completion import volume_names
from shmclient.console import Failure, doing
from shmclient.units import format_duration, format_size


@command("list", "shmclient list")
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


@command("info", "shmclient info demo")
@click.argument("name", metavar="VOLUME", shell_complete=volume_names)
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


@command("map", "shmclient map demo", "shmclient --json map demo | jq 'map(select(.zero | not))'")
@click.argument("name", metavar="VOLUME", shell_complete=volume_names)
@offset_option
@length_option
def map_(common: Common, name: str, offset: int, length: int | None) -> None:
    """Show where in a volume data is.

    In bytes.  hole: the store holds nothing for it.  zero: it reads as zeroes.
    """
    with common.connect() as server, doing(f'map "{name}"'), server.open(name) as volume:
        available = volume.size_bytes - offset
        if available < 0:
            raise Failure(f'volume "{name}" has {volume.size_bytes} bytes only')
        wanted = available if length is None else min(length, available)
        extents = list(volume.block_status(wanted, offset))
    if common.json:
        display.as_json([extent._asdict() for extent in extents])
        return
    display.table(
        ("OFFSET", "LENGTH", "CONTENT"),
        [
            (str(extent.offset_bytes), str(extent.length_bytes), _content(extent))
            for extent in extents
        ],
        right="OFFSET LENGTH",
    )


@command("status", "shmclient status")
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
            ("clients", display.counted(totals.connections, "connection")),
            ("open", display.counted(totals.sessions, "volume")),
            ("requests", f"{totals.requests}, {totals.errors} with an error"),
            ("read", format_size(totals.read_bytes)),
            ("written", format_size(totals.written_bytes)),
            ("reactors", f"{totals.reactors}, slept {display.counted(totals.sleeps, 'time')}"),
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


def _content(extent: shmclient.Extent) -> str:
    if extent.hole:
        return "hole" if extent.zero else "hole, not zero"
    return "zero" if extent.zero else "data"


def _exact(size_bytes: int) -> str:
    return f"{format_size(size_bytes)} ({size_bytes} bytes)"


def _users(volume: shmclient.VolumeInfo) -> str:
    parts = []
    if volume.writers:
        parts.append(display.counted(volume.writers, "writer"))
    if volume.readers:
        parts.append(display.counted(volume.readers, "reader"))
    return ", ".join(parts) or "no"


COMMANDS = (list_, info, map_, status)
