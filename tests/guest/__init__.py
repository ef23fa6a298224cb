# SPDX-License-Identifier: MIT
"""Boots a real Linux guest in QEMU for tests and the demo; standard library only.

    result = Guest(drives=["file=disk.raw,if=virtio,cache=none,format=raw"]).run(
        "mkfs.ext4 -q /dev/vda && mount /dev/vda /mnt && echo hello >/mnt/hello && umount /mnt")
    assert result.status == 0, result.output

A test that acts while the guest runs uses Guest.start(), see machine.py.
"""

from .machine import Guest, GuestError, GuestResult, RunningGuest

__all__ = ["Guest", "GuestError", "GuestResult", "RunningGuest"]
