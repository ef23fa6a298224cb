# SPDX-License-Identifier: MIT
"""How the command-line programs end: one line on stderr for an error, never a traceback.

Exit codes: 0 done, 1 refused or failed, 2 wrong use of the command line.  A signal that ends it
does so after whatever had to be cleaned up.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click


class Failure(Exception):
    """What the user asked for cannot be done; the text says what, why, and what to do next."""


class Interrupted(BaseException):  # not KeyboardInterrupt, which click takes for its own
    """A signal that is going to end the program."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def interruptible() -> Iterator[None]:
    """Signals raise Interrupted in the main thread, to clean up first; a second one ends it."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, frame: object) -> NoReturn:
        del frame
        for one in signals:
            signal.signal(one, signal.SIG_DFL)
        raise Interrupted(number)

    before = {
        one: signal.signal(one, interrupt)
        for one in signals
        if signal.getsignal(one) != signal.SIG_IGN  # as nohup has it
    }
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Turns an OSError inside into 'cannot <what>: <reason>'."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever reads our output has had enough, which is no error worth a word
    except OSError as error:
        raise Failure(f"cannot {what}: {error.strerror or error}") from error


def note(message: str) -> None:
    """Something to know that is no error: a line on stderr."""
    _say(f"{sys.argv[0].rpartition('/')[2]}: {message}")


def run(command: click.Command) -> NoReturn:
    """Run a click command as a program."""
    program = command.name or "?"
    for stream in (sys.stdout, sys.stderr):
        if stream is None:  # its number would go to a socket or a file, which gets the output then
            sys.exit(f"{program}: error: standard output or error is closed; give /dev/null")
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
    except OSError as error:
        # Standard output: its reader has had enough, which is no error worth a word, or its disk
        # is full.  Python's own flush at exit would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            _say(f"{program}: error: cannot write standard output: {error.strerror or error}")
        code = 1
    except Interrupted as interrupt:
        signal.signal(interrupt.number, signal.SIG_DFL)
        os.kill(os.getpid(), interrupt.number)
    except (KeyboardInterrupt, click.Abort):
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


def _say(message: str) -> None:
    print(message, file=sys.stderr)
