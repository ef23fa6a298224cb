# SPDX-License-Identifier: MIT
"""What people look at after a run: ``python -m benchmarks.report --help``.  Reads records only."""
