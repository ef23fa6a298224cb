# SPDX-License-Identifier: MIT
"""Embeds the C server core; see <openvstorage/shm_server.h>.

Requests for stores of the core do not pass through Python: the core's own threads serve them.  They
take the GIL only to log, and for stores in Python, see python_store.pxi.
"""

import atexit
import errno
import logging
import os
import threading
import weakref

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EIO, ENOMEM
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from posix.types cimport gid_t, uid_t

from shmserver.shm_server cimport *

from shmserver.dispatch import Dispatcher, check_count
from shmserver.load import C_STORE, is_python, load
from shmserver.mounting import parse as parse_mount_options
from shmserver.store import Op, Store

cdef extern from "Python.h" nogil:
    ctypedef struct PyThreadState:
        pass
    ctypedef enum PyGILState_STATE:
        PyGILState_UNLOCKED
    PyGILState_STATE PyGILState_Ensure()
    void PyGILState_Release(PyGILState_STATE state)
    PyThreadState *PyGILState_GetThisThreadState()
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *thread)

cdef extern from "dlfcn.h" nogil:
    void *dlopen(const char *path, int flags)
    enum:
        RTLD_NOW
        RTLD_GLOBAL
        RTLD_NOLOAD

cdef extern from *:
    """
    #define OVSSHM_VERSION_STRING OVSSHM_VERSION_TEXT
    """
    const char *OVSSHM_VERSION_STRING

__version__ = OVSSHM_VERSION_STRING.decode()

DEPTH_MAX = OVSSHM_DEPTH_MAX
QUEUES_MAX = OVSSHM_QUEUES_MAX
PAGE_BYTES = OVSSHM_PAGE_BYTES

_log = logging.getLogger("shmserver")
_LEVELS = {
    OVSSHM_LOG_ERROR: logging.ERROR,
    OVSSHM_LOG_WARNING: logging.WARNING,
    OVSSHM_LOG_INFO: logging.INFO,
    OVSSHM_LOG_DEBUG: logging.DEBUG,
}
# Lines above it are dropped before the GIL is taken.
cdef ovsshm_log_level _log_level_max = OVSSHM_LOG_WARNING

# How long stop() waits for methods of a store in Python, after the time to drain.
STUCK_S = 10

_running = weakref.WeakSet()


cdef void _write_log(void *arg, ovsshm_log_level level, const char *line) noexcept nogil:
    if level <= _log_level_max:
        with gil:
            _log.log(_LEVELS[level], "%s", line.decode("utf-8", "replace"))


cdef ovsshm_log _make_log():
    global _log_level_max
    for level, number in _LEVELS.items():
        if _log.isEnabledFor(number):
            _log_level_max = level
    cdef ovsshm_log log
    log.write = _write_log
    log.arg = NULL
    return log


cdef _failure(int rc, ovsshm_error *error):
    reason = error.reason.decode("utf-8", "replace")
    return OSError(-rc, reason or os.strerror(-rc))


def default_socket() -> str:
    """Where a server listens when no socket is given: the same place as the clients look."""
    cdef char path[4096]
    cdef int rc = ovsshm_default_socket(path, sizeof(path))
    if rc < 0:
        raise OSError(-rc, ovsshm_reason().decode("utf-8", "replace"))
    return os.fsdecode(path)


def stores():
    """(name, summary, help of the options) of each store that comes with the server."""
    found = []
    cdef int i = 0
    while ovsshm_store_types[i] != NULL:
        kind = ovsshm_store_types[i]
        options = kind.options.decode() if kind.options != NULL else ""
        found.append((kind.name.decode(), kind.summary.decode(), options))
        i += 1
    return found


cdef const ovsshm_store_type *_load_store(path) except NULL:
    """The store in a shared object; it stays loaded."""
    cdef const ovsshm_store_type *kind = NULL
    cdef ovsshm_error error
    file = os.fsencode(os.path.abspath(path))
    # The object calls back into this module, whose symbols Python keeps private.
    dlopen(os.fsencode(__file__), RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD)
    error.reason[0] = 0
    cdef int rc = ovsshm_store_load(file, &kind, &error)
    if rc < 0:
        raise _failure(rc, &error)
    return kind


cdef const ovsshm_store_type *_from_capsule(capsule) except NULL:
    if not PyCapsule_IsValid(capsule, b"ovsshm_store_type"):
        raise OSError(errno.EINVAL, f"{C_STORE} is no capsule of a store but {capsule!r}")
    kind = <const ovsshm_store_type *>PyCapsule_GetPointer(capsule, b"ovsshm_store_type")
    if kind.abi != OVSSHM_STORE_ABI:
        raise OSError(errno.EINVAL, f"{C_STORE} is for another version of shm_server.h")
    return kind


cdef const ovsshm_store_type *_find_store(name) except NULL:
    if "/" in name or name.endswith(".so"):
        return _load_store(name)
    kind = ovsshm_store_find(os.fsencode(name))
    if kind == NULL:
        known = ", ".join(one[0] for one in stores())
        raise OSError(
            errno.EINVAL,
            f'there is no store "{name}"; there are {known}, PATH.so and PACKAGE.MODULE:CLASS',
        )
    return kind


include "client_memory.pxi"
include "python_store.pxi"


cdef void _unmounted(void *arg) noexcept nogil:
    with gil:
        (<_Core>arg).unmounted()


cdef class _Core:
    """The C server, its store and its mount; Python's part in it, if the store is in Python."""

    cdef ovsshm_mount *mount
    cdef object unmounted  # called when somebody else has unmounted it
    cdef ovsshm_store *store
    cdef const ovsshm_store_type *store_type
    cdef ovsshm_server *server
    cdef readonly object dispatcher  # of a store in Python, else None
    cdef object source  # what a C store came with

    def __dealloc__(self):
        self.destroy()

    cdef make_store(self, store, pool, options, deadline_s):
        found = load(store, options, pool) if is_python(store) else store
        if isinstance(found, Store):
            self.dispatcher = Dispatcher(found, deadline_s)
            self.store = _make_python_store(self.dispatcher)
            self.store_type = self.store.type
            return
        if deadline_s is not None:
            raise OSError(errno.EINVAL, "only stores in Python have a deadline")
        if isinstance(found, str):
            self.store_type = _find_store(found)
        else:
            self.source = getattr(found, C_STORE)
            self.store_type = _from_capsule(self.source)
        self.make_c_store(pool, options)

    cdef make_c_store(self, pool, options):
        cdef ovsshm_error error
        cdef ovsshm_store_params params
        cdef int rc
        error.reason[0] = 0
        memset(&params, 0, sizeof(params))
        pairs = [(os.fsencode(str(key)), os.fsencode(str(value))) for key, value in options.items()]
        pool_bytes = None if pool is None else os.fsencode(pool)
        cdef ovsshm_store_option *c_options = <ovsshm_store_option *>calloc(
            len(pairs) + 1, sizeof(ovsshm_store_option))
        if c_options == NULL:
            raise MemoryError
        try:
            for i, (key, value) in enumerate(pairs):
                c_options[i].key = key
                c_options[i].value = value
            if pool_bytes is not None:
                params.pool = pool_bytes
            params.options = c_options
            params.option_count = len(pairs)
            params.log = _make_log()
            with nogil:
                rc = self.store_type.create(&params, &self.store, &error)
        finally:
            free(c_options)
        if rc < 0:
            raise _failure(rc, &error)

    cdef make_server(self, socket, socket_mode, socket_owner, uids, gids, reactors, depth_max,
                      queues_max, request_bytes_max, connections_max, arena_bytes_max,
                      spin_ns_max):
        cdef ovsshm_error error
        cdef ovsshm_server_params params
        cdef int rc
        cdef uid_t *c_uids = <uid_t *>calloc(len(uids) + 1, sizeof(uid_t))
        cdef gid_t *c_gids = <gid_t *>calloc(len(gids) + 1, sizeof(gid_t))
        error.reason[0] = 0
        memset(&params, 0, sizeof(params))
        try:
            if c_uids == NULL or c_gids == NULL:
                raise MemoryError
            for i, uid in enumerate(uids):
                c_uids[i] = uid
            for i, gid in enumerate(gids):
                c_gids[i] = gid
            socket_bytes = None if socket is None else os.fsencode(socket)
            if socket_bytes is not None:
                params.socket_path = socket_bytes
            params.socket_mode = socket_mode
            params.reactors = reactors
            params.socket_owner_set = socket_owner is not None
            params.socket_uid, params.socket_gid = socket_owner or (0, 0)
            params.allow_uids = c_uids
            params.allow_uid_count = len(uids)
            params.allow_gids = c_gids
            params.allow_gid_count = len(gids)
            params.depth_max = depth_max
            params.queues_max = queues_max
            params.request_bytes_max = request_bytes_max
            params.connections_max = connections_max
            params.arena_bytes_max = arena_bytes_max
            params.spin_ns_max = spin_ns_max
            params.log = _make_log()
            with nogil:
                rc = ovsshm_server_create(&params, self.store, &self.server, &error)
        finally:
            free(c_uids)
            free(c_gids)
        if rc < 0:
            raise _failure(rc, &error)

    cdef make_mount(self, path, pool, volume_suffix, options, unmounted):
        cdef ovsshm_error error
        cdef ovsshm_mount_params params
        cdef int rc
        error.reason[0] = 0
        memset(&params, 0, sizeof(params))
        try:
            values = parse_mount_options(options)
        except ValueError as wrong:
            raise OSError(errno.EINVAL, str(wrong)) from None
        path_bytes = os.fsencode(path)
        suffix_bytes = os.fsencode(volume_suffix)
        params.path = path_bytes
        params.volume_suffix = suffix_bytes
        # Only this store has files that are volumes.
        in_pool = self.store_type == &ovsshm_store_file and pool is not None
        pool_bytes = os.fsencode(pool) if in_pool else None
        if pool_bytes is not None:
            params.files = pool_bytes
        params.cache = <ovsshm_mount_cache><int>values["cache"]
        params.threads = values["threads"]
        params.max_write = values["max_write"]
        params.max_background = values["max_background"]
        params.allow_other = values["allow_other"]
        params.shared_fd = not values["clone_fd"]
        params.splice = values["splice"]
        params.io_uring = <ovsshm_mount_io_uring><int>values["io_uring"]
        params.log = _make_log()
        if unmounted is not None:
            self.unmounted = unmounted
            params.unmounted = _unmounted
            params.arg = <void *>self
        with nogil:
            rc = ovsshm_mount_create(self.server, &params, &self.mount, &error)
        if rc < 0:
            raise _failure(rc, &error)

    def start(self):
        cdef ovsshm_error error
        cdef int rc
        error.reason[0] = 0
        if self.dispatcher is not None:
            self.dispatcher.start()
        with nogil:
            rc = ovsshm_server_start(self.server, &error)
            if rc == 0 and self.mount != NULL:
                rc = ovsshm_mount_start(self.mount, &error)
        if rc < 0:
            raise _failure(rc, &error)

    def end(self, uint64_t drain_ns):
        """True: nothing had to be dropped."""
        cdef int rc = 0
        if self.server != NULL:
            with nogil:
                if self.mount != NULL:
                    ovsshm_mount_stop(self.mount)
                rc = ovsshm_server_stop(self.server, drain_ns)
        clean = self.dispatcher is None or self.dispatcher.stop()
        self.destroy()
        return rc == 0 and clean

    cdef void destroy(self) noexcept:
        server, self.server = self.server, NULL
        store, self.store = self.store, NULL
        mount, self.mount = self.mount, NULL
        with nogil:
            ovsshm_mount_destroy(mount)
            if server != NULL:
                ovsshm_server_destroy(server)
            if store != NULL:
                self.store_type.destroy(store)


cdef class Server:
    """A server of one vPool on one socket, inside this process.

        with Server("memory", socket="/run/demo/shm.sock") as server:
            ...

    store: the name of a store that comes with the server, the path of a shared object, a
    shmserver.Store or a class of one, or "package.module:Class".  options (texts) are keyword
    arguments of the class, and so is pool, if it is given and the class takes it.  deadline_s, in
    seconds, goes over what a store in Python declares.  The store is the server's until it has
    stopped.

    mount: an empty directory where the volumes appear as files as well, see docs/MOUNT.md;
    mount_options: texts by key, see shmserver.mounting.  volume_suffix: only files that end so are
    volumes, and the suffix is no part of their names.  unmounted: called without arguments, from a
    thread of the core, when somebody else has unmounted it.  shared_memory=False: no socket.

    socket: a path, by default default_socket().  socket_owner: (uid, gid).  allow_uids, allow_gids:
    who is served, besides root and this user; empty: everybody whom the socket admits.  *_bytes_max
    in bytes, spin_ns_max in nanoseconds.  Arguments left at 0 mean the default of the C core; a
    store in Python has one reactor.

    Entering the context starts it, leaving stops it without draining.  OSError has the reason.
    Not to be used from two threads at once.
    """

    cdef _Core core  # None: closed
    cdef bint started
    cdef object __weakref__

    def __init__(self, store="file", *, socket=None, pool=None, options=None, deadline_s=None,
                 socket_mode=0, socket_owner=None, allow_uids=(), allow_gids=(), reactors=0,
                 depth_max=0, queues_max=0, request_bytes_max=0, connections_max=0,
                 arena_bytes_max=0, spin_ns_max=0, mount=None, mount_options=None,
                 volume_suffix="", unmounted=None, shared_memory=True):
        if self.core is not None:
            raise RuntimeError("already made")
        cdef _Core core = _Core()
        options = dict(options or {})
        if volume_suffix and store == "file":
            options["suffix"] = volume_suffix
        core.make_store(os.fspath(store) if isinstance(store, os.PathLike) else store, pool,
                        options, deadline_s)
        if core.dispatcher is not None:
            reactors = self._one_reactor(core.dispatcher, reactors)
        if not shared_memory and (mount is None or socket is not None):
            reason = "has no mount" if mount is None else "has a socket"
            raise OSError(errno.EINVAL, f"a server without shared memory {reason}")
        if shared_memory and socket is None:
            socket = default_socket()
        core.make_server(
            None if socket is None else os.fspath(socket), socket_mode, socket_owner,
            list(allow_uids), list(allow_gids), reactors, depth_max, queues_max, request_bytes_max,
            connections_max, arena_bytes_max, spin_ns_max,
        )
        if mount is not None:
            core.make_mount(os.fspath(mount), pool, volume_suffix, dict(mount_options or {}),
                            unmounted)
        self.core = core

    def __del__(self):
        self.close()

    @staticmethod
    def _one_reactor(dispatcher, reactors):
        if reactors > 1 and dispatcher.in_reactor:
            reason = "a store in Python whose methods run in the reactor has one reactor"
            raise OSError(errno.EINVAL, f"{reason}, not {reactors}; give it threads")
        return reactors or 1

    def start(self):
        """Begin to serve; clients can connect when it returns."""
        self._open_core().start()
        self.started = True
        _running.add(self)

    def stop(self, drain_s=10.0):
        """Let requests in flight finish for at most drain_s, then end all sessions and close.

        Returns False when requests had to be dropped.  Methods of a store in Python that do not
        return are left behind after another STUCK_S.
        """
        cdef _Core core = self.core
        self.core = None
        self.started = False
        drain_ns = int(drain_s * 1e9)
        if core is None:
            return True
        if core.dispatcher is None:
            return core.end(drain_ns)
        clean = []
        ending = threading.Thread(target=lambda: clean.append(core.end(drain_ns)), daemon=True)
        try:
            ending.start()
        except RuntimeError:  # since Python 3.12: too late for new threads
            return core.end(drain_ns)
        ending.join(drain_s + STUCK_S)
        if ending.is_alive():
            _log.error('store "%s" blocks; its threads are left behind', core.dispatcher.name)
        return clean == [True]

    def close(self):
        """Stop without draining; again is fine."""
        self.stop(0)

    def status(self):
        """Totals since the start, by name."""
        cdef ovsshm_status status
        cdef _Core core = self._open_core()
        with nogil:  # it takes a lock that others hold while they log
            ovsshm_server_status(core.server, &status)
        return {
            "uptime_ns": status.uptime_ns,
            "connections": status.connections,
            "sessions": status.sessions,
            "reactors": status.reactors,
            "pid": status.pid,
            "requests": status.requests,
            "errors": status.errors,
            "read_bytes": status.read_bytes,
            "written_bytes": status.written_bytes,
            "doorbells": status.doorbells,
            "sleeps": status.sleeps,
            "violations": status.violations,
        }

    @property
    def limits(self):
        """The limits that clients are told, defaults filled in, by name."""
        params = ovsshm_server_effective(self._open_core().server)
        return {
            "reactors": params.reactors,
            "depth_max": params.depth_max,
            "queues_max": params.queues_max,
            "request_bytes_max": params.request_bytes_max,
            "connections_max": params.connections_max,
            "arena_bytes_max": params.arena_bytes_max,
            "spin_ns_max": params.spin_ns_max,
        }

    @property
    def socket(self):
        """Where it listens; None: nowhere."""
        path = ovsshm_server_effective(self._open_core().server).socket_path
        return None if path == NULL else os.fsdecode(path)

    def __enter__(self):
        if not self.started:
            self.start()
        return self

    def __exit__(self, *_):
        self.close()

    cdef _Core _open_core(self):
        if self.core is None:
            raise ValueError("the server is closed")
        return self.core


@atexit.register
def _close_all():
    # The core's threads must not outlive the interpreter they log to.
    for server in list(_running):
        server.close()
