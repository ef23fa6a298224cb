# SPDX-License-Identifier: MIT
"""completion: what a shell proposes after a tab."""

import os
import threading
from collections.abc import Callable

import click
from click.shell_completion import get_completion_class

import shmclient
from shmclient.cli.common import Common, command

ANSWER_S = 1.0  # a server that takes longer has nothing to propose


def volume_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    del param
    return _ask(ctx, incomplete, lambda server: [one.name for one in server.list()])


def snapshot_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    del param
    volume = ctx.params.get("volume") or ""
    return _ask(ctx, incomplete, lambda server: [one.name for one in server.snapshot_list(volume)])


def _ask(
    ctx: click.Context, incomplete: str, names: Callable[[shmclient.Connection], list[str]]
) -> list[str]:
    """Quick and silent: who presses tab wants no error, and no wait."""
    late = threading.Timer(ANSWER_S, os._exit, (0,))
    late.daemon = True
    late.start()
    try:
        with shmclient.connect(ctx.ensure_object(Common).socket) as server:
            found = [name for name in names(server) if name.startswith(incomplete)]
    except OSError:
        return []
    finally:
        late.cancel()
    return [name for name in found if name.isprintable()]  # click can send nothing but UTF-8


@command("completion", "source <(shmclient completion bash)")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(common: Common, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    To have it always:
      bash  shmclient completion bash > /etc/bash_completion.d/shmclient
      zsh   shmclient completion zsh > "${fpath[1]}/_shmclient"
      fish  shmclient completion fish > ~/.config/fish/completions/shmclient.fish
    Commands, options, files, and the names of volumes and snapshots of the server are completed.
    """
    del common
    root = click.get_current_context().find_root()
    program = root.command.name or ""
    maker = get_completion_class(shell)
    assert maker is not None  # click knows the three
    click.echo(maker(root.command, {}, program, f"_{program.upper()}_COMPLETE").source())


COMMANDS = (completion,)
