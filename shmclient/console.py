# SPDX-License-Identifier: MIT
"""How the command-line programs end: one line on stderr for an error, never a traceback.

Exit codes: 0 done, 1 refused or failed, 2 wrong use of the command line.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click


class Failure(Exception):
    """What the user asked for cannot be done; the text says what, why, and what to do next."""


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Turns an OSError inside into 'cannot <what>: <reason>'."""
    try:
        yield
    except OSError as error:
        raise Failure(f"cannot {what}: {error.strerror or error}") from error


def run(command: click.Command) -> NoReturn:
    """Run a click command as a program."""
    program = command.name or "?"
    for stream in (sys.stdout, sys.stderr):
        # Volume names are bytes: what is not UTF-8 goes out as it came in.
        stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    try:
        code: Any = command.main(prog_name=program, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        _say(error.format_message())
        code = 2
    except click.UsageError as error:
        usage = error.ctx.get_usage() + "\n" if error.ctx else ""
        _say(f"{usage}{program}: error: {error.format_message()}")
        code = 2
    except (Failure, click.ClickException) as error:
        _say(f"{program}: error: {error}")
        code = 1
    except BrokenPipeError:
        # The reader has had enough; Python's own flush at exit would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except (KeyboardInterrupt, click.Abort):
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


def _say(message: str) -> None:
    print(message, file=sys.stderr)
