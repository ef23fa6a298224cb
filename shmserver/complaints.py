# SPDX-License-Identifier: MIT
"""What a store does wrong, as an errno for the client and a line in the log.

A store that fails every request must not fill the disk with tracebacks: the same complaint comes
at most every INTERVAL_S, with the number of those that were left out.
"""

import errno
import logging
import time
from contextlib import suppress

from shmserver.store import errno_of

INTERVAL_S = 10.0
KINDS_MAX = 256

log = logging.getLogger("shmserver")


def text_of(error: BaseException) -> str:
    """One line, whatever the store has made of its exceptions."""
    try:
        text = str((isinstance(error, OSError) and error.strerror) or error)
    except Exception:
        text = ""
    return " ".join(text.split()) or type(error).__name__


def failure(error: BaseException, *, management: bool = False) -> OSError:
    """The same as an OSError with an errno that a client can be given, and a text."""
    number = errno_of(error, management=management)
    text = text_of(error)
    if not isinstance(error, OSError) and number == errno.EIO:
        text = f"{type(error).__name__}: {text}"
    return OSError(number, text)


class Complaints:
    """Log lines about one store.  Any thread."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._told: dict[tuple[str, object], tuple[float, int]] = {}

    def tell(self, call: str, error: BaseException) -> None:
        """A call of the store raised.  An error it means takes one line, a bug a traceback."""
        expected = isinstance(error, OSError | NotImplementedError)
        level = logging.WARNING if expected else logging.ERROR
        self._line(level, call, type(error), text_of(error), None if expected else error)

    def say(self, call: str, text: str) -> None:
        """A call of the store gave something that is of no use."""
        self._line(logging.ERROR, call, None, text, None)

    def _line(
        self, level: int, call: str, kind: object, text: str, error: BaseException | None
    ) -> None:
        now = time.monotonic()
        told_s, missed = self._told.get((call, kind), (-INTERVAL_S, 0))
        if now - told_s < INTERVAL_S:
            self._told[call, kind] = (told_s, missed + 1)
            return
        if len(self._told) >= KINDS_MAX:
            self._told.clear()
        self._told[call, kind] = (now, 0)
        more = f" ({missed} more like this since the last line)" if missed else ""
        with suppress(Exception):  # of a handler or filter: whoever waits for us must not end
            log.log(level, 'store "%s": %s: %s%s', self._store, call, text, more, exc_info=error)
