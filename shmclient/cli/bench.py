# SPDX-License-Identifier: MIT
"""bench: how fast a volume is."""

import time
from concurrent.futures import wait
from contextlib import ExitStack
from functools import partial
from typing import Any

import click

import shmclient
from shmclient import display
from shmclient.cli.common import (
    Common,
    command,
    duration,
    length_option,
    offset_option,
    size,
)
from shmclient.cli.completion import volume_names
from shmclient.cli.pump import SETTLE_S, Background
from shmclient.console import Failure, Interrupted, doing, interruptible
from shmclient.units import format_count, format_latency, format_rate, format_size

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
LIVE_S = 0.25
ARENA_BYTES = 64 << 20  # what a session has by default
ALIGN_BYTES = 4096


@command(
    "bench",
    "shmclient bench demo",
    "shmclient bench demo --rw rw --mix 70 --block-size 64K --depth 8 --duration 30s "
    "--destroy-data",
    "shmclient bench demo --pattern sequential --block-size 1M --depth 4 --length 1G --json",
)
@click.argument("volume", shell_complete=volume_names)
@click.option(
    "--rw",
    type=click.Choice(["read", "write", "rw"]),
    default="read",
    show_default=True,
    help="What to do; rw mixes both.",
)
@click.option(
    "--mix",
    metavar="PERCENT",
    type=click.IntRange(0, 100),
    default=50,
    show_default=True,
    help="How many of the requests of rw are reads.",
)
@click.option(
    "--pattern",
    type=click.Choice(["random", "sequential"]),
    default="random",
    show_default=True,
    help="Which block comes next.",
)
@click.option(
    "--block-size",
    metavar="SIZE",
    callback=size,
    default="4K",
    show_default=True,
    help="Length of a request.",
)
@click.option(
    "--depth",
    metavar="COUNT",
    type=click.IntRange(1, 4096),
    default=32,
    show_default=True,
    help="Requests in flight.",
)
@click.option(
    "--duration",
    "duration_ns",
    metavar="DURATION",
    callback=duration,
    default="10s",
    show_default=True,
    help="How long: 500ms, 10s, 2m.",
)
@offset_option
@length_option
@click.option(
    "--seed",
    metavar="NUMBER",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Another one, another order of random requests.",
)
@click.option(
    "--destroy-data", is_flag=True, help="Writing replaces what VOLUME holds by noise: allow it."
)
def bench(
    common: Common,
    volume: str,
    rw: str,
    mix: int,
    pattern: str,
    block_size: int,
    depth: int,
    duration_ns: int,
    offset: int,
    length: int | None,
    seed: int,
    destroy_data: bool,
) -> None:
    """Measure how fast VOLUME is read, or with --destroy-data written.

    Always so many requests are in flight, made by compiled code.  Latencies are the
    client's, right within 0.4 %.  Ctrl-C ends it early, with what was measured until then.  Reads
    of what was never written are faster than those of data.
    """
    if rw != "read" and not destroy_data:
        raise click.UsageError("writing destroys what the volume holds; --destroy-data allows it")
    with ExitStack() as stack:
        server = stack.enter_context(common.connect())
        with doing(f'open volume "{volume}"'):
            opened = stack.enter_context(
                server.open(
                    volume,
                    writable=rw != "read",
                    depth=depth,
                    arena_bytes=_arena_bytes(server, block_size, depth * (2 if rw == "rw" else 1)),
                )
            )
        available = max(opened.size_bytes - offset, 0)
        length = available if length is None else min(length, available)
        if length < block_size:
            raise Failure(
                f"no block of {format_size(block_size)} fits into the {format_size(length)} "
                f'of "{volume}" to measure; --block-size takes a smaller one'
            )
        with doing(f'measure "{volume}"'):
            load = shmclient.Load(
                opened,
                read_percent={"read": 100, "write": 0, "rw": mix}[rw],
                random=pattern == "random",
                block_bytes=block_size,
                depth=depth,
                offset_bytes=offset,
                length_bytes=length,
                seed=seed,
            )
        interrupted = _run(load, f'measure "{volume}"', duration_ns, block_size)
    report = {
        "volume": volume,
        "rw": rw,
        "mix_percent": mix if rw == "rw" else None,
        "pattern": pattern,
        "block_bytes": block_size,
        "depth": depth,
        "offset_bytes": offset,
        "length_bytes": length,
        "seed": seed,
        **_results(load, block_size),
    }
    if common.json:
        display.as_json(report)
    else:
        _print(report)
    if interrupted:
        raise interrupted


def _arena_bytes(server: shmclient.Connection, block_bytes: int, blocks: int) -> int:
    """Room for so many blocks, each a power of two there; 0: the default is enough."""
    needed = blocks * max(1 << (block_bytes - 1).bit_length(), ALIGN_BYTES)
    if needed <= min(ARENA_BYTES, server.hello.arena_bytes_max):
        return 0
    if needed > server.hello.arena_bytes_max:
        raise Failure(
            f"{blocks} blocks of {format_size(block_bytes)} do not fit into the "
            f"{format_size(server.hello.arena_bytes_max)} that the server shares with a client; "
            "--depth or --block-size makes it less"
        )
    return needed


def _run(load: shmclient.Load, what: str, duration_ns: int, block_bytes: int) -> Interrupted | None:
    """Shows how it goes on a terminal.  Gives the signal that has ended it early."""
    interrupted = None
    rate = display.Rate()
    running = Background(partial(load.run, duration_ns))
    with doing(what), interruptible(), display.progress(what, duration_ns) as show:
        started_ns = time.monotonic_ns()
        try:
            running.start()
            while not wait([running], LIVE_S).done:
                now_ns = time.monotonic_ns()
                per_s = rate.update(load.reads + load.writes, now_ns / 1e9)
                show(
                    now_ns - started_ns,
                    f"{format_count(per_s)} IOPS  {format_rate(per_s * block_bytes)}",
                )
        except Interrupted as signal:
            interrupted = signal
            load.stop()
            wait([running], SETTLE_S)
            if not running.done():
                raise
        running.result()
    return interrupted


def _results(load: shmclient.Load, block_bytes: int) -> dict[str, Any]:
    requests = load.reads + load.writes
    return {
        "duration_ns": load.elapsed_ns,
        "cpu_ns_per_request": load.cpu_ns / requests if requests else None,
        "read": _of_kind(load.read_latencies, load.elapsed_ns, block_bytes),
        "write": _of_kind(load.write_latencies, load.elapsed_ns, block_bytes),
    }


def _of_kind(
    latencies: shmclient.LatencyHistogram, elapsed_ns: int, block_bytes: int
) -> dict[str, Any] | None:
    if latencies.count == 0:
        return None
    per_s = latencies.count * 1e9 / elapsed_ns
    return {
        "requests": latencies.count,
        "requests_per_s": per_s,
        "bytes_per_s": per_s * block_bytes,
        "latency_ns": {
            "min": latencies.min_ns,
            "mean": latencies.mean_ns,
            **{name: latencies.percentile_ns(percent) for name, percent in PERCENTILES.items()},
            "max": latencies.max_ns,
        },
    }


def _print(report: dict[str, Any]) -> None:
    click.echo(
        f"{report['pattern']} {report['rw']} of {format_size(report['block_bytes'])}, "
        f"depth {report['depth']}, {report['duration_ns'] / 1e9:.1f} s"
    )
    kinds = [(kind, report[kind]) for kind in ("read", "write") if report[kind]]
    if not kinds:
        click.echo("nothing was completed")
        return
    # A terminal has 80 columns: the least latency is in the JSON only.
    columns = [name for name in kinds[0][1]["latency_ns"] if name != "min"]
    display.table(
        ("", "IOPS", "RATE", *(name.upper() for name in columns)),
        [
            (
                kind,
                format_count(found["requests_per_s"]),
                format_rate(found["bytes_per_s"]),
                *(format_latency(found["latency_ns"][name]) for name in columns),
            )
            for kind, found in kinds
        ],
    )
    click.echo(f"client CPU: {report['cpu_ns_per_request'] / 1000:.2f} us per request")


COMMANDS = (bench,)
