# SPDX-License-Identifier: MIT
"""Rules for names and sizes (docs/PROTOCOL.md, section 3), for what a store in Python says.

What clients say has been checked by the server; these are for the answers of a store.
"""

NAME_BYTES_MAX = 254
SECTOR_BYTES = 512
SIZE_BYTES_MAX = 2**63 - 1
RESERVED = ("", ".", "..", ".openvstorage")


def whole_sectors(size_bytes: int) -> int:
    """What clients see of a size; a part of a sector at the end is for mounts only."""
    return size_bytes - size_bytes % SECTOR_BYTES


def name_bytes(name: str) -> bytes:
    """As a client gets it; UnicodeEncodeError.  What is not UTF-8 stays what it was."""
    return name.encode("utf-8", "surrogateescape")


def volume_name_fault(name: object) -> str | None:
    """What is wrong with it, or None: "has an empty component"."""
    if not isinstance(name, str):
        return "is not a str"
    try:
        length = len(name_bytes(name))
    except UnicodeEncodeError:
        return "cannot be encoded"
    if not 0 < length <= NAME_BYTES_MAX:
        return f"is not 1 to {NAME_BYTES_MAX} bytes long"
    if any(letter < " " or letter == "\x7f" for letter in name):
        return "has a control character"
    for part in name.split("/"):
        if part in RESERVED:
            return f"has the component {part!r}"
    return None


def snapshot_name_fault(name: object) -> str | None:
    """As volume_name_fault(); a snapshot's name has no "/" either."""
    fault = volume_name_fault(name)
    return 'has a "/"' if fault is None and "/" in str(name) else fault
