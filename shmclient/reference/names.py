# SPDX-License-Identifier: MIT
"""Names and sizes of volumes (section 3).  A bad one is an OSError with EINVAL or ENAMETOOLONG."""

from __future__ import annotations

import errno

from shmclient.reference import wire

NAME_BYTES_MAX = wire.NAME_BYTES - 2
SIZE_BYTES_MAX = 2**63 - 1
_COMPONENTS_REFUSED = {
    b"": "has an empty component",
    b".": 'has a component "." or ".."',
    b"..": 'has a component "." or ".."',
    b".openvstorage": 'has the reserved component ".openvstorage"',
}


def _complaint(data: bytes) -> str | None:
    if not data:
        return "is empty"
    if data.startswith(b"/"):
        return 'starts with "/"'
    if len(data) > NAME_BYTES_MAX:
        return f"is longer than {NAME_BYTES_MAX} bytes"
    if any(byte < 0x20 or byte == 0x7F for byte in data):
        return "has a control character"
    for component in data.split(b"/"):
        if component in _COMPONENTS_REFUSED:
            return _COMPONENTS_REFUSED[component]
    return None


def _refuse(kind: str, name: str, data: bytes, complaint: str) -> OSError:
    number = errno.ENAMETOOLONG if len(data) > NAME_BYTES_MAX else errno.EINVAL
    return OSError(number, f'{kind} name "{name[:150]}" {complaint}')


def check_volume(name: str) -> None:
    data = name.encode("utf-8", "surrogateescape")
    if complaint := _complaint(data):
        raise _refuse("volume", name, data, complaint)


def check_snapshot(name: str) -> None:
    data = name.encode("utf-8", "surrogateescape")
    complaint = _complaint(data) or ('has a "/"' if b"/" in data else None)
    if complaint:
        raise _refuse("snapshot", name, data, complaint)


def check_size(name: str, size_bytes: int) -> None:
    complaint = None
    if size_bytes % wire.SECTOR_BYTES:
        complaint = f"is not a multiple of {wire.SECTOR_BYTES} bytes"
    elif size_bytes > SIZE_BYTES_MAX:
        complaint = "is larger than 2^63 - 1 bytes"
    if complaint:
        raise OSError(errno.EINVAL, f'size {size_bytes} of volume "{name[:150]}" {complaint}')
