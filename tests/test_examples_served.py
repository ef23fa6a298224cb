# SPDX-License-Identifier: MIT
"""The stores of examples/ under shmserver, as disks of the stock QEMU, and killed under load."""

import errno
import random
import sqlite3
import threading
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from conftest import TOP, ServerProcess
from example_stores import MIB, UNITS, Place, raises
from qemu.tools import Qemu, made_for

import shmclient

BOUNDED_S = 60


@pytest.fixture(params=UNITS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        return Place("s3", Path(uuid.uuid4().hex), request.getfixturevalue("s3_service"))
    return Place(request.param, tmp_path)


@pytest.fixture
def serve(place: Place, server: Callable[..., ServerProcess]) -> Callable[..., ServerProcess]:
    return lambda: server(*place.options, env={"PYTHONPATH": str(TOP)})


@pytest.fixture
def qemu(serve: Callable[..., ServerProcess]) -> Qemu:
    return made_for("stock", serve())


def scattered(path: Path, size: int) -> Path:
    """A raw file with data here and there; half of it lends itself to compression."""
    numbers = random.Random(5)
    with path.open("wb") as file:
        file.truncate(size)
        for number in range(12):
            file.seek(numbers.randrange(0, size - MIB) & ~0xFFF)
            length = numbers.randrange(1, 64) * 4096
            file.write(numbers.randbytes(length) if number % 2 else b"text" * (length // 4))
    return path


# ---- disks of QEMU -----------------------------------------------------------------------------


@pytest.mark.qemu
def test_image_goes_into_a_volume_and_back(place: Place, qemu: Qemu, tmp_path: Path) -> None:
    source = scattered(tmp_path / "source", 16 * MIB)
    name = qemu.create("dir/vol", 16 * MIB)
    qemu.img("convert", "-n", "-f", "raw", "-O", "raw", source, name)
    assert "Images are identical" in qemu.img("compare", source, name).stdout
    for extent in qemu.img_json("map", name):
        part = source.read_bytes()[extent["start"] :][: extent["length"]]
        assert extent["data"] or not any(part)
    assert sum(not extent["data"] for extent in qemu.img_json("map", name)) > 2
    qemu.img("convert", "-f", "raw", "-O", "raw", name, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


@pytest.mark.qemu
def test_patterns_are_read_back(place: Place, qemu: Qemu) -> None:
    name = qemu.create("vol", "8M")
    qemu.io(
        name,
        *("write -P 1 0 3M", "write -P 2 1000k 100k", "write -P 3 511 4099", "write -z 2M 300k"),
        *("discard 64k 640k", "flush", "write -f -P 4 7M 1M"),
        *("read -P 3 511 4099", "read -P 2 1000k 100k", "read -P 0 2M 300k", "read -P 4 7M 1M"),
    )
    qemu.io(
        name,
        *("read -P 1 4610 60000", "read -P 1 1100k 948k", "read -P 1 2348k 724k"),
        *("read -P 2 1000k 100k", "read -P 0 2M 300k", "read -P 4 7M 1M"),
    )


@pytest.mark.qemu
def test_bench_with_many_requests_in_flight(place: Place, qemu: Qemu) -> None:
    name = qemu.create("vol", "64M")
    count = "200" if place.kind == "s3" else "2000"
    words = ("-f", "raw", "-c", count, "-d", "32", "-s", "4096")
    pattern = ("-w", "--pattern=7", "--flush-interval=64")
    assert "Run completed" in qemu.img("bench", *words, *pattern, name).stdout
    assert "Run completed" in qemu.img("bench", *words, name).stdout
    qemu.io(name, f"read -P 7 0 {4 * int(count)}k")


@pytest.mark.qemu
def test_volume_grows_under_a_qcow2_image(place: Place, qemu: Qemu) -> None:
    name = "openvstorage:disk"
    qemu.img("create", "-q", "-f", "qcow2", name, "64M")
    qemu.run("qemu-io", "-f", "qcow2", "-c", "write -P 5 8M 3M", name)
    seen = qemu.run("qemu-io", "-f", "qcow2", "-c", "read -P 5 8M 3M", "-c", "read -P 0 0 8M", name)
    assert "failed" not in seen.stdout
    assert "No errors were found" in qemu.img("check", "-f", "qcow2", name).stdout
    assert qemu.server.client_json("info", "disk")["size_bytes"] > 3 * MIB


@pytest.mark.qemu
@pytest.mark.parametrize("place", ["zstd"], indirect=True)
def test_info_shows_what_compression_saves(qemu: Qemu, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"".join(b"line %d of a log\n" % n for n in range(200_000)))
    size = text.stat().st_size
    name = qemu.create("log", size)
    qemu.img("convert", "-n", "-f", "raw", "-O", "raw", text, name)
    info = qemu.server.client_json("info", "log")
    assert info["size_bytes"] >= size
    assert info["allocated_bytes"] < size / 4
    pool = Path(qemu.server.options[qemu.server.options.index("--pool") + 1])
    assert sum(path.stat().st_size for path in pool.iterdir()) < size / 3


@pytest.mark.qemu
@pytest.mark.parametrize("place", ["overlay"], indirect=True)
def test_overlays_of_one_base_are_apart(place: Place, qemu: Qemu, tmp_path: Path) -> None:
    size = len(place.base) // 512 * 512
    names = [qemu.create(volume, size) for volume in ("vm1", "vm2")]
    for name in names:
        assert "Images are identical" in qemu.img("compare", place.base_path, name).stdout
    qemu.io(names[0], "write -P 1 100k 50k")
    qemu.io(names[1], "write -P 2 100k 50k")
    qemu.io(names[0], "read -P 1 100k 50k")
    compared = qemu.img("compare", "-f", "raw", place.base_path, names[0], check=False)
    assert "Content mismatch at offset 102400" in compared.stdout
    assert place.base_path.read_bytes() == place.base


# ---- death -------------------------------------------------------------------------------------


class Writer(threading.Thread):
    """Writes here and there until the server is gone; what it was told is done is in `model`."""

    def __init__(self, socket: Path, model: bytearray, seed: int) -> None:
        super().__init__()
        self.acknowledged = threading.Semaphore(0)
        self.last = (0, 0)  # begin and end of what it was not told about
        self.error: OSError | None = None
        self._model = model
        self._numbers = random.Random(seed)
        self._connection = shmclient.connect(str(socket))
        self._volume = self._connection.open("vol", writable=True)

    def run(self) -> None:
        try:
            while True:
                self._step()
                self.acknowledged.release()
        except OSError as error:
            self.error = error
        self._volume.close()
        self._connection.close()

    def _step(self) -> None:
        numbers, model = self._numbers, self._model
        length = numbers.choice([512, 4096, 4096, 65536, 300 * 1024])
        at = numbers.randrange(0, len(model) - length) & ~511
        self.last = (at, at + length)
        kind = numbers.randrange(8)
        if kind == 0:
            self._volume.write_zeroes(length, at, may_unmap=bool(numbers.randrange(2)))
            model[at : at + length] = bytes(length)
        else:
            data = bytes([numbers.randrange(256)]) * length
            self._volume.pwrite(data, at)
            model[at : at + length] = data
        if kind == 1:
            self._volume.flush()


@pytest.mark.parametrize("seed", range(3))
def test_acknowledged_writes_survive_the_death_of_the_server(
    place: Place, serve: Callable[..., ServerProcess], seed: int
) -> None:
    first = serve()
    model = place.new(4 * MIB)
    first.client("create", "vol", str(len(model)))
    writer = Writer(first.socket, model, seed)
    writer.start()
    for _ in range(random.Random(seed).randrange(3, 30 if place.kind == "s3" else 300)):
        assert writer.acknowledged.acquire(timeout=BOUNDED_S), first.log
    first.kill()
    writer.join(BOUNDED_S)
    assert writer.error is not None
    second = serve()
    with shmclient.connect(str(second.socket)) as connection, connection.open("vol") as volume:
        found = b"".join(volume.pread(MIB, at) for at in range(0, len(model), MIB))
    begin, end = writer.last
    assert found[:begin] == model[:begin]
    assert found[end:] == model[end:]
    if place.kind == "overlay":
        assert place.base_path.read_bytes() == place.base


@pytest.mark.parametrize("place", ["zstd"], indirect=True)
def test_damaged_data_is_an_error_and_a_line_in_the_log(
    place: Place, serve: Callable[..., ServerProcess]
) -> None:
    first = serve()
    first.client("create", "vol", "1M")
    with (
        shmclient.connect(str(first.socket)) as connection,
        connection.open("vol", writable=True) as volume,
    ):
        volume.pwrite(b"x" * MIB, 0)
    first.stop()
    with closing(sqlite3.connect(place.pool / "volumes.sqlite")) as db:
        db.execute("UPDATE extents SET data = substr(data, 1, 20) WHERE number = 3")
        db.commit()
    second = serve()
    with shmclient.connect(str(second.socket)) as connection, connection.open("vol") as volume:
        assert volume.pread(3 * UNITS["zstd"], 0) == b"x" * 3 * UNITS["zstd"]
        with raises(errno.EIO):
            volume.pread(4096, 3 * UNITS["zstd"] + 4096)
        assert volume.pread(4096, 4 * UNITS["zstd"]) == b"x" * 4096
    assert f"damaged at {3 * UNITS['zstd']}" in second.log
