# SPDX-License-Identifier: MIT
"""Volumes in memory: the smallest store that can be written to.

shmserver --store memory_store:Memory --socket /tmp/shm.sock
"""

import shmserver


class Memory(shmserver.Store):
    def __init__(self) -> None:
        self.volumes: dict[str, bytearray] = {}

    def create(self, name, size_bytes):
        self.volumes[name] = bytearray(size_bytes)

    def remove(self, name):
        del self.volumes[name]

    def size(self, name):
        return len(self.volumes[name])

    def list(self):
        return list(self.volumes)

    def open(self, name):
        return memoryview(self.volumes[name])

    def pread(self, volume, buffer, offset_bytes):
        buffer[:] = volume[offset_bytes : offset_bytes + len(buffer)]

    def pwrite(self, volume, buffer, offset_bytes):
        volume[offset_bytes : offset_bytes + len(buffer)] = buffer
