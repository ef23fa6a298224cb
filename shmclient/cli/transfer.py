# SPDX-License-Identifier: MIT
"""import, export, copy, cat."""

import os
import stat
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import click

import shmclient
from shmclient import display
from shmclient.cli.common import Common, command, length_option, offset_option, optional_size
from shmclient.cli.completion import volume_names
from shmclient.cli.destination import FileDestination, VolumeDestination, unfinished
from shmclient.cli.endpoints import (
    SECTOR_BYTES,
    FileSource,
    Slots,
    StreamSource,
    StreamTarget,
    VolumeSource,
    grain_of,
    sectors,
    slots,
    unit_of,
)
from shmclient.cli.pump import Source, Target, pump
from shmclient.console import Failure, doing, note
from shmclient.units import format_latency, format_rate, format_size

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what is there already.")
size_option = click.option(
    "--size",
    metavar="SIZE",
    callback=optional_size,
    help="Of the volume to make; what is left is zero.  [default: that of the data]",
)


@command(
    "import",
    "shmclient import disk.raw vm1/root",
    "zstd -dc disk.raw.zst | shmclient import - vm1/root",
)
@click.argument("file", metavar="FILE|-", type=click.Path(allow_dash=True))
@click.argument("volume", shell_complete=volume_names)
@size_option
@overwrite_option
def import_(common: Common, file: str, volume: str, size: int | None, overwrite: bool) -> None:
    """Copy a raw image, or standard input, into VOLUME.

    VOLUME is made when it is missing; one that is not empty is only taken with --overwrite.  Zeroes
    take no space in it.  What is no multiple of 512 bytes, or of the blocks of
    the store, is padded with zeroes.
    """
    what = "standard input" if file == "-" else f'"{file}"'
    with ExitStack() as stack:
        fd, length = _open_input(file, what, stack)
        needed = None if length is None else sectors(length)
        if size and needed:
            _check_room(what, needed, size)
        server = stack.enter_context(common.connect())
        destination = stack.enter_context(unfinished(VolumeDestination(server, volume)))
        opened, target = destination.prepare(
            size or needed, new_only=size is not None, overwrite=overwrite
        )
        memory = slots(opened)
        source: FileSource | StreamSource
        if length is None:
            source = StreamSource(fd, what, grain_of(opened))
        else:
            source = FileSource(fd, what, length, len(memory[0]), grain_of(opened))
        transfer = Transfer(file, volume, needed)
        transfer.run(source, target, memory)
        if length is not None and os.fstat(fd).st_size not in (0, length):
            note(f"{what} has changed its size meanwhile; its first {length} bytes were imported")
        unit = SECTOR_BYTES if needed else unit_of(opened)
    padding = -source.length_bytes % unit
    if padding:
        note(f"{what} is no multiple of {unit} bytes; {padding} zero bytes were added")
    transfer.summarize(common, "imported")


@command(
    "export",
    "shmclient export vm1/root disk.raw",
    "shmclient export vm1/root - | zstd > disk.raw.zst",
)
@click.argument("volume", shell_complete=volume_names)
@click.argument("file", metavar="FILE|-", type=click.Path(allow_dash=True))
@overwrite_option
def export(common: Common, volume: str, file: str, overwrite: bool) -> None:
    """Copy VOLUME into a raw image, or to standard output.

    A new file is sparse; one that is not empty is only replaced with --overwrite.
    """
    with ExitStack() as stack:
        origin = Origin(stack.enter_context(common.connect()), volume, stack)
        memory = slots(origin.volume)
        source = origin.source(memory, grain_of(origin.volume))
        target: Target
        if file == "-":
            target = StreamTarget(sys.stdout.fileno(), "standard output")
        else:
            destination = stack.enter_context(unfinished(FileDestination(file)))
            target = destination.prepare(origin.size_bytes, overwrite=overwrite)
        transfer = Transfer(volume, file, origin.size_bytes)
        transfer.run(source, target, memory)
        origin.note_changes()
    transfer.summarize(common, "exported", to_stdout=file == "-")


@command(
    "copy",
    "shmclient copy vm1/root vm2/root",
    "shmclient copy vm1/root vm1/root --to-socket /run/openvstorage/fast.sock",
)
@click.argument("source", shell_complete=volume_names)
@click.argument("target")
@click.option("--to-socket", metavar="PATH", help="Server of TARGET.  [default: that of SOURCE]")
@size_option
@overwrite_option
def copy(
    common: Common,
    source: str,
    target: str,
    to_socket: str | None,
    size: int | None,
    overwrite: bool,
) -> None:
    """Copy the volume SOURCE into the volume TARGET, of the same server or another.

    TARGET is made when it is missing; one that is not empty is only taken with --overwrite.  Only
    data is moved; what is a hole in SOURCE is one in TARGET.
    """
    with ExitStack() as stack:
        server = stack.enter_context(common.connect())
        to_server = stack.enter_context(common.connect(to_socket))
        if source == target and _is_same(common.socket, to_socket):
            raise Failure(f'cannot copy "{source}" to itself')
        origin = Origin(server, source, stack)
        if size:
            _check_room(f'"{source}"', origin.size_bytes, size)
        destination = stack.enter_context(unfinished(VolumeDestination(to_server, target)))
        opened, sink = destination.prepare(
            size or origin.size_bytes, new_only=size is not None, overwrite=overwrite
        )
        memory = slots(origin.volume)
        transfer = Transfer(source, target, origin.size_bytes)
        transfer.run(origin.source(memory, grain_of(origin.volume, opened)), sink, memory)
        origin.note_changes()
    transfer.summarize(common, "copied")


@command("cat", "shmclient cat vm1/root | sha256sum", "shmclient cat vm1/root --length 512 | xxd")
@click.argument("volume", shell_complete=volume_names)
@offset_option
@length_option
def cat(common: Common, volume: str, offset: int, length: int | None) -> None:
    """Write what VOLUME holds to standard output."""
    with ExitStack() as stack:
        origin = Origin(stack.enter_context(common.connect()), volume, stack)
        if offset > origin.size_bytes:
            raise Failure(f'"{volume}" has {origin.size_bytes} bytes only')
        available = origin.size_bytes - offset
        memory = slots(origin.volume)
        source = origin.source(
            memory, grain_of(origin.volume), offset, min(length or available, available)
        )
        transfer = Transfer(volume, "-", None)
        pump(source, StreamTarget(sys.stdout.fileno(), "standard output"), memory, transfer.moved)
    transfer.summarize(common, "", to_stdout=True)


class Origin:
    """A volume that is read, as long as it was when it was opened."""

    def __init__(self, server: shmclient.Connection, name: str, stack: ExitStack) -> None:
        self._name = name
        with doing(f'open volume "{name}"'):
            if server.stat(name).writers:
                note(
                    f'volume "{name}" is open for writing; what is written meanwhile may be missed'
                )
            self.volume = stack.enter_context(server.open(name))
        self.size_bytes = self.volume.size_bytes

    def source(
        self,
        memory: Slots,
        grain_bytes: int,
        offset_bytes: int = 0,
        length_bytes: int | None = None,
    ) -> VolumeSource:
        length = self.size_bytes if length_bytes is None else length_bytes
        what = f'volume "{self._name}"'
        return VolumeSource(
            self.volume,
            what,
            offset_bytes,
            length,
            slot_bytes=len(memory[0]),
            grain_bytes=grain_bytes,
        )

    def note_changes(self) -> None:
        if self.volume.size_bytes != self.size_bytes:
            first = format_size(self.size_bytes)
            note(f'volume "{self._name}" has grown meanwhile; these are its first {first}')


class Transfer:
    """What is being moved: shows how far it is, and at the end what was done."""

    def __init__(self, source: str, target: str, total_bytes: int | None) -> None:
        self._names = {"source": source, "target": target}
        self._total_bytes = total_bytes
        self._size_bytes = 0
        self._data_bytes = 0
        self._started_ns = time.monotonic_ns()

    def moved(self, data_bytes: int, end_bytes: int) -> None:
        self._data_bytes += data_bytes
        self._size_bytes = end_bytes

    def run(self, source: Source, target: Target, memory: Slots) -> None:
        rate = display.Rate()
        with display.progress(self._names["target"], self._total_bytes) as show:

            def moved(data_bytes: int, end_bytes: int) -> None:
                self.moved(data_bytes, end_bytes)
                per_s = format_rate(rate.update(self._data_bytes, time.monotonic()))
                show(end_bytes, f"{format_size(self._data_bytes)} of data  {per_s}")

            pump(source, target, memory, moved)

    def summarize(self, common: Common, done: str, *, to_stdout: bool = False) -> None:
        """On stderr, and only with --json, when standard output has the data."""
        duration_ns = time.monotonic_ns() - self._started_ns
        if common.json:
            summary = {
                **self._names,
                "size_bytes": self._size_bytes,
                "data_bytes": self._data_bytes,
                "duration_ns": duration_ns,
            }
            display.as_json(summary, sys.stderr if to_stdout else sys.stdout)
        elif not to_stdout:
            size, data = format_size(self._size_bytes), format_size(self._data_bytes)
            rate = format_rate(self._data_bytes * 1e9 / duration_ns)
            click.echo(
                f'{done} "{self._names["target"]}": {size} with {data} of data '
                f"in {format_latency(duration_ns)}, {rate}"
            )


def _open_input(file: str, what: str, stack: ExitStack) -> tuple[int, int | None]:
    """A descriptor, and the length of what can be sought in."""
    if file == "-":
        return sys.stdin.fileno(), None
    with doing(f"read {what}"):
        fd = os.open(file, os.O_RDONLY)
    stack.callback(os.close, fd)
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        return fd, None
    length = os.lseek(fd, 0, os.SEEK_END)
    if length == 0:
        raise Failure(f"cannot import {what}: it is empty")
    return fd, length


def _check_room(what: str, needed: int, size: int) -> None:
    if size < needed:
        raise Failure(
            f"{what} has {format_size(needed)}, more than the {format_size(size)} of --size"
        )


def _is_same(socket: str | None, to_socket: str | None) -> bool:
    """Whether two sockets are one; both have just been connected to."""
    if to_socket is None:
        return True
    return Path(socket or shmclient.default_socket()).samefile(to_socket)


COMMANDS = (import_, export, copy, cat)
