# SPDX-License-Identifier: MIT
"""create, resize, remove."""

import click

import shmclient
from shmclient import display
from shmclient.cli.common import Common, command, new_size, size
from shmclient.cli.completion import volume_names
from shmclient.console import doing
from shmclient.units import format_exact_size


@command("create", "shmclient create vm1/root 10G")
@click.argument("name")
@click.argument("size", callback=size)
def create(common: Common, name: str, size: int) -> None:
    """Create a volume of SIZE bytes (10G, 512M, ...), all zeroes.

    A name is 1 to 254 bytes; "/" in it makes directories on demand.
    """
    with common.connect() as server, doing(f'create "{name}"'):
        server.create(name, size)
        volume = server.stat(name)
    _show_done(common, volume, "created")


@command("resize", "shmclient resize demo +1G")
@click.argument("name", metavar="VOLUME", shell_complete=volume_names)
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
        volume = server.stat(name)
    _show_done(common, volume, "resized")


@command("remove", "shmclient remove demo old-demo")
@click.argument("names", metavar="VOLUME...", nargs=-1, required=True, shell_complete=volume_names)
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


def _show_done(common: Common, volume: shmclient.VolumeInfo, done: str) -> None:
    if common.json:
        display.as_json(volume._asdict())
    else:
        click.echo(f'{done} "{volume.name}": {format_exact_size(volume.size_bytes)}')


COMMANDS = (create, resize, remove)
