# SPDX-License-Identifier: MIT
"""The few lines of QMP that a test needs: connect, execute, collect events on the way."""

import json
import socket
import time
from pathlib import Path
from typing import Any


class QmpError(RuntimeError):
    """QEMU refused a command; the text is its own description."""


class Qmp:
    def __init__(self, path: Path, deadline: float) -> None:
        self.events: list[dict[str, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(max(0.1, deadline - time.monotonic()))
        try:
            self._socket.connect(str(path))
            self._stream = self._socket.makefile("rw", encoding="utf-8")
            self._receive()  # the greeting
            self.execute("qmp_capabilities")
        except BaseException:
            self._socket.close()
            raise

    def execute(self, command: str, **arguments: Any) -> Any:
        """Argument names are written with underscores, as device= or node_name=."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        json.dump({"execute": command, "arguments": named}, self._stream)
        self._stream.write("\n")
        self._stream.flush()
        while True:
            answer = self._receive()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise QmpError(f"{command}: {answer['error']['desc']}")
            else:
                return answer["return"]

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def _receive(self) -> dict[str, Any]:
        line = self._stream.readline()
        if not line:
            raise QmpError("QEMU closed its QMP socket")
        message: dict[str, Any] = json.loads(line)
        return message
