# SPDX-License-Identifier: MIT
"""The bytes that both sides share, read from the one wire header; nothing is typed again.

shm_wire.h beside this file is the C header itself (a link in a checkout, a copy in a wheel).
docs/PROTOCOL.md has the rules that go with the bytes.

    OP_READ, MSG_HELLO, ...   any #define or enumerator without its prefix OVSSHM_
    CONSTANTS                 all of them, by full name
    STRUCTS                   name -> size and fields, in order
    pack, unpack, at          structs into bytes, out of bytes, in place in shared memory
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from cffi import FFI

HEADER = Path(__file__).with_name("shm_wire.h")


class Field(NamedTuple):
    name: str
    offset: int
    size: int


class Struct(NamedTuple):
    size: int
    fields: list[Field]


def marked_part() -> str:
    """What is between the header's cdef marks: literal defines, enums, plain structs."""
    text = HEADER.read_text(encoding="utf-8")
    return text[text.index("/* [cdef-begin] */") : text.index("/* [cdef-end] */")]


def _without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)


ffi = FFI()
ffi.cdef(_without_comments(marked_part()))
_library = ffi.dlopen(None)  # cffi hands out the values of a cdef as attributes of a library

CONSTANTS: dict[str, int] = {
    name: int(getattr(_library, name)) for name in dir(_library) if name.startswith("OVSSHM_")
}


def _layout(name: str) -> Struct:
    ctype = ffi.typeof(f"struct {name}")
    fields = [
        Field(field, info.offset, ffi.sizeof(info.type)) for field, info in ctype.fields or []
    ]
    return Struct(ffi.sizeof(ctype), fields)


STRUCTS: dict[str, Struct] = {name: _layout(name) for name in ffi.list_types()[1]}


def __getattr__(name: str) -> int:
    try:
        return CONSTANTS["OVSSHM_" + name]
    except KeyError:
        raise AttributeError(f"shm_wire.h has no OVSSHM_{name}") from None


def sizeof(struct: str) -> int:
    return STRUCTS["ovsshm_" + struct].size


def pack(struct: str, **fields: Any) -> bytes:
    """The bytes of `struct ovsshm_<struct>`; unnamed members are zero, text may be str."""
    value = ffi.new(f"struct ovsshm_{struct} *")
    for field, content in fields.items():
        encoded = (
            content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        )
        setattr(value, field, encoded)
    return bytes(ffi.buffer(value))


def unpack(struct: str, data: bytes | memoryview) -> Any:
    """A private copy of the first bytes of data as a struct."""
    value = ffi.new(f"struct ovsshm_{struct} *")
    ffi.memmove(value, data, sizeof(struct))
    return value


def at(struct: str, address: Any) -> Any:
    """The struct at an address in shared memory: each member read or written is one access."""
    return ffi.cast(f"struct ovsshm_{struct} *", address)


def text(field: Any) -> str:
    """A text field up to its first NUL (section 3); names are bytes, so any of them survives."""
    data: bytes = ffi.string(field)
    return data.decode("utf-8", "surrogateescape")


def has_nul(field: Any) -> bool:
    """Does text end within its field (section 3)?"""
    return b"\0" in ffi.buffer(field)[:]


def is_zero(field: Any) -> bool:
    """Is a reserved member zero, be it a number or an array of them (section 3)?"""
    return not any(field) if isinstance(field, ffi.CData) else field == 0
