# SPDX-License-Identifier: MIT
"""Numbers that the caller passes, before anything is computed from them."""

from __future__ import annotations

import operator
from typing import SupportsIndex

COUNT_MAX = 2**63 - 1


def count(value: SupportsIndex, what: str) -> int:
    """A number of bytes, or of requests: TypeError, ValueError, or OverflowError from 2^63 on."""
    number = operator.index(value)
    if number < 0:
        raise ValueError(f"{what} must not be negative")
    if number > COUNT_MAX:
        raise OverflowError(f"{what} must be less than 2**63")
    return number
