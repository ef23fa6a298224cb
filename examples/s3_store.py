# SPDX-License-Identifier: MIT
"""A store in the objects of an S3-like service, through boto3.

    pip install 'openvstorage-shm[examples]'
    export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...
    shmserver --store examples.s3_store:S3Store --store-arg bucket=disks \\
        --store-arg endpoint=http://127.0.0.1:9000

In the bucket, which one server at a time may use (`prefix` makes room for more):
    PREFIXvolumes/NAME         its manifest, JSON: id, size_bytes
    PREFIXdata/ID/0000000a     the volume's chunk number 10, a MiB; no object: zeroes

Promise: a write is in the service before the client is told.  It survives the death of the server
and of its machine, and nothing is left for a flush to do.  Nothing lies on a local disk, to be lost
or to be out of date when another machine serves the volume next.  The price: the smallest write
uploads a MiB.  Writes to a chunk that is being uploaded share its next upload, so the more are in
flight, the less each of them costs.

Errors: what the service does not answer in time is ETIMEDOUT, other trouble EIO; both after
`attempts` attempts, and with a line in the log.  An object that vanished is EIO too, not zeroes.
"""

from __future__ import annotations

import builtins
import errno
import json
import logging
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any
from urllib.parse import quote, unquote
from weakref import WeakValueDictionary

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError

from shmserver import Extent, Store

log = logging.getLogger("shmserver.s3")

CHUNK = 1 << 20
ZEROES = bytes(CHUNK)
DELETED_MAX = 1000  # objects by one request, says S3
RECENT = 64  # chunks of a volume that stay in memory


class Chunk:
    """A MiB in memory.  Lives while it is in use or among the recent ones."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.lock = threading.Lock()  # for data and changes
        self.data: bytearray | None = None  # once loaded
        self.changes = 0
        self.uploading = threading.Lock()  # for the rest
        self.uploaded = 0  # so many of the changes
        self.error: OSError | None = None  # of an upload: what the service has, nobody knows


class Volume:
    def __init__(self, prefix: str, numbers: set[int]) -> None:
        self.prefix = prefix
        self.numbers = numbers  # of the chunks that have an object
        self.in_doubt: set[int] = set()  # of these, those whose deletion failed, or did it?
        self._lock = threading.Lock()
        self._chunks: WeakValueDictionary[int, Chunk] = WeakValueDictionary()
        self._recent: deque[Chunk] = deque(maxlen=RECENT)

    def chunk(self, number: int) -> Chunk:
        with self._lock:
            chunk = self._chunks.get(number)
            if chunk is None or chunk.error:
                chunk = self._chunks[number] = Chunk(number)
                self._recent.append(chunk)
            return chunk

    def key(self, number: int) -> str:
        return f"{self.prefix}{number:08x}"


class S3Store(Store):
    """`bucket` exists; `endpoint` is a URL, AWS without; `timeout_s` is for one attempt."""

    threads = 16  # requests to the service at a time

    def __init__(
        self,
        bucket: str,
        endpoint: str | None = None,
        prefix: str = "",
        timeout_s: str = "10",
        attempts: str = "5",
    ) -> None:
        self._bucket = bucket
        self._volumes = f"{prefix}volumes/"
        self._data = f"{prefix}data/"
        config = Config(
            connect_timeout=float(timeout_s),
            read_timeout=float(timeout_s),
            retries={"mode": "standard", "total_max_attempts": int(attempts)},
            max_pool_connections=2 * self.threads,
        )
        self._s3 = boto3.client("s3", endpoint_url=endpoint, config=config)
        self._manifests: dict[str, dict[str, Any]] = {}

    def startup(self) -> None:
        """Read the manifests; drop what is left of a remove() that was cut short."""
        with service("cannot read the manifests"):
            for entry in self._list(self._volumes):
                name = unquote(entry["Key"].removeprefix(self._volumes))
                self._manifests[name] = json.loads(self._get(entry["Key"]))
            known = {self._objects(name) for name in self._manifests}
            for entry in self._list(self._data, "CommonPrefixes", Delimiter="/"):
                if entry["Prefix"] not in known:
                    self._delete_all(entry["Prefix"])

    def shutdown(self) -> None:
        self._s3.close()

    # ---- management ----

    def create(self, name: str, size_bytes: int) -> None:
        self._put_manifest(name, {"id": uuid.uuid4().hex, "size_bytes": size_bytes})

    def remove(self, name: str) -> None:
        objects = self._objects(name)
        with service(f"cannot remove {name}"):
            self._s3.delete_object(Bucket=self._bucket, Key=self._manifest(name))
            del self._manifests[name]
            self._delete_all(objects)

    def resize(self, name: str, size_bytes: int) -> None:
        self._put_manifest(name, {**self._manifests[name], "size_bytes": size_bytes})

    def size(self, name: str) -> int:
        return int(self._manifests[name]["size_bytes"])

    def allocated(self, name: str) -> int:
        with service(f"cannot list the objects of {name}"):
            return sum(entry["Size"] for entry in self._list(self._objects(name)))

    def list(self) -> builtins.list[str]:
        return list(self._manifests)

    def open(self, name: str) -> Volume:
        prefix = self._objects(name)
        with service(f"cannot list the objects of {name}"):
            keys = [entry["Key"] for entry in self._list(prefix)]
        return Volume(prefix, {int(key.removeprefix(prefix), 16) for key in keys})

    def _manifest(self, name: str) -> str:
        return self._volumes + quote(name)

    def _objects(self, name: str) -> str:
        return f"{self._data}{self._manifests[name]['id']}/"

    def _put_manifest(self, name: str, manifest: dict[str, Any]) -> None:
        with service(f"cannot write the manifest of {name}"):
            body = json.dumps(manifest).encode()
            self._s3.put_object(Bucket=self._bucket, Key=self._manifest(name), Body=body)
        self._manifests[name] = manifest

    # ---- data ----

    def pread(self, volume: Volume, buffer: memoryview, offset_bytes: int) -> None:
        for number, begin, end, at in pieces(offset_bytes, len(buffer)):
            chunk = volume.chunk(number)
            with chunk.lock:
                buffer[at : at + end - begin] = self._load(volume, chunk)[begin:end]

    def pwrite(self, volume: Volume, buffer: memoryview, offset_bytes: int) -> None:
        for number, begin, end, at in pieces(offset_bytes, len(buffer)):
            self._change(volume, number, begin, buffer[at : at + end - begin])

    def discard(self, volume: Volume, length_bytes: int, offset_bytes: int) -> None:
        """Whole chunks, by deleting their objects; the rest stays."""
        for number, begin, end, _ in pieces(offset_bytes, length_bytes):
            if end - begin == CHUNK and number in volume.numbers:
                self._change(volume, number, begin, ZEROES)

    def write_zeroes(
        self, volume: Volume, length_bytes: int, offset_bytes: int, may_unmap: bool
    ) -> None:
        del may_unmap  # zeroes need no object, whatever is asked for
        for number, begin, end, _ in pieces(offset_bytes, length_bytes):
            if number in volume.numbers:
                self._change(volume, number, begin, ZEROES[begin:end])

    def block_status(
        self, volume: Volume, length_bytes: int, offset_bytes: int
    ) -> Iterator[Extent]:
        at, end = offset_bytes, offset_bytes + length_bytes
        for data, run in groupby(range(at // CHUNK, -(-end // CHUNK)), volume.numbers.__contains__):
            stop = (list(run)[-1] + 1) * CHUNK
            yield Extent(stop - at, hole=not data, zero=not data)
            at = stop

    # ---- chunks and objects ----

    def _load(self, volume: Volume, chunk: Chunk) -> bytearray:
        """What is in it; the caller has its lock."""
        if chunk.data is None:
            data = ZEROES
            if chunk.number in volume.numbers:
                with service("cannot read"):
                    data = self._get_unless_deleted(volume, chunk.number)
            chunk.data = bytearray(data)
        return chunk.data

    def _change(self, volume: Volume, number: int, begin: int, data: bytes | memoryview) -> None:
        """Done when the service has it, be it with another thread's upload."""
        chunk = volume.chunk(number)
        with chunk.lock:
            if len(data) == CHUNK:
                chunk.data = bytearray(data)
            else:
                self._load(volume, chunk)[begin : begin + len(data)] = data
            chunk.changes += 1
            wanted = chunk.changes
        with chunk.uploading:
            if chunk.error:
                raise OSError(chunk.error.errno, str(chunk.error.strerror))
            if chunk.uploaded < wanted:
                self._upload(volume, chunk)

    def _upload(self, volume: Volume, chunk: Chunk) -> None:
        with chunk.lock:
            changes, data = chunk.changes, bytes(chunk.data or b"")
        where = {"Bucket": self._bucket, "Key": volume.key(chunk.number)}
        try:
            with service("cannot write"):
                if data == ZEROES:
                    volume.in_doubt.add(chunk.number)
                    self._s3.delete_object(**where)
                    volume.numbers.discard(chunk.number)
                else:
                    self._s3.put_object(**where, Body=data)
                    volume.numbers.add(chunk.number)
                volume.in_doubt.discard(chunk.number)
        except OSError as error:
            chunk.error = error
            raise
        chunk.uploaded = changes

    def _get_unless_deleted(self, volume: Volume, number: int) -> bytes:
        """An answer that got lost may have been that the object is gone, as it was to be."""
        try:
            return self._get(volume.key(number))
        except self._s3.exceptions.NoSuchKey:
            if number not in volume.in_doubt:
                raise
            volume.in_doubt.discard(number)
            volume.numbers.discard(number)
            return ZEROES

    def _get(self, key: str) -> bytes:
        data: bytes = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return data

    def _list(
        self, prefix: str, what: str = "Contents", **arguments: str
    ) -> Iterator[dict[str, Any]]:
        pages = self._s3.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket, Prefix=prefix, **arguments):
            yield from page.get(what, ())

    def _delete_all(self, prefix: str) -> None:
        keys = [{"Key": entry["Key"]} for entry in self._list(prefix)]
        for at in range(0, len(keys), DELETED_MAX):
            part = {"Objects": keys[at : at + DELETED_MAX], "Quiet": True}
            self._s3.delete_objects(Bucket=self._bucket, Delete=part)


@contextmanager
def service(failure: str) -> Iterator[None]:
    """Trouble with the service becomes an OSError and a line in the log."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        late = isinstance(error, (ConnectTimeoutError, ReadTimeoutError))
        log.error("%s: %s", failure, error)
        raise OSError(errno.ETIMEDOUT if late else errno.EIO, f"{failure}: {error}") from error


def pieces(offset_bytes: int, length_bytes: int) -> Iterator[tuple[int, int, int, int]]:
    """The range by chunks: number, begin and end within it, and where that is in the range."""
    at = 0
    while at < length_bytes:
        number, begin = divmod(offset_bytes + at, CHUNK)
        end = min(CHUNK, begin + length_bytes - at)
        yield number, begin, end, at
        at += end - begin
