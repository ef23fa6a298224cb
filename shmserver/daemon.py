# SPDX-License-Identifier: MIT
"""The life of the daemon: start, wait for a signal without the GIL, drain, end."""

import logging
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from shmclient.console import Failure
from shmserver._core import Server, default_socket
from shmserver.complaints import text_of
from shmserver.config import Settings
from shmserver.load import is_python
from shmserver.notify import Readiness

if TYPE_CHECKING:
    from shmserver import reference

log = logging.getLogger("shmserver")

ENDING = {signal.SIGTERM, signal.SIGINT}
# Blocked before the core starts its threads, so that only sigwait() takes them.
HANDLED = {*ENDING, signal.SIGHUP}
NEVER_SPIN = 2**64 - 1


def serve(settings: Settings, readiness: Readiness) -> None:
    """Serve until SIGTERM or SIGINT, then drain.  A second signal ends at once."""
    _start_logging(settings.log_level)
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    _raise_descriptor_limit()
    _check_socket(settings)
    _say_what_is_not_used(settings)
    server = _make_server(_implementation(settings.implementation), settings)
    try:
        _start(server)
        readiness.ready()
        name = _wait_for_end()
        log.info("%s: requests in flight have %g s to finish", name, settings.drain_timeout / 1e9)
        readiness.stopping()
        threading.Thread(target=_end_at_second_signal, daemon=True).start()
        if not server.stop(settings.drain_timeout / 1e9):
            log.warning("requests that did not finish in time were dropped")
            if is_python(settings.store):
                _leave_behind()
    except OSError as error:
        raise Failure(f"cannot serve: {error.strerror or error}") from error
    finally:
        server.close()


def _start(server: "Server | reference.Server") -> None:
    try:
        server.start()
    except OSError:
        raise
    except Exception as error:  # of a store in Python
        log.debug("the store cannot start", exc_info=True)
        raise Failure(f"cannot start: {type(error).__name__}: {text_of(error)}") from error


def _leave_behind() -> NoReturn:
    """Threads of a store that block would keep the interpreter from ending."""
    logging.shutdown()
    os._exit(0)


def _start_logging(level: str) -> None:
    logging.basicConfig(format="%(asctime)s shmserver: %(levelname)s: %(message)s")
    for number in (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG):
        logging.addLevelName(number, logging.getLevelName(number).lower())
    log.setLevel(level.upper())


def _raise_descriptor_limit() -> None:
    """An open volume takes 2 descriptors per queue; the soft limit is low for select(2) only."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _implementation(name: str) -> "type[Server] | type[reference.Server]":
    """The one of that name, or none: an implementation that was asked for is never replaced."""
    if name == "native":
        return Server
    try:
        from shmserver import reference
    except ImportError as error:
        raise Failure(f"cannot start: {error}") from error
    return reference.Server


def _make_server(
    implementation: "type[Server] | type[reference.Server]", settings: Settings
) -> "Server | reference.Server":
    spin_ns = settings.spin_max
    native: dict[str, Any] = {}
    if settings.volume_suffix:
        native["volume_suffix"] = settings.volume_suffix
    if settings.mount is not None:
        native |= {
            "mount": settings.mount,
            "mount_options": settings.mount_options,
            "shared_memory": settings.shared_memory,
            "unmounted": None if settings.shared_memory else _end,
        }
    if is_python(settings.store):
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    try:
        return implementation(
            settings.store,
            socket=(settings.socket or _default_socket()) if settings.shared_memory else None,
            pool=settings.pool,
            options=settings.store_options,
            deadline_s=None if settings.store_deadline is None else settings.store_deadline / 1e9,
            socket_mode=settings.socket_mode,
            socket_owner=settings.socket_owner,
            allow_uids=settings.allow_users,
            allow_gids=settings.allow_groups,
            reactors=settings.reactors,
            depth_max=settings.depth_max,
            queues_max=settings.queues_max,
            request_bytes_max=settings.request_max or 0,
            connections_max=settings.connections_max,
            arena_bytes_max=settings.arena_max or 0,
            spin_ns_max=0 if spin_ns is None else spin_ns or NEVER_SPIN,
            **native,
        )
    except OSError as error:
        raise Failure(f"cannot start: {error.strerror or error}") from error
    except ValueError as error:  # a store in Python declares nonsense
        raise Failure(f"cannot start: {error}") from error


def _check_socket(settings: Settings) -> None:
    path = settings.socket or os.environ.get("OVS_SHM_SOCKET")
    if path and settings.shared_memory and not Path(path).parent.is_dir():
        raise Failure(
            f'cannot start: there is no directory "{Path(path).parent}" for the socket "{path}"; '
            "make it, or name another --socket"
        )


def _say_what_is_not_used(settings: Settings) -> None:
    if settings.pool and settings.store in ("memory", "null") and not settings.mount:
        log.warning('the %s store keeps nothing in the pool "%s"', settings.store, settings.pool)


def _default_socket() -> str:
    """The default path; its directory is ours to make, as nobody else may have had a reason to."""
    path = default_socket()
    directory = Path(path).parent
    if path != os.environ.get("OVS_SHM_SOCKET"):
        try:
            directory.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, exist_ok=True)
        except OSError as error:
            reason = f'cannot make "{directory}" for the default socket: {error.strerror}'
            raise OSError(error.errno, reason) from error
    return path


def _end() -> None:
    """The mount was all there was to serve, and somebody has unmounted it."""
    os.kill(os.getpid(), signal.SIGTERM)


def _wait_for_end() -> str:
    while True:
        number = signal.sigwait(HANDLED)
        if number in ENDING:
            return signal.Signals(number).name
        log.info("%s: nothing to reload, serving on", signal.Signals(number).name)


def _end_at_second_signal() -> None:
    number = signal.sigwait(ENDING)
    log.warning("%s again: ending at once", signal.Signals(number).name)
    os._exit(128 + number)
