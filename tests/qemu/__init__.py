# SPDX-License-Identifier: MIT
"""Volumes in QEMU, the stock one with the preload and the patched one."""
