# SPDX-License-Identifier: MIT
"""One side's view of a ring (section 6).  Deals in indexes; the entries are the user's.

Each side owns one index and keeps it in private memory: what the peer writes can mislead it about
how much there is, never about where it is (rule 2).
"""

from __future__ import annotations

from typing import Any

from shmclient.reference import atomic

MODULUS = 2**32


class ImpossibleIndex(Exception):
    """The peer's index cannot be: a violation (V7, V9), or a broken server."""


class Ring:
    """One index of ours and one of the peer's, free-running modulo 2^32."""

    def __init__(self, words: Any, own_word: str, peer_word: str, entries: int) -> None:
        self._words = words
        self._own_word = own_word
        self._peer_word = peer_word
        self._entries = entries
        self.own = 0

    @property
    def slot(self) -> int:
        """Where the entry of our index is."""
        return self.own % self._entries

    def advance(self) -> None:
        """To the next entry; the peer does not know before publish()."""
        self.own = (self.own + 1) % MODULUS

    def publish(self) -> None:
        """All entries before our index are the peer's now (R1)."""
        atomic.store_release(self._words, self._own_word, self.own)

    def _distance(self, ahead: int, behind: int) -> int:
        distance = (ahead - behind) % MODULUS
        if distance > self._entries:
            raise ImpossibleIndex(distance)
        return distance

    def available(self) -> int:
        """Consumer: entries that the producer has published and we have not taken (A1)."""
        return self._distance(atomic.load_acquire(self._words, self._peer_word), self.own)

    def unconsumed(self) -> int:
        """Producer: entries of ours that the consumer has not consumed (A1)."""
        return self._distance(self.own, atomic.load_acquire(self._words, self._peer_word))
