# SPDX-License-Identifier: MIT
"""snapshot create, list, rollback, remove."""

from datetime import datetime

import click

from shmclient import display
from shmclient.cli.common import Common, add_common_options, command, whole_seconds
from shmclient.cli.completion import snapshot_names, volume_names
from shmclient.console import doing
from shmclient.units import format_size


@command("create", "shmclient snapshot create demo before-upgrade")
@click.argument("volume", shell_complete=volume_names)
@click.argument("name")
@click.option(
    "--timeout",
    metavar="DURATION",
    callback=whole_seconds,
    help="Wait at most so long for the snapshot to be safe: 30s, 2m.  [default: for ever]",
)
def create(common: Common, volume: str, name: str, timeout: int) -> None:
    """Make the snapshot NAME of VOLUME, also while it is in use."""
    with common.connect() as server, doing(f'create the snapshot "{name}" of "{volume}"'):
        server.snapshot_create(volume, name, timeout_s=timeout)
    _show_done(common, volume, name, "created")


@command("list", "shmclient snapshot list demo")
@click.argument("volume", shell_complete=volume_names)
def list_(common: Common, volume: str) -> None:
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


@command("rollback", "shmclient snapshot rollback demo before-upgrade")
@click.argument("volume", shell_complete=volume_names)
@click.argument("name", shell_complete=snapshot_names)
def rollback(common: Common, volume: str, name: str) -> None:
    """Put VOLUME back to the snapshot NAME.  Newer snapshots are dropped."""
    with common.connect() as server, doing(f'roll "{volume}" back to the snapshot "{name}"'):
        server.snapshot_rollback(volume, name)
    _show_done(common, volume, name, "rolled back to")


@command("remove", "shmclient snapshot remove demo before-upgrade")
@click.argument("volume", shell_complete=volume_names)
@click.argument("name", shell_complete=snapshot_names)
def remove(common: Common, volume: str, name: str) -> None:
    """Remove the snapshot NAME of VOLUME."""
    with common.connect() as server, doing(f'remove the snapshot "{name}" of "{volume}"'):
        server.snapshot_remove(volume, name)
    _show_done(common, volume, name, "removed")


def _show_done(common: Common, volume: str, name: str, done: str) -> None:
    if common.json:
        display.as_json({"volume": volume, "snapshot": name})
    else:
        click.echo(f'{done} snapshot "{name}" of "{volume}"')


@add_common_options
@click.group("snapshot")
def snapshot() -> None:
    """Snapshots of a volume."""


for one in (create, list_, rollback, remove):
    snapshot.add_command(one)
COMMANDS = (snapshot,)
