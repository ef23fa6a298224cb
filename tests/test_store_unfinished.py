# SPDX-License-Identifier: MIT
"""Stores in Python: requests and calls that do not end, or not once."""

import errno
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from python_stores import MANAGEMENT, WAIT_S, Everything, One, path, serve, volume, wait_unused

import shmclient
import shmserver
from shmserver import Extent, Server

__all__ = ["path", "serve", "volume"]


class Holding(One):
    """Keeps requests for ever."""

    def __init__(self) -> None:
        self.held: list[Any] = []
        self.arrived = threading.Semaphore(0)

    def submit(self, requests):
        self.held += requests
        self.arrived.release(len(requests))


@pytest.fixture
def background() -> Iterator[Callable[..., Any]]:
    """Runs a call in a thread; its future."""
    with ThreadPoolExecutor(8) as pool:
        yield pool.submit


def test_deadline_gives_the_client_an_errno(serve, volume):
    store = Holding()
    serve(store, deadline_s=0.05)
    vol = volume()
    with pytest.raises(TimeoutError):
        vol.pread(512, 0)
    (late,) = store.held
    late.buffer[:] = b"l" * 512
    late.complete()
    with pytest.raises(TimeoutError):
        vol.pwrite(b"more", 0)
    store.held[1].complete()


def test_forgotten_request_is_an_error(serve, volume, caplog):
    class Forgetful(One):
        def submit(self, requests):
            pass

    serve(Forgetful())
    with pytest.raises(OSError, match="Input/output"):
        volume().pread(512, 0)
    assert "forgotten" in caplog.text


def test_request_ends_once(serve, volume):
    class Twice(One):
        def submit(self, requests):
            for request in requests:
                request.buffer[:] = b"1" * request.length_bytes
                request.complete()
                request.complete()
                request.fail(OSError(errno.ENOSPC, "full"))
                self.last = request

    store = Twice()
    serve(store)
    assert volume().pread(4, 0) == b"1111"
    assert store.last.ended
    with pytest.raises(ValueError, match="complete"):
        _ = store.last.buffer


def test_bad_extents_from_submit_are_eio(serve, volume):
    class Odd(One):
        can_block_status = True

        def submit(self, requests):
            for request in requests:
                request.complete([Extent(-1)])

    serve(Odd())
    with pytest.raises(OSError, match="Input/output"):
        list(volume().block_status(4096, 0))


def test_stop_drops_what_a_store_holds(serve, path, background):
    store = Holding()
    server = serve(store)
    client = shmclient.connect(path)
    vol = client.open("vol", writable=True)
    read = background(vol.pread, 4096, 0)
    assert store.arrived.acquire(timeout=WAIT_S)
    view = store.held[0].buffer
    assert server.stop(0.05) is False
    assert isinstance(read.exception(WAIT_S), OSError)
    vol.close()
    client.close()
    view[:] = b"x" * len(view)  # still there
    (request,) = store.held
    assert request.ended
    request.complete()
    request.fail(OSError())


def test_request_of_a_client_that_is_gone_can_be_completed(serve, path):
    store = Holding()
    server = serve(store)
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import shmclient\n"
            f"volume = shmclient.connect({str(path)!r}).open('vol')\n"
            "volume.pread(4096, 0)\n",
        ]
    )
    try:
        assert store.arrived.acquire(timeout=WAIT_S)
    finally:
        process.kill()
        process.wait()
    (request,) = store.held
    request.buffer[:] = b"x" * 4096
    request.complete()
    wait_unused(server)


@pytest.mark.parametrize("kind", ["here", "pool"])
def test_store_that_blocks_does_not_keep_the_server(path, monkeypatch, background, kind, caplog):
    monkeypatch.setattr(shmserver._core, "STUCK_S", 0.2)
    arrived, go = threading.Event(), threading.Event()

    class Blocking(One):
        threads = 1 if kind == "pool" else 0

        def pread(self, volume, buffer, offset_bytes):
            arrived.set()
            go.wait(WAIT_S)

    before = set(threading.enumerate())
    server = Server(Blocking(), socket=path)
    server.start()
    with shmclient.connect(path) as client:
        vol = client.open("vol")
        read = background(vol.pread, 4096, 0)
        assert arrived.wait(WAIT_S)
        try:
            assert server.stop(0.05) is False
            assert "blocks" in caplog.text
            assert isinstance(read.exception(WAIT_S), OSError)
        finally:
            go.set()
        vol.close()
    for thread in set(threading.enumerate()) - before:
        if thread.daemon:
            thread.join(WAIT_S)


@pytest.mark.parametrize("method", ["create", "open", "list"])
def test_management_call_that_blocks_does_not_keep_the_server(
    path, monkeypatch, background, method
):
    monkeypatch.setattr(shmserver._core, "STUCK_S", 0.2)
    arrived, go = threading.Event(), threading.Event()

    class Blocking(Everything):
        pass

    def block(*_):
        arrived.set()
        go.wait(WAIT_S)
        return ()

    setattr(Blocking, method, block)
    before = set(threading.enumerate())
    server = Server(Blocking(), socket=path)
    server.start()
    with shmclient.connect(path) as client:
        call = background(MANAGEMENT[method], client)
        assert arrived.wait(WAIT_S)
        try:
            assert server.stop(0.05) is False
            assert isinstance(call.exception(WAIT_S), OSError)
        finally:
            go.set()
    for thread in set(threading.enumerate()) - before:
        if thread.daemon:
            thread.join(WAIT_S)


EXIT = """
import asyncio, sys, threading
import shmserver, shmserver._core
shmserver._core.STUCK_S = 0.5
arrived = threading.Event()

class Common(shmserver.Store):
    def size(self, name):
        return 1 << 20

class Here(Common):
    def pread(self, volume, buffer, offset_bytes):
        arrived.set()
        threading.Event().wait()

class Pool(Here):
    threads = 2

class Deadline(Here):
    deadline_s = 1000.0

class Loop(Common):
    async def pread(self, volume, buffer, offset_bytes):
        arrived.set()
        await asyncio.Event().wait()

class Submit(Common):
    def submit(self, requests):
        self.held = requests
        arrived.set()

class View(Common):
    def pread(self, volume, buffer, offset_bytes):
        self.kept = buffer
        arrived.set()

server = shmserver.Server(globals()[sys.argv[2]](), socket=sys.argv[1])
server.start()
print("ready", flush=True)
arrived.wait()
"""


@pytest.mark.parametrize("kind", ["Here", "Pool", "Deadline", "Loop", "Submit", "View"])
def test_interpreter_ends_with_requests_in_flight(path, background, kind):
    """Without closing anything; neither a hang nor a crash, and the client hears of it."""
    with subprocess.Popen(
        [sys.executable, "-c", EXIT, str(path), kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            with shmclient.connect(path) as client:
                vol = client.open("vol")
                read = background(vol.pread, 4096, 0)
                _, errors = process.communicate(timeout=WAIT_S)
                assert process.returncode == 0, errors
                assert ("blocks" in errors) == (kind in ("Here", "Pool", "Deadline")), errors
                if kind != "View":
                    assert isinstance(read.exception(WAIT_S), OSError)
                vol.close()
        finally:
            process.kill()
