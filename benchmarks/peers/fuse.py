# SPDX-License-Identifier: MIT
"""This project's FUSE mount over the same stores, without shared memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from benchmarks.peers.base import (
    Maker,
    Peer,
    need_fuse,
    pinned,
    running,
    scratch_directory,
    sparse_file,
    unmount_left,
)
from benchmarks.peers.local import cached_disk, direct_disk


@dataclass(frozen=True)
class Variant:
    """One way to mount. Copies: see CACHES."""

    name: str
    cache: Literal["none", "auto", "writeback"]
    single_threaded: bool = False

    @property
    def options(self) -> list[str]:
        threads = ["threads=1", "clone-fd=off"] if self.single_threaded else ["clone-fd=on"]
        return [f"cache={self.cache}", *threads]


VARIANTS = (
    Variant("direct", "none"),
    Variant("direct ST", "none", single_threaded=True),
    Variant("cached", "auto"),
    Variant("writeback", "writeback"),
)

# Between the store and the server's buffer, and between that and the client's by the kernel. A page
# cache is one stop more on the way of what goes all the way: reads that miss, and in the end all
# writes.
CACHES: dict[str, Mapping[str, float]] = {
    "none": {"read": 2, "write": 2},
    "auto": {"read": 3, "write": 3},
    "writeback": {"read": 3, "write": 3},
}


@contextmanager
def fuse(
    store: Literal["memory", "file"],
    variant: Variant,
    volumes: int,
    size_bytes: int,
    scratch: Path,
) -> Iterator[Peer]:
    need_fuse()
    with scratch_directory(scratch) as directory:
        mount, pool, ready = directory / "mount", directory / "pool", directory / "ready"
        mount.mkdir()
        pool.mkdir()
        server = [sys.executable, "-m", "shmserver", "--store", store, "--pool", str(pool)]
        server += ["--socket", str(directory / "s"), "--ready-file", str(ready)]
        server += ["--mount", str(mount), "--log-level", "error"]
        for option in variant.options:
            server += ["--mount-option", option]
        try:
            with running(server, lambda: ready.exists() and mount.is_mount()) as process:
                disk = direct_disk if variant.cache == "none" else cached_disk
                files = [sparse_file(mount / f"bench{n}", size_bytes) for n in range(volumes)]
                yield Peer(
                    f"FUSE {store} {variant.name}",
                    "fuse",
                    store,
                    tuple(disk(file) for file in files),
                    (process.pid,),
                    variant=", ".join(variant.options),
                    copies=CACHES[variant.cache],
                )
        finally:
            unmount_left(mount)


def makers(store: Literal["memory", "file"]) -> dict[str, Maker]:
    """By name: every variant; past the page cache also with both ends pinned."""
    found: dict[str, Maker] = {}
    for variant in VARIANTS:
        name = f"FUSE {store} {variant.name}"
        found[name] = partial(fuse, store, variant)
        if variant.cache == "none":
            for where, apart in (("one CPU", False), ("one CPU each", True)):
                found[f"{name} {where}"] = pinned(found[name], f"{name} {where}", apart=apart)
    return found
