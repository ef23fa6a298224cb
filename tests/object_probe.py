# SPDX-License-Identifier: MIT
"""What Python can do to the objects of shmclient._native, whether it makes sense or not.

usage: object_probe SOCKET CLASS

Run by tests/test_client_objects.py in a process of its own, which a crash ends.  Prints how many
calls it has made.
"""

import asyncio
import contextlib
import copy
import gc
import pickle
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import shmclient
from shmclient import _native

MIB = 1 << 20
# Asked to wait for ever, they do.
BLOCKING: dict[str, list[tuple[Any, ...]]] = {
    "wait_event": [(), (None,), (2**62,)],
    "run": [(2**62,)],
}
ARGUMENTS: tuple[tuple[Any, ...], ...] = (
    (),
    (None,),
    (0,),
    (-1,),
    (2**62,),
    (2**70,),
    ("vol",),
    (b"x" * 512, 0),
    (bytearray(512), 0),
    ([bytearray(512)], 0),
    (512, 0),
    ("vol", "s"),
    ("odd", 2**62),
    ([_native.Flush(), _native.Read(bytearray(512), 0)],),
    (lambda *_: None,),
    (object(), object(), object()),
)


async def _volume_of_loop(connection: _native.Connection) -> _native.LoopVolume:
    return _native.LoopVolume(connection.open("vol"), asyncio.get_running_loop())


def makers(socket: str, loop: asyncio.AbstractEventLoop) -> dict[str, Callable[[], Any]]:
    """How to come by an instance of each class."""
    connection = _native.Connection(socket)

    def opened() -> _native.Volume:
        return connection.open("vol")

    def loop_volume() -> _native.LoopVolume:
        return loop.run_until_complete(_volume_of_loop(connection))

    def snapshot() -> _native.SnapshotInfo:
        with contextlib.suppress(FileExistsError):
            connection.snapshot_create("vol", "kept")
        return connection.snapshot_list("vol")[0]

    def session() -> _native.SessionInfo:
        with opened():
            return connection.sessions()[0]

    def event() -> _native.Event:
        with opened() as volume:
            connection.resize("vol", connection.stat("vol").size_bytes + MIB)
            found = volume.wait_event()
            assert found
            return found

    return {
        "VolumeInfo": lambda: connection.stat("vol"),
        "SnapshotInfo": snapshot,
        "Hello": lambda: connection.hello,
        "Status": connection.status,
        "Limits": lambda: opened().limits,
        "SessionInfo": session,
        "Event": event,
        "Extent": lambda: _native.Extent(0, 512, True, True),
        "Buffer": lambda: opened().buffer(4096),
        "Volume": opened,
        "Read": lambda: _native.Read(bytearray(512), 0),
        "Write": lambda: _native.Write(bytes(512), 0),
        "Flush": _native.Flush,
        "Discard": lambda: _native.Discard(512, 0),
        "WriteZeroes": lambda: _native.WriteZeroes(512, 0),
        "Extents": lambda: opened().block_status(),
        "Future": lambda: loop_volume().pread(512, 0),
        "LoopVolume": loop_volume,
        "Connection": lambda: _native.Connection(socket),
        "LatencyHistogram": _native.LatencyHistogram,
        "Load": lambda: _native.Load(opened()),
    }


def must_be_refused(call: Callable[[], object]) -> None:
    try:
        made = call()
    except TypeError:
        return
    raise AssertionError(f"{made!r} was made")


def calls_of(one: object) -> Iterator[str]:
    for name in dir(one):
        # What is the same for every object of Python, and what ends the process on purpose.
        if name not in {"__class__", "__init_subclass__", "__subclasshook__", "__new__"}:
            yield name


def call_everything(one: object) -> int:
    """With right and wrong arguments; whatever it raises is fine."""
    called = 0
    for name in calls_of(one):
        for arguments in ARGUMENTS:
            if arguments in BLOCKING.get(name, []):
                continue
            called += 1
            with contextlib.suppress(Exception, asyncio.CancelledError):
                result = getattr(one, name)(*arguments)
                repr(result)
                if hasattr(result, "__next__"):
                    next(result)
    return called


def end(one: object) -> None:
    for name in ("close", "release", "stop", "cancel"):
        if hasattr(one, name):
            getattr(one, name)()


def probe(cls: type, make: Callable[[], Any]) -> int:
    # Instances that __init__() has never seen.
    must_be_refused(lambda: cls.__new__(cls))
    must_be_refused(lambda: object.__new__(cls))
    for base in cls.__mro__[1:]:
        must_be_refused(lambda base=base: base.__new__(cls))
    for name in calls_of(cls):
        with contextlib.suppress(Exception):
            getattr(cls, name)(object())

    with contextlib.suppress(TypeError):  # not everything can be derived from

        class Forgetful(cls):
            def __init__(self) -> None:
                pass

        must_be_refused(Forgetful)
        must_be_refused(lambda: Forgetful.__new__(Forgetful))

    # Made again, copied, referred to.
    one = make()
    assert type(one) is cls
    for arguments in ARGUMENTS:
        with contextlib.suppress(Exception):
            one.__init__(*arguments)
    must_be_refused(lambda: copy.copy(one))
    must_be_refused(lambda: copy.deepcopy(one))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        must_be_refused(lambda protocol=protocol: pickle.loads(pickle.dumps(one, protocol)))
    with contextlib.suppress(TypeError):
        weakref.ref(one)
    called = call_everything(one)

    # Over, and used nevertheless.
    end(one)
    called += call_everything(one)
    end(one)

    # In a circle, and gone while something of it is still in use.
    circle: list[Any] = [make()]
    circle.append(circle)
    with contextlib.suppress(AttributeError):
        circle[0].circle = circle
    if hasattr(circle[0], "add_done_callback"):
        circle[0].add_done_callback(lambda _, circle=circle: circle)
    view = memoryview(circle[0]) if cls is _native.Buffer else b""
    del circle
    gc.collect()
    bytes(view)
    return called


def main() -> None:
    socket, name = sys.argv[1:]
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # callbacks of the wrong kind raise
    try:
        print(probe(getattr(shmclient._native, name), makers(socket, loop)[name]))
        gc.collect()
    finally:
        loop.close()


if __name__ == "__main__":
    main()
