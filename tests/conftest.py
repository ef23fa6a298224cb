# SPDX-License-Identifier: MIT
"""What the tests share: server processes, programs run with a time limit, cleanup in LIFO order.

Nothing here sleeps: a server is waited for through its --ready-fd, a process by its exit.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parent.parent
SCRIPTS = Path(sys.executable).parent
START_S = 30  # a server under valgrind or a sanitizer on a busy machine
STOP_S = 30


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    timeout: float = 60,
    check: bool = True,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; `env` is added to the environment.

    Fails the test when it takes too long, or with check when its exit code is not 0.
    """
    result = subprocess.run(
        [os.fspath(word) for word in argv],
        input=stdin if stdin is not None else "",
        text=True,
        errors="surrogateescape",
        capture_output=True,
        timeout=timeout,
        env={**os.environ, **env} if env else None,
        cwd=cwd,
    )
    if check and result.returncode != 0:
        pytest.fail(f"{result.args} ended with {result.returncode}\n{result.stdout}{result.stderr}")
    return result


def start_refused(socket: str | os.PathLike[str], *options: str) -> str:
    """The error message of a `shmserver` that must not start, exit code 1."""
    argv = [str(SCRIPTS / "shmserver"), "--socket", os.fspath(socket), *options]
    result = run(argv, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert "shmserver: error: " in result.stderr
    return result.stderr


def client_argv(socket: str | os.PathLike[str], *words: str) -> list[str]:
    return [str(SCRIPTS / "shmclient"), "--socket", os.fspath(socket), *words]


class ServerProcess:
    """A `shmserver` of its own session; `command` may put something in front of it.

    scripts: where it is installed.
    """

    def __init__(
        self,
        socket: Path,
        options: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
        scripts: Path = SCRIPTS,
    ) -> None:
        self.socket = socket
        self.options = list(options)
        self.log_path = log
        self._command = [*command, str(scripts / "shmserver"), "--socket", str(socket), *options]
        self._env = {**os.environ, **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "ServerProcess":
        """Start it and wait until clients can connect."""
        ready, ready_child = os.pipe()
        with ExitStack() as stack:
            stack.callback(os.close, ready)
            with self.log_path.open("ab") as log, os.fdopen(ready_child, "wb"):
                self.process = subprocess.Popen(
                    [*self._command, "--ready-fd", str(ready_child)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(ready_child,),
                    env=self._env,
                    start_new_session=True,
                )
            readable, _, _ = select.select([ready], [], [], START_S)
            if not readable or not os.read(ready, 64):
                self.kill()
                pytest.fail(f"{self._command} did not get ready:\n{self.log}")
            select.select([ready], [], [], START_S)  # it has closed its end: no descriptor to count
        return self

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = STOP_S) -> int:
        """The exit code, once it has ended by itself."""
        assert self.process is not None
        return self.process.wait(timeout)

    def kill(self) -> None:
        """End it as by a power switch."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_S)

    def stop(self) -> None:
        """SIGTERM; it must end in time with 0 and leave nothing behind."""
        if not self.running:
            return
        self.signal(signal.SIGTERM)
        try:
            code = self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"{self._command} did not stop within {STOP_S} s:\n{self.log}")
        assert code == 0, f"{self._command} stopped with {code}:\n{self.log}"
        assert not self.socket.exists(), f"{self.socket} is left"
        with pytest.raises(ProcessLookupError):
            os.killpg(self.pid, 0)

    def client(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `shmclient` on this server."""
        return run(client_argv(self.socket, *words), **options)

    def client_json(self, *words: str) -> Any:
        return json.loads(self.client("--json", *words).stdout)


def wait_until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    """For what a server does soon but not at once; asks again and again."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it has not come true"


def pytest_configure() -> None:
    """As in a terminal: whoever runs tests in the background may have Ctrl-C ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    """Callbacks for the end of the test, last registered first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def short_dir(cleanup: ExitStack) -> Path:
    """A directory with a path short enough for sockets, which tmp_path may not be."""
    path = Path(tempfile.mkdtemp(prefix="ovsshm-"))
    cleanup.callback(shutil.rmtree, path, ignore_errors=True)
    return path


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """An empty directory for a file store."""
    path = tmp_path / "pool"
    path.mkdir()
    return path


@pytest.fixture
def server(short_dir: Path, cleanup: ExitStack) -> Callable[..., ServerProcess]:
    """Factory of running servers: server("--store", "memory"), server("--pool", str(pool)).

    Each has a socket of its own unless given; all are stopped, and must stop cleanly, at the end.
    """
    made: list[ServerProcess] = []

    def start(
        *options: str | os.PathLike[str],
        socket: Path | None = None,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
    ) -> ServerProcess:
        number = len(made)
        process = ServerProcess(
            socket or short_dir / f"s{number}.sock",
            [os.fspath(option) for option in options],
            log=short_dir / f"s{number}.log",
            env=env,
            command=command,
        )
        made.append(process)
        cleanup.callback(process.kill)
        process.start()
        cleanup.callback(process.stop)
        return process

    return start


@pytest.fixture(scope="module")
def s3_service() -> Iterator[Any]:
    """An object service that the tests of a module share; each has a prefix of its own."""
    from s3_service import ENVIRONMENT, S3Service  # only here: it takes a second

    service = S3Service()
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        stack.callback(service.kill)
        service.start()
        yield service
