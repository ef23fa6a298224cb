# SPDX-License-Identifier: MIT
"""Where methods of a Python store run when not in their caller's thread: a loop, or a pool.

All threads are daemons, so that a store that blocks for ever does not keep the interpreter.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

log = logging.getLogger("shmserver")


class Loop:
    """An event loop in a thread, for a store's `async def` methods."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._stopping:
            try:
                self._loop.run_forever()
            except BaseException:  # a callback of the store's own raised SystemExit
                log.exception("the event loop of a store goes on after an exception")

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it to its end, from another thread."""
        error, result = asyncio.run_coroutine_threadsafe(_contained(coroutine), self._loop).result()
        if error is not None:
            raise error
        return result

    def start(self, function: Callable[[Any], Coroutine[Any, Any, None]], items: list[Any]) -> None:
        """Run function(item) for all of them at once.  RuntimeError: the loop has ended."""
        self._loop.call_soon_threadsafe(self._make_tasks, function, items)

    def _make_tasks(self, function: Callable[[Any], Any], items: list[Any]) -> None:
        for item in items:
            task = self._loop.create_task(function(item))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def cancel_started(self) -> None:
        """Nobody waits for them any more."""
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._tasks])

    def canceller(self) -> Callable[[], Any]:
        """What cancels the task that asks, from any thread."""
        task = asyncio.current_task(self._loop)
        return partial(self._loop.call_soon_threadsafe, task.cancel) if task else lambda: None

    def stop(self, timeout_s: float) -> bool:
        """Cancel what still runs, and end.  False: something does not let itself be cancelled."""
        self._stopping = True
        deadline = time.monotonic() + timeout_s
        ended = asyncio.run_coroutine_threadsafe(_wind_up(timeout_s), self._loop)
        ended.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.stop))
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            return False
        self._loop.close()
        return ended.done() and ended.result()


async def _contained(coroutine: Coroutine[Any, Any, Any]) -> tuple[BaseException | None, Any]:
    """Nothing gets past it, so that a SystemExit of the store does not end its loop."""
    try:
        return None, await coroutine
    except BaseException as error:
        return error, None


async def _wind_up(timeout_s: float) -> bool:
    """Cancel all tasks but this one, and end what asyncio.to_thread() may have started."""
    loop = asyncio.get_running_loop()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    others |= {loop.create_task(loop.shutdown_asyncgens())}
    others |= {loop.create_task(loop.shutdown_default_executor())}
    _, left = await asyncio.wait(others, timeout=timeout_s)
    return not left


class Pool:
    """Threads that run jobs in the order they come."""

    def __init__(self, count: int, run: Callable[[Any], None], name: str) -> None:
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._run = run
        self._threads = [
            threading.Thread(target=self._main, name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        self.put = self._jobs.put
        for thread in self._threads:
            thread.start()

    def _main(self) -> None:
        for job in iter(self._jobs.get, None):
            self._run(job)
            del job  # its buffers may go

    def stop(self, timeout_s: float) -> bool:
        """Finish the jobs and end.  False: some do not."""
        deadline = time.monotonic() + timeout_s
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)
