# SPDX-License-Identifier: MIT
"""What the methods of a Python store are called with for management, without a server."""

import errno
import itertools
import os
import threading
from typing import Any

import pytest
from store_harness import WAIT_S, Async, Harness, OnDeadline, Plain, Threads, serve

from shmserver.dispatch import Dispatcher
from shmserver.store import Op, Snapshot, Store

__all__ = ["serve"]


class Volumes(Store):
    def __init__(self, names: Any = ()) -> None:
        self.names = names

    def list(self):
        return self.names

    def size(self, name):
        return 1000


def test_list_comes_in_pages_in_order_of_bytes(serve):
    names = ["b", "ä", "\U0001f600", "a/b", "a", "z", "\ue000", "\udcff"]
    manage = serve(Volumes(names)).at.manage
    seen: list[str] = []
    while page := manage.list(seen[-1] if seen else "", 2):
        seen += [stat.name for stat in page]
    assert seen == sorted(names, key=os.fsencode)
    assert manage.list("a/c", 1)[0].name == "b"
    assert manage.list("", 1)[0].size_bytes == 1000  # to the byte


def test_long_list_asks_the_store_once(serve):
    class Counting(Volumes):
        asked = 0

        def list(self):
            self.asked += 1
            return self.names

    store = Counting([f"v{number}" for number in range(5000)])
    manage = serve(store).at.manage
    count, last = 0, ""
    while page := manage.list(last, 100):
        count, last = count + len(page[:99]), page[:99][-1].name  # as who asks for one too many
    assert (count, store.asked) == (5000, 1)
    manage.list("", 100)
    assert store.asked == 2


def test_names_that_break_the_rules_are_left_out(serve, caplog):
    bad = [
        "",
        "/a",
        "a//b",
        "..",
        "a/.openvstorage",
        "x" * 255,
        "a\nb",
        "\ud800",
        None,
        5,
        b"b",
        [],
    ]
    manage = serve(Volumes([*bad[:-1], "good", "good"])).at.manage
    assert [stat.name for stat in manage.list("", 100)] == ["good"]
    assert "left out" in caplog.text


def test_endless_list_is_cut(serve, monkeypatch, caplog):
    monkeypatch.setattr("shmserver.manage.VOLUMES_MAX", 10)
    manage = serve(Volumes(f"v{number:03}" for number in itertools.count())).at.manage
    assert [stat.name for stat in manage.list("", 100)] == [f"v{number:03}" for number in range(10)]
    assert "all but the first 10" in caplog.text


@pytest.mark.parametrize("size", [-1, 2**63, 1.5, None, "512", ...], ids=repr)
def test_size_that_is_none_is_eio(serve, size):
    class Odd(Volumes):
        def size(self, name):
            return size

    with pytest.raises(OSError, match="size") as info:
        serve(Odd()).at.manage.stat("vol")
    assert info.value.errno == errno.EIO


def test_volume_that_cannot_be_sized_does_not_hide_the_others(serve):
    class Partial(Volumes):
        def size(self, name):
            if name == "broken":
                raise RuntimeError
            if name == "gone":
                raise KeyError(name)
            return 512

    manage = serve(Partial(["broken", "gone", "ok"])).at.manage
    assert [stat.name for stat in manage.list("", 100)] == ["ok"]


def test_missing_volume_is_enoent_by_key_error_too(serve):
    class Dict(Volumes):
        def size(self, name):
            return {}[name]

    manage = serve(Dict()).at.manage
    for call in (manage.stat, manage.open, manage.remove):
        with pytest.raises(FileNotFoundError):
            call("vol")


def test_renames_and_sizes_to_the_byte_reach_the_store(serve):
    class Renaming(Volumes):
        calls: Any = ()

        def truncate(self, name, size_bytes):
            self.calls = [*self.calls, ("truncate", name, size_bytes)]

        def rename(self, name, new_name):
            self.calls = [*self.calls, ("rename", name, new_name)]

        def size(self, name):
            return {"vol": 1000}[name]

    store = Renaming()
    serving = serve(store).at
    assert serving.ability.rename
    assert serving.ability.truncate
    assert serving.manage.truncate("vol", 5) == 1000  # what it says, not what was asked for
    serving.manage.rename("vol", "new")
    assert store.calls == [("truncate", "vol", 5), ("rename", "vol", "new")]
    with pytest.raises(FileNotFoundError):
        serving.manage.rename("none", "vol")
    assert len(store.calls) == 2
    plain = serve(Volumes()).at
    assert not plain.ability.rename
    assert not plain.ability.truncate


def test_create_is_only_called_for_new_names(serve):
    class Creating(Volumes):
        def create(self, name, size_bytes):
            pytest.fail("called")

    with pytest.raises(FileExistsError):
        serve(Creating()).at.manage.create("vol", 512)


def test_snapshot_calls_are_only_made_where_they_make_sense(serve):
    class Snapshots(Volumes):
        def snapshot_create(self, name, snapshot, timeout_s):
            self.calls = [*self.calls, ("create", snapshot)]

        def snapshot_remove(self, name, snapshot):
            self.calls = [*self.calls, ("remove", snapshot)]

        def snapshot_list(self, name):
            return [Snapshot("old", 512), ("new", 1024), ("a/b", 1), 5]

        calls: Any = ()

    store = Snapshots()
    manage = serve(store).at.manage
    with pytest.raises(FileExistsError):
        manage.snapshot_create("vol", "old", 0)
    manage.snapshot_create("vol", "newer", 0)
    with pytest.raises(FileNotFoundError):
        manage.snapshot_remove("vol", "none")
    manage.snapshot_remove("vol", "new")
    assert store.calls == [("create", "newer"), ("remove", "new")]
    assert [one.name for one in manage.snapshot_list("vol", "", 10)] == ["old", "new"]
    assert [one.name for one in manage.snapshot_list("vol", "old", 10)] == ["new"]
    with pytest.raises(FileNotFoundError):
        manage.snapshot_list("vol", "none", 10)
    assert manage.snapshot_is_synced("vol", "old") is True
    assert manage.stat("vol").snapshots == 2


def test_async_management(serve):
    class Remote(Store):
        up = False

        async def startup(self):
            self.up = True

        async def shutdown(self):
            self.up = False

        async def size(self, name):
            assert self.up
            return 4096

        async def list(self):
            return ["one"]

    store = Remote()
    manage = serve(store).at.manage
    assert store.up
    assert [(s.name, s.size_bytes, s.allocated_bytes) for s in manage.list("", 9)] == [
        ("one", 4096, 4096)
    ]


def test_threads_end_with_the_dispatcher():
    before = set(threading.enumerate())
    for store in (Threads(), OnDeadline(), Async()):
        dispatcher = Dispatcher(store)
        dispatcher.start()
        assert set(threading.enumerate()) > before
        assert dispatcher.stop()
        assert set(threading.enumerate()) == before


def test_stop_does_not_wait_for_ever():
    go = threading.Event()

    class Blocks(Plain):
        def flush(self, volume):
            go.wait(WAIT_S)

    harness = Harness(Blocks(), deadline_s=0.05)
    harness.run(Op.FLUSH)
    try:
        assert harness.at.stop(timeout_s=0.05) is False
    finally:
        go.set()


def test_snapshot_waits_for_a_write_that_timed_out(serve):
    go = threading.Event()
    events: list[str] = []

    class Slow(Volumes):
        def pwrite(self, volume, buffer, offset_bytes):
            assert go.wait(WAIT_S)
            events.append("write")

        def snapshot_create(self, name, snapshot, timeout_s):
            events.append("snapshot")

    harness = serve(Slow(), deadline_s=0.05)
    volume = harness.at.manage.open("vol")
    assert harness.run(Op.WRITE, b"data", opened=volume).result == -errno.ETIMEDOUT
    threading.Timer(0.05, go.set).start()
    harness.at.manage.snapshot_create("vol", "snap", 0)
    assert events == ["write", "snapshot"]
    harness.at.manage.close(volume)


def test_volume_with_late_requests_is_busy_and_not_opened_twice(serve, monkeypatch):
    monkeypatch.setattr("shmserver.manage.LATE_S", 0.05)
    go = threading.Event()

    class Slow(Volumes):
        def pread(self, volume, buffer, offset_bytes):
            assert go.wait(WAIT_S)

    manage = (harness := serve(Slow(), deadline_s=0.05)).at.manage
    volume = manage.open("vol")
    assert harness.run(Op.READ, 4, opened=volume).result == -errno.ETIMEDOUT
    manage.close(volume)
    for call in (manage.open, manage.remove, lambda name: manage.snapshot_create(name, "s", 0)):
        with pytest.raises(OSError, match="timed out") as info:
            call("vol")
        assert info.value.errno == errno.EBUSY
    monkeypatch.setattr("shmserver.manage.LATE_S", WAIT_S)
    go.set()
    manage.close(manage.open("vol"))
