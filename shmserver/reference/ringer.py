# SPDX-License-Identifier: MIT
"""Rings doorbells of clients without ever waiting for one (section 7).

A client shares the open file of its eventfd with the server: it can take O_NONBLOCK away and fill
the counter, and a write(2) of ours would block for ever, with all other clients.  The kernel's own
signal at the end of an AIO request never blocks.  So ringing is an empty read from /dev/null that
ends with a signal to the eventfd: one system call, which Python has no name for.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
from contextlib import suppress
from typing import NamedTuple

from cffi import FFI

log = logging.getLogger("shmserver")

UNREAPED_MAX = 32
PREAD, RESFD = 0, 1  # IOCB_CMD_PREAD, IOCB_FLAG_RESFD of linux/aio_abi.h


class Calls(NamedTuple):
    """Numbers of system calls (asm/unistd.h)."""

    setup: int
    destroy: int
    getevents: int
    submit: int


CALLS = {"x86_64": Calls(206, 207, 208, 209), "aarch64": Calls(0, 1, 4, 2)}

ffi = FFI()
ffi.cdef("""
    long syscall(long number, ...);
    struct iocb {
        uint64_t data; uint32_t key; int32_t rw_flags; uint16_t opcode; int16_t priority;
        uint32_t fd; uint64_t buffer; uint64_t bytes; int64_t offset; uint64_t resv;
        uint32_t flags; uint32_t resfd;
    };
    struct io_event { uint64_t data; uint64_t object; int64_t result; int64_t result2; };
    struct timespec { long seconds; long nanoseconds; };
""")
_libc = ffi.dlopen(None)


def _call(number: int, *args: object) -> int:
    result = int(_libc.syscall(number, *args))
    if result < 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno))
    return result


class Ringer:
    def __init__(self) -> None:
        self._null_fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._context = ffi.new("unsigned long *")
        self._unreaped = 0
        self._calls = CALLS.get(platform.machine())
        try:
            if self._calls is None:
                raise OSError(errno.ENOSYS, f"no system call numbers for {platform.machine()}")
            _call(self._calls.setup, ffi.cast("long", UNREAPED_MAX), self._context)
        except OSError as error:
            self._calls = None
            log.warning(
                "no kernel AIO (%s): a hostile client can make ringing its doorbell block",
                error.strerror,
            )

    def close(self) -> None:
        if self._calls is not None:
            _call(self._calls.destroy, ffi.cast("unsigned long", self._context[0]))
            self._calls = None
        if self._null_fd >= 0:
            os.close(self._null_fd)
            self._null_fd = -1

    def ring(self, fd: int) -> None:
        """Add 1 to a doorbell; one that is full stays so, its owner is awake by definition."""
        if self._calls is None:
            with suppress(BlockingIOError):
                os.eventfd_write(fd, 1)
            return
        request = ffi.new("struct iocb *")
        request.opcode, request.fd = PREAD, self._null_fd
        request.flags, request.resfd = RESFD, fd
        requests = ffi.new("struct iocb *[1]", [request])
        context = ffi.cast("unsigned long", self._context[0])
        _call(self._calls.submit, context, ffi.cast("long", 1), requests)
        self._unreaped += 1
        if self._unreaped == UNREAPED_MAX:
            self._reap(self._calls, context)

    def _reap(self, calls: Calls, context: object) -> None:
        """The events say nothing, but the kernel keeps a place for each."""
        events = ffi.new("struct io_event[]", UNREAPED_MAX)
        now = ffi.new("struct timespec *")
        least, most = ffi.cast("long", 0), ffi.cast("long", UNREAPED_MAX)
        _call(calls.getevents, context, least, most, events, now)
        self._unreaped = 0
