# SPDX-License-Identifier: MIT
"""shmserver: the command line of the daemon."""

from collections.abc import Callable, Iterable
from typing import Any

import click

from shmclient import console
from shmserver import mounting
from shmserver._core import DEPTH_MAX, QUEUES_MAX, __version__, stores
from shmserver.config import check, load
from shmserver.daemon import serve
from shmserver.notify import Readiness

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def checked(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """A value with the rules of the config's key of that name."""
    given = list(value) if isinstance(value, tuple) else value
    if given in (None, []):
        return None
    try:
        return check(param.name or "", given)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def not_empty(ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    if text == "":
        raise click.BadParameter("must not be empty", ctx, param)
    return text


def setting(option: str, metavar: str, help_text: str) -> Decorator:
    """An option for the setting of the same name."""
    return click.option(option, metavar=metavar, callback=checked, help=help_text)


def settings_list(option: str, name: str, metavar: str, help_text: str) -> Decorator:
    return click.option(
        option, name, metavar=metavar, multiple=True, callback=checked, help=help_text
    )


def mount_options(
    ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, str]:
    """KEY alone switches it on."""
    options = split_options(
        ctx, param, tuple(pair if "=" in pair else f"{pair}=on" for pair in pairs)
    )
    try:
        mounting.parse(options)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    return options


def split_options(
    ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, str]:
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise click.BadParameter(f'"{pair}" is not KEY=VALUE', ctx, param)
        options[key] = value
    return options


def write_lines(formatter: click.HelpFormatter, lines: Iterable[str]) -> None:
    """As they are: neither a table nor a command to copy may be broken to the width."""
    for line in lines:
        formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class DaemonCommand(click.Command):
    """Adds what the stores say about themselves, and examples, to --help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Stores (--store) and their options (--store-option)"):
            for name, summary, options in stores():
                formatter.write_text(f"{name}: {summary}")
                with formatter.indentation():
                    write_lines(formatter, options.splitlines())
            formatter.write_text("PATH.so: a store of your own in C, see shmserver(1)")
            formatter.write_text(
                "PACKAGE.MODULE:CLASS: a store in Python, a shmserver.Store; options are arguments "
                "of the class; the module is also looked for in the current directory"
            )
        with formatter.section("Options of the mount (--mount-option)"):
            write_lines(formatter, mounting.describe())
        with formatter.section("Examples"):
            write_lines(
                formatter,
                (
                    "shmserver --pool /srv/vpool",
                    "shmserver --pool /srv/vpool2 --socket /run/openvstorage/vpool2.sock",
                    "shmserver --store memory --socket /tmp/shm.sock --log-level debug",
                    "shmserver --store mystore:Bucket --store-arg bucket=images",
                    "shmserver --pool /srv/vpool --socket-owner :kvm --allow-group kvm",
                    "shmserver --pool /srv/vpool --mount /mnt/vpool --mount-option cache=auto",
                    "shmserver --config /etc/openvstorage/vpool.json",
                ),
            )
        with formatter.section("Units"):
            formatter.write_text("SIZE: bytes, or a number with K, M, G or T (powers of 1024)")
            formatter.write_text("DURATION: seconds, or a number with ns, us, ms, s, m, h")
        with formatter.section("Signals"):
            formatter.write_text("SIGTERM, SIGINT: drain and exit 0; a second one ends at once")


@click.command(
    "shmserver",
    cls=DaemonCommand,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@setting("--pool", "DIR", "Directory of the volumes (the vPool); the file store needs it.")
@setting(
    "--socket",
    "PATH",
    "Where clients connect.  [default: $OVS_SHM_SOCKET, else /run/openvstorage/shm.sock for root, "
    "else $XDG_RUNTIME_DIR/openvstorage/shm.sock]",
)
@click.option(
    "--config",
    metavar="FILE",
    callback=not_empty,
    help="vPool configuration (JSON); options go over it.",
)
@setting(
    "--store",
    "NAME",
    "Holds the data: a store named below, PATH.so, or PACKAGE.MODULE:CLASS.  [default: file]",
)
@click.option(
    "--store-option",
    "--store-arg",
    "store_options",
    metavar="KEY=VALUE",
    multiple=True,
    callback=split_options,
    help="Option of the store, see below.  Repeatable.",
)
@setting(
    "--store-deadline",
    "DURATION",
    "Requests that take a store in Python longer end with ETIMEDOUT.  [default: the store's own]",
)
@setting(
    "--implementation",
    "NAME",
    "native, or reference: the same in Python alone, slow, with the stores memory, file, null and "
    "those in Python.  [default: native]",
)
@setting("--mount", "DIR", "Show the volumes as files there, too (FUSE); an empty directory.")
@click.option(
    "--mount-option",
    "mount_options",
    metavar="KEY[=VALUE]",
    multiple=True,
    callback=mount_options,
    help="Option of the mount, see below.  Repeatable.",
)
@setting("--socket-mode", "MODE", "Permissions of the socket, octal.  [default: 0660]")
@setting("--socket-owner", "USER[:GROUP]", "Owner of the socket; :GROUP sets the group only.")
@settings_list(
    "--allow-user",
    "allow_users",
    "USER",
    "Serve this user, besides root and the server's own; repeatable.  "
    "[default: everybody whom the socket admits]",
)
@settings_list("--allow-group", "allow_groups", "GROUP", "Serve this group; repeatable.")
@setting("--reactors", "COUNT", "Threads that serve requests.  [default: 1 per 2 CPUs, 1 to 4]")
@setting(
    "--depth-max",
    "COUNT",
    f"Requests in flight per queue, 1 to {DEPTH_MAX}.  [default: {DEPTH_MAX}]",
)
@setting(
    "--queues-max", "COUNT", f"Queues per open volume, 1 to {QUEUES_MAX}.  [default: {QUEUES_MAX}]"
)
@setting("--request-max", "SIZE", "Longest read or write; clients split longer.  [default: 1M]")
@setting("--arena-max", "SIZE", "Shared memory per open volume.  [default: 256M]")
@setting("--connections-max", "COUNT", "Clients at a time.  [default: 1024]")
@setting(
    "--spin-max",
    "DURATION",
    "Longest that the self-tuning polling may poll; 0 turns it off.  [default: 100us]",
)
@setting("--drain-timeout", "DURATION", "Time for requests in flight at the end.  [default: 10s]")
@click.option(
    "--ready-fd",
    metavar="FD",
    type=click.IntRange(0, 2**31 - 1),
    help="Write a line to this file descriptor, and close it, once clients can connect.",
)
@click.option(
    "--ready-file",
    metavar="PATH",
    callback=not_empty,
    help="Write the process id there once clients can connect; removed at the end.",
)
@setting("--log-level", "LEVEL", "error, warning, info or debug; to stderr.  [default: info]")
@click.version_option(__version__, prog_name="shmserver")
def cli(config: str | None, ready_fd: int | None, ready_file: str | None, **options: Any) -> None:
    """Serve the volumes of a vPool over shared memory.

    Runs in the foreground; under systemd use Type=notify.  QEMU opens a volume as
    openvstorage:NAME, `shmclient` creates and manages them.
    """
    given = {name: value for name, value in options.items() if value not in (None, {})}
    settings = load(config, given)
    if settings.store == "file" and settings.pool is None:
        raise click.UsageError("the file store needs --pool DIR")
    if options["mount_options"] and settings.mount is None:
        raise click.UsageError("--mount-option needs --mount DIR")
    serve(settings, Readiness(ready_fd, ready_file))


def main() -> None:
    console.run(cli)


if __name__ == "__main__":
    main()
