# SPDX-License-Identifier: MIT
"""What the QEMU tests share: one face for the stock QEMU with the preload and for the patched one.

The patched one is where OVS_QEMU_BUILD says (scripts/build-qemu prints it; `make test` sets it).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from conftest import TOP, ServerProcess, run
from guest.qmp import Qmp, QmpError

MIB = 1 << 20
ANSWER_S = 60  # a busy machine
OVS_QEMU = TOP / "build" / "qemu" / "ovs-qemu"
Result = subprocess.CompletedProcess[str]


class Qemu:
    """QEMU's programs, talking to one server."""

    def __init__(self, kind: str, server: ServerProcess) -> None:
        self.kind = kind
        self.server = server
        self.env = {"OVS_SHM_SOCKET": str(server.socket)}

    def argv(self, program: str, *words: str | Path) -> list[str]:
        return [*program_argv(self.kind, program), *map(str, words)]

    def run(self, program: str, *words: str | Path, **options: Any) -> Result:
        return run(self.argv(program, *words), env=self.env, **options)

    def img(self, *words: str | Path, **options: Any) -> Result:
        return self.run("qemu-img", *words, **options)

    def img_json(self, *words: str | Path) -> Any:
        return json.loads(self.img(*words, "--output=json").stdout)

    def io(self, volume: str, *commands: str, options: tuple[str, ...] = ()) -> str:
        """qemu-io on a raw volume; its exit code tells nothing of patterns, its output does."""
        words = [word for command in commands for word in ("-c", command)]
        done = self.run("qemu-io", "-f", "raw", *options, *words, volume)
        assert "Pattern verification failed" not in done.stdout, done.stdout
        assert "failed:" not in done.stdout + done.stderr, done.stdout + done.stderr
        return done.stdout

    def create(self, volume: str, size: str | int) -> str:
        name = f"openvstorage:{volume}"
        self.img("create", "-q", "-f", "raw", name, str(size))
        return name

    def refused(self, program: str, *words: str | Path) -> str:
        """Why it fails: one message, exit code 1."""
        done = self.run(program, *words, check=False)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stderr.strip()

    @contextmanager
    def daemon(self, *words: str | Path, program: str = "qemu-storage-daemon") -> Iterator[Daemon]:
        """A QEMU process that QMP commands are sent to; it must end in order when asked."""
        ours, theirs = socket.socketpair()
        with ours, tempfile.TemporaryFile("w+") as errors:
            with theirs:
                monitor = "--monitor" if program == "qemu-storage-daemon" else "--mon"
                chardev = f"socket,id=qmp,fd={theirs.fileno()}"
                argv = self.argv(program, "--chardev", chardev, monitor, "chardev=qmp,mode=control")
                process = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", "--", *argv, *map(str, words)],
                    env=os.environ | self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    pass_fds=[theirs.fileno()],
                )
            try:
                ours.settimeout(ANSWER_S)
                yield Daemon(process, ours, errors)
                process.wait(ANSWER_S)
            finally:
                process.kill()
                process.wait()


class Daemon(Qmp):
    """A QEMU process and the other end of its QMP socket."""

    def __init__(
        self, process: subprocess.Popen[bytes], connection: socket.socket, errors: IO[str]
    ) -> None:
        self.process = process
        self._errors = errors
        self.events = []
        self._socket = connection
        self._stream = connection.makefile("rw", encoding="utf-8")
        try:
            self._receive()  # the greeting
            self.execute("qmp_capabilities")
        except (QmpError, OSError) as error:
            pytest.fail(f"QEMU did not start: {error}\n{self.errors}")

    @property
    def errors(self) -> str:
        """What it has written to stderr so far."""
        self._errors.seek(0)
        return self._errors.read()

    @property
    def socket(self) -> socket.socket:
        """Readable when QEMU has said something that nobody has heard."""
        return self._socket

    def send(self, command: str, **arguments: Any) -> None:
        """As execute(), the answer is for answer()."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._stream.write(json.dumps({"execute": command, "arguments": named}) + "\n")
        self._stream.flush()

    def answer(self, command: str) -> Any:
        while True:
            message = self._receive()
            if "error" in message:
                raise QmpError(f"{command}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]
            self.events.append(message)

    def wait_event(self, name: str) -> dict[str, Any]:
        """The next event of that name, also one that came on the way; it is taken."""
        while True:
            for number, event in enumerate(self.events):
                if event["event"] == name:
                    return self.events.pop(number)
            self.events.append(self._receive())

    def job(self, command: str, job_id: str, **arguments: Any) -> str | None:
        """Run a job to its end; its error, if it failed."""
        self.execute(command, job_id=job_id, **arguments)
        while True:
            change = self.wait_event("JOB_STATUS_CHANGE")["data"]
            if change == {"id": job_id, "status": "concluded"}:
                break
        (job,) = (job for job in self.execute("query-jobs") if job["id"] == job_id)
        self.execute("job-dismiss", id=job_id)
        return job.get("error")

    def quit(self) -> None:
        self.execute("quit")
        assert self.process.wait(ANSWER_S) == 0, self.errors


def program_argv(kind: str, program: str) -> list[str]:
    if kind == "stock":
        return [str(OVS_QEMU), program]
    build = Path(os.environ["OVS_QEMU_BUILD"])
    names = {"qemu-storage-daemon": "storage-daemon/qemu-storage-daemon"}
    return [str(build / names.get(program, program))]


def missing(kind: str) -> str | None:
    """Why there is no such QEMU here."""
    if kind == "patched":
        return None if os.environ.get("OVS_QEMU_BUILD") else "OVS_QEMU_BUILD is not set: make qemu"
    if shutil.which("qemu-img") is None:
        return "no qemu-img installed: scripts/install-debs qemu"
    return None if OVS_QEMU.exists() else f"no {OVS_QEMU}: make preload"


def made_for(kind: str, server: ServerProcess) -> Qemu:
    reason = missing(kind)
    if reason:
        pytest.skip(reason)
    return Qemu(kind, server)
