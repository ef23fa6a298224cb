# SPDX-License-Identifier: MIT
"""What the tests of the stores in examples/ share: places to keep volumes in."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from s3_service import BUCKET, S3Service

from examples.overlay_store import CLUSTER, OverlayStore
from examples.s3_store import CHUNK, S3Store
from examples.zstd_store import EXTENT, ZstdStore
from shmserver.store import Store

MIB = 1 << 20
UNITS = {"zstd": EXTENT, "overlay": CLUSTER, "s3": CHUNK}


class Place:
    """Where a store keeps its volumes, and what it has to be told to find them."""

    def __init__(self, kind: str, directory: Path, service: S3Service | None = None) -> None:
        self.kind = kind
        self.unit = UNITS[kind]
        self.base = b""
        if service:
            self.arguments = {"bucket": BUCKET, "endpoint": service.url, "prefix": directory.name}
            return
        self.pool = directory / "pool"
        self.pool.mkdir()
        self.arguments = {}
        if kind == "overlay":
            self.base_path = make_base(directory / "base.raw")
            self.base = self.base_path.read_bytes()
            self.arguments = {"base": str(self.base_path)}

    @property
    def options(self) -> list[str]:
        """The same for shmserver."""
        name = {"zstd": "ZstdStore", "overlay": "OverlayStore", "s3": "S3Store"}[self.kind]
        pool = [] if self.kind == "s3" else ["--pool", str(self.pool)]
        arguments = [f"--store-option={name}={value}" for name, value in self.arguments.items()]
        return ["--store", f"examples.{self.kind}_store:{name}", *pool, *arguments]

    def make(self) -> Store:
        if self.kind == "zstd":
            return ZstdStore(str(self.pool), **self.arguments)
        if self.kind == "overlay":
            return OverlayStore(str(self.pool), **self.arguments)
        return S3Store(**self.arguments)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """What a server has from its start to its end."""
        store = self.make()
        try:
            store.startup()
            yield store
        finally:
            store.shutdown()

    def new(self, size_bytes: int) -> bytearray:
        """What a new volume reads as."""
        shown = self.base[:size_bytes]
        return bytearray(shown + bytes(size_bytes - len(shown)))


def make_base(path: Path) -> Path:
    """Data, a hole, data; its end is in the middle of a cluster."""
    numbers = random.Random(1)
    with path.open("wb") as file:
        file.write(numbers.randbytes(CLUSTER + CLUSTER // 2))
        file.seek(4 * CLUSTER)
        file.write(numbers.randbytes(CLUSTER // 4))
    return path


def read(store: Store, volume: object, length_bytes: int, offset_bytes: int = 0) -> bytes:
    buffer = bytearray(b"\xee") * length_bytes
    store.pread(volume, memoryview(buffer), offset_bytes)
    return bytes(buffer)


def write(store: Store, volume: object, data: bytes, offset_bytes: int = 0) -> None:
    store.pwrite(volume, memoryview(data), offset_bytes)


def raises(number: int, match: str = "") -> Any:
    return pytest.raises(OSError, match=rf"Errno {number}\b.*{match}")
