# SPDX-License-Identifier: MIT
"""list, info, status."""

import click

import shmclient
from shmclient import display
from shmclient.cli.common import Common, command
from shmclient.cli.completion import volume_names
from shmclient.console import doing
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
@click.argument("name", shell_complete=volume_names)
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


COMMANDS = (list_, info, status)
