# SPDX-License-Identifier: MIT
"""The object store of examples/ on a real object service: what it keeps there, and its failures."""

import errno
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from example_stores import Place, raises, read, write
from s3_service import BUCKET, S3Service

from examples.s3_store import CHUNK


@pytest.fixture
def s3(s3_service: S3Service) -> Place:
    return Place("s3", Path(uuid.uuid4().hex), s3_service)


@pytest.fixture
def objects(s3: Place, s3_service: S3Service) -> Iterator[Any]:
    """Calls of a client: what the service has of the place, by key without the prefix."""
    with closing(s3_service.client()) as client:
        yield Objects(client, s3.arguments["prefix"])


class Objects:
    def __init__(self, client: Any, prefix: str) -> None:
        self.client = client
        self.prefix = prefix

    def sizes(self) -> dict[str, int]:
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=self.prefix).get("Contents", ())
        return {entry["Key"].removeprefix(self.prefix): entry["Size"] for entry in found}

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=self.prefix + key)

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=self.prefix + key, Body=body)


def test_zeroes_have_no_object(s3: Place, objects: Objects) -> None:
    with s3.store() as store:
        store.create("vol", 8 * CHUNK)
        (manifest,) = objects.sizes()
        assert manifest == "volumes/vol"
        volume = store.open("vol")
        write(store, volume, bytes(2 * CHUNK))
        assert objects.sizes().keys() == {manifest}
        write(store, volume, b"x" * CHUNK, CHUNK // 2)
        sizes = objects.sizes()
        assert sorted(sizes.values())[-2:] == [CHUNK, CHUNK]
        assert len(sizes) == 3
        store.write_zeroes(volume, CHUNK // 2, CHUNK, may_unmap=False)
        assert len(objects.sizes()) == 2
        store.discard(volume, 2 * CHUNK, 0)
        assert objects.sizes().keys() == {manifest}


def test_object_that_vanished_is_an_error(
    s3: Place, objects: Objects, caplog: pytest.LogCaptureFixture
) -> None:
    with s3.store() as store:
        store.create("vol", 8 * CHUNK)
        volume = store.open("vol")
        write(store, volume, b"x" * (2 * CHUNK))
    with s3.store() as store:
        volume = store.open("vol")
        objects.delete(next(key for key in objects.sizes() if key.endswith("00000001")))
        with raises(errno.EIO, "cannot read"):
            read(store, volume, 512, CHUNK)
        assert "cannot read" in caplog.text
        with raises(errno.EIO, "cannot read"):
            write(store, volume, b"y" * 512, CHUNK)
        assert read(store, volume, CHUNK) == b"x" * CHUNK
        write(store, volume, b"y" * CHUNK, CHUNK)
        assert read(store, volume, CHUNK, CHUNK) == b"y" * CHUNK


def test_objects_of_a_volume_that_is_gone_are_dropped(s3: Place, objects: Objects) -> None:
    with s3.store() as store:
        store.create("vol", 8 * CHUNK)
        volume = store.open("vol")
        write(store, volume, b"x" * 512)
    before = objects.sizes()
    objects.put("data/0123/00000000", b"x")
    with s3.store():
        assert objects.sizes() == before
    with s3.store() as store:
        store.remove("vol")
        assert objects.sizes() == {}


def test_writes_that_wait_share_an_upload(s3: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first upload is under way all others come; then one more does for them all."""
    count = 12
    with s3.store() as store, ThreadPoolExecutor(count) as threads:
        store.create("vol", CHUNK)
        volume = store.open("vol")
        uploads = []
        changed = threading.Semaphore(0)
        upload, load = store._upload, store._load

        def slow_upload(*args: Any) -> None:
            if not uploads:
                for _ in range(count):
                    assert changed.acquire(timeout=60)
            uploads.append(args)
            upload(*args)

        def told_load(*args: Any) -> Any:
            changed.release()
            return load(*args)

        monkeypatch.setattr(store, "_upload", slow_upload)
        monkeypatch.setattr(store, "_load", told_load)
        list(threads.map(lambda n: write(store, volume, bytes([n]) * 512, n * 512), range(count)))
        assert len(uploads) <= 2
        expected = b"".join(bytes([n]) * 512 for n in range(count))
        assert read(store, volume, len(expected)) == expected


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[S3Service]:
    """A service of the test's own, to be killed; its objects come back with it."""
    service = S3Service(tmp_path / "recording")
    try:
        service.start()
        yield service
    finally:
        service.kill()


def test_service_that_is_gone_is_an_error_until_it_is_back(
    s3: Place, mortal: S3Service, caplog: pytest.LogCaptureFixture
) -> None:
    s3.arguments |= {"endpoint": mortal.url, "attempts": "1"}
    with s3.store() as store:
        store.create("vol", 8 * CHUNK)
        volume = store.open("vol")
        write(store, volume, b"x" * CHUNK)
        mortal.kill()
        with raises(errno.EIO, "cannot write"):
            write(store, volume, b"y" * 512)
        with raises(errno.EIO, "cannot list"):
            store.allocated("vol")
        with raises(errno.EIO, "cannot write the manifest"):
            store.create("more", CHUNK)
        assert list(store.list()) == ["vol"]
        with raises(errno.EIO, "cannot read"):
            read(store, volume, 512)
        assert "cannot write" in caplog.text
        mortal.start()
        assert read(store, volume, CHUNK) == b"x" * CHUNK
        write(store, volume, b"z" * 512)
        assert read(store, volume, 1024) == b"z" * 512 + b"x" * 512


def test_service_that_does_not_answer_is_a_timeout(s3: Place, mortal: S3Service) -> None:
    s3.arguments |= {"endpoint": mortal.url, "attempts": "1", "timeout_s": "2"}
    with s3.store() as store:
        store.create("vol", 8 * CHUNK)
        volume = store.open("vol")
        mortal.freeze()
        with raises(errno.ETIMEDOUT, "cannot write"):
            write(store, volume, b"y" * CHUNK)
        mortal.thaw()
        write(store, volume, b"z" * CHUNK)
        assert read(store, volume, CHUNK) == b"z" * CHUNK


def test_service_that_answers_late_is_waited_for(s3: Place, mortal: S3Service) -> None:
    s3.arguments |= {"endpoint": mortal.url, "attempts": "20", "timeout_s": "0.5"}
    with s3.store() as store, ThreadPoolExecutor(1) as threads:
        store.create("vol", 8 * CHUNK)
        volume = store.open("vol")
        failed = threading.Event()
        store._s3.meta.events.register("needs-retry.s3.PutObject", lambda **_: failed.set())
        mortal.freeze()
        written = threads.submit(write, store, volume, b"z" * CHUNK)
        assert failed.wait(60)
        mortal.thaw()
        written.result(60)
        assert read(store, volume, CHUNK) == b"z" * CHUNK


def test_object_that_was_deleted_without_an_answer_reads_as_zeroes(
    s3: Place, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3.store() as store:
        store.create("vol", 8 * CHUNK)
        volume = store.open("vol")
        write(store, volume, b"x" * CHUNK)
        delete = store._s3.delete_object

        def unanswered(**where: str) -> None:
            delete(**where)
            raise ReadTimeoutError(endpoint_url="http://service")

        with monkeypatch.context() as patch, raises(errno.ETIMEDOUT, "cannot write"):
            patch.setattr(store._s3, "delete_object", unanswered)
            write(store, volume, bytes(CHUNK))
        assert objects.sizes().keys() == {"volumes/vol"}
        assert read(store, volume, CHUNK) == bytes(CHUNK)
        write(store, volume, b"y" * 512)
        assert read(store, volume, 1024) == b"y" * 512 + bytes(512)


def test_bucket_that_is_not_there_is_named(s3: Place) -> None:
    s3.arguments["bucket"] = "no-such-bucket"
    with raises(errno.EIO, "NoSuchBucket"), s3.store():
        pass
