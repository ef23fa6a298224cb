# SPDX-License-Identifier: MIT
"""shmclient: the command line.  One family of commands a file."""

import signal

import click

import shmclient
from shmclient import console
from shmclient.cli import bench, completion, inspect, manage, snapshot, top, transfer
from shmclient.cli.common import add_common_options


@add_common_options
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
def cli() -> None:
    """Manage the volumes of an openvstorage shared-memory server."""


for family in (manage, inspect, snapshot, transfer, bench, top, completion):
    for one in family.COMMANDS:
        cli.add_command(one)


def main() -> None:
    # Ctrl-C ends it like any Unix program, also while it waits for the server in C.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    console.run(cli)
