# SPDX-License-Identifier: MIT
"""Measures volumes over shared memory beside what one would use instead: docs/BENCHMARKS.md."""

from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
"""The checkout."""
