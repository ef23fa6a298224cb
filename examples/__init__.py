# SPDX-License-Identifier: MIT
"""Stores to read, to run and to begin your own with; docs/STORES.md says how."""
