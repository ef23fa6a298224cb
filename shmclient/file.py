# SPDX-License-Identifier: MIT
"""A volume as a raw binary file, for shutil, tarfile, io.BufferedRandom and the like.

    with server.open("vol", writable=True) as volume, volume.file() as file:
        shutil.copyfileobj(source, file)

    with io.BufferedReader(volume.file("r")) as file:
        ...

The file is as long as the volume.  Where volume.limits.block_bytes is above 1, reads and writes of
anything else than whole blocks read the blocks around first; a buffered file makes that rare.
"""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

    import shmclient.reference

    Volume = shmclient.Volume | shmclient.reference.Volume


class File(io.RawIOBase):
    """What Volume.file() returns.  Closing it flushes, and leaves the volume open.

    mode: "r", "w" or "r+", with or without "b"; None: "r+" where the volume is open for writing,
    else "r".  Nothing is ever truncated by opening.

    Offsets and lengths are in bytes.  Reads are short only at the end.  A write that reaches beyond
    the end is cut there; one at the end raises OSError ENOSPC, as a disk does.  truncate() grows
    the volume; to shrink it raises PermissionError.  Other errors are those of the volume.

    Threads: it has one position; threads that share it need a lock, or the volume's own calls.
    """

    name: str
    """Of the volume."""

    mode: str
    """What it is open for: "rb", "wb" or "r+b"."""

    def __init__(self, volume: Volume, mode: str | None = None) -> None:
        if mode is None:
            mode = "r+" if volume.writable else "r"
        plain = mode.replace("b", "", 1)
        if plain not in ("r", "w", "r+"):
            raise ValueError(f'mode {mode!r}: a volume is opened with "r", "w" or "r+"')
        if plain != "r" and not volume.writable:
            raise OSError(errno.EBADF, "the volume is not open for writing")
        self._volume = volume
        self._readable = plain != "w"
        self._writable = plain != "r"
        self._position = 0
        self.name = volume.name
        self.mode = f"{plain[0]}b{plain[1:]}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of volume {self.name!r}, mode {self.mode!r}>"

    def readable(self) -> bool:
        self._check()
        return self._readable

    def writable(self) -> bool:
        self._check()
        return self._writable

    def seekable(self) -> bool:
        self._check()
        return True

    def tell(self) -> int:
        self._check()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check()
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._volume.size_bytes
        elif whence != os.SEEK_SET:
            raise ValueError(f"whence {whence} is unknown")
        if offset < 0:
            raise ValueError(f"negative position {offset}")
        self._position = offset
        return offset

    def readinto(self, buffer: Buffer, /) -> int:
        """Read as much as fits and is left; returns the number of bytes, 0 at the end."""
        self._check(reading=True)
        with memoryview(buffer) as view, view.cast("B") as octets:
            count = self._readinto(octets)
        self._position += count
        return count

    def readall(self) -> bytes:
        self._check(reading=True)
        data = self._pread(max(self._volume.size_bytes - self._position, 0))
        self._position += len(data)
        return data

    def write(self, data: Buffer, /) -> int:
        """Write as much as there is room for; returns the number of bytes."""
        self._check(writing=True)
        with memoryview(data) as view, view.cast("B") as octets:
            left = max(self._volume.size_bytes - self._position, 0)
            if octets and not left:
                raise OSError(errno.ENOSPC, f"the end of the volume {self.name!r}")
            count = self._write(octets[:left])
        self._position += count
        return count

    def truncate(self, size: int | None = None, /) -> int:
        self._check(writing=True)
        size_bytes = self._position if size is None else size
        if size_bytes != self._volume.size_bytes:
            self._volume.resize(size_bytes)
        return size_bytes

    def flush(self) -> None:
        self._check()
        if self._writable and not self._volume.closed:
            self._volume.flush()

    def _check(self, *, reading: bool = False, writing: bool = False) -> None:
        if self.closed:
            raise ValueError("the file is closed")
        if reading and not self._readable:
            raise io.UnsupportedOperation("not open for reading")
        if writing and not self._writable:
            raise io.UnsupportedOperation("not open for writing")

    def _around(self, length_bytes: int) -> tuple[int, int]:
        """The whole blocks around so many bytes at the position: where they start and end."""
        block_bytes = self._volume.limits.block_bytes
        end = self._position + length_bytes
        start = self._position // block_bytes * block_bytes
        return start, -(-end // block_bytes) * block_bytes

    def _pread(self, length_bytes: int) -> bytes:
        start, end = self._around(length_bytes)
        skip = self._position - start
        return self._volume.pread(end - start, start)[skip : skip + length_bytes]

    def _readinto(self, octets: memoryview) -> int:
        octets = octets[: max(self._volume.size_bytes - self._position, 0)]
        if self._around(len(octets)) == (self._position, self._position + len(octets)):
            return self._volume.preadinto(octets, self._position)
        data = self._pread(len(octets))
        octets[: len(data)] = data
        return len(data)

    def _write(self, octets: memoryview) -> int:
        start, end = self._around(len(octets))
        if (start, end) == (self._position, self._position + len(octets)):
            return self._volume.pwrite(octets, self._position)
        blocks = bytearray(self._volume.pread(end - start, start))
        skip = self._position - start
        blocks[skip : skip + len(octets)] = octets
        self._volume.pwrite(blocks, start)
        return len(octets)
