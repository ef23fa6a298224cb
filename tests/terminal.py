# SPDX-License-Identifier: MIT
"""Programs that write to a terminal."""

import os
import pty
import subprocess
from contextlib import ExitStack

from conftest import STOP_S


def read_rest(main: int) -> bytes:
    """Until the last writer at the other end has closed."""
    output = b""
    while True:
        try:
            output += os.read(main, 65536)
        except OSError:  # EIO: that has happened
            return output


def on_terminal(cleanup: ExitStack, argv: list[str], *, stream: str, columns: int = 80) -> str:
    """What a program that succeeds says on its stdout or stderr when that is a terminal."""
    main, end = pty.openpty()
    cleanup.callback(os.close, main)
    process = subprocess.Popen(
        argv,
        env={**os.environ, "TERM": "xterm", "COLUMNS": str(columns)},
        **{"stdout": subprocess.DEVNULL, stream: end},
    )
    cleanup.callback(process.kill)
    os.close(end)
    output = read_rest(main)
    assert process.wait(STOP_S) == 0
    return output.decode()
