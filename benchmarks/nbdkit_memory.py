# SPDX-License-Identifier: MIT
"""A memory disk for nbdkit's Python plugin, as simple as examples/memory_store.py."""

import nbdkit

API_VERSION = 2
settings = {"size": "0", "model": "PARALLEL"}


def config(key, value):
    settings[key] = value


def config_complete():
    global disk
    disk = memoryview(bytearray(int(settings["size"])))


def thread_model():
    return getattr(nbdkit, "THREAD_MODEL_" + settings["model"])


def open(readonly):  # noqa: A001, ARG001
    return 1


def get_size(handle):  # noqa: ARG001
    return len(disk)


def pread(handle, buffer, offset, flags):  # noqa: ARG001
    buffer[:] = disk[offset : offset + len(buffer)]


def pwrite(handle, buffer, offset, flags):  # noqa: ARG001
    disk[offset : offset + len(buffer)] = buffer
