# SPDX-License-Identifier: MIT
"""I/O through qemu-io: any offset and size, zeroes and discard, sharing, and what goes wrong.

Method: the same commands change a bytearray, and the volume must equal it afterwards.
"""

import os
import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ServerProcess

from .tools import ANSWER_S, MIB, Qemu, made_for

pytestmark = pytest.mark.qemu


def allocated(qemu: Qemu, volume: str) -> int:
    return int(qemu.server.client_json("info", volume)["allocated_bytes"])


class Session:
    """qemu-io with a volume open, doing one command after another."""

    def __init__(self, qemu: Qemu, name: str, options: Sequence[str]) -> None:
        argv = qemu.argv("qemu-io", "-f", "raw", *options, name)
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *argv],
            env=os.environ | qemu.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def do(self, command: str) -> str:
        """What it prints until it asks for the next command."""
        assert self.process.stdin
        self.process.stdin.write(f"{command}\n".encode())
        self.process.stdin.flush()
        return self.read_to_prompt()

    def read_to_prompt(self) -> str:
        assert self.process.stdout
        seen = b""
        while not seen.endswith(b"qemu-io> "):
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, f"qemu-io ended: {seen!r}"
            seen += more
        return seen.decode()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(ANSWER_S)


@contextmanager
def session(qemu: Qemu, name: str, *options: str) -> Iterator[Session]:
    opened = Session(qemu, name, options)
    with opened.process:
        try:
            opened.read_to_prompt()
            yield opened
        finally:
            opened.kill()


# ---- data --------------------------------------------------------------------------------------


def scramble(numbers: random.Random, model: bytearray, count: int) -> Iterator[str]:
    """Commands of all kinds at odd offsets and sizes, done to the model too."""
    for _ in range(count):
        length = numbers.choice([1, 511, 512, 4096, 4097, 65536, numbers.randrange(1, 300_000)])
        start = numbers.randrange(0, len(model) - length)
        value = numbers.randrange(1, 256)
        command = numbers.choice(["write", "write -f", "writev", "zero", "zero -u", "aio_write"])
        if command.startswith("zero"):
            value = 0
            yield f"write -z {command[5:]} {start} {length}"
        elif command == "writev":
            middle = numbers.randrange(0, length + 1)
            parts = [str(n) for n in (middle, length - middle) if n]
            yield f"writev -P {value} {start} {' '.join(parts)}"
        else:
            yield f"{command} -P {value} {start} {length}"
            if command == "aio_write":
                yield "aio_flush"
        model[start : start + length] = bytes([value]) * length


@pytest.mark.parametrize("seed", range(3))
def test_any_offset_and_size_is_as_in_a_file(qemu: Qemu, tmp_path: Path, seed: int) -> None:
    model = bytearray(8 * MIB)
    name = qemu.create("vol", len(model))
    qemu.io(name, *scramble(random.Random(seed), model, 120), options=("-d", "unmap"))
    back = tmp_path / "back"
    qemu.img("convert", "-f", "raw", "-O", "raw", name, back)
    assert back.read_bytes() == model


def test_unaligned_reads_see_their_bytes(qemu: Qemu) -> None:
    name = qemu.create("vol", "1M")
    qemu.io(
        name,
        "write -P 1 0 1000",
        "write -P 2 1000 1",
        "write -P 3 1001 100000",
        "read -P 1 1 999",
        "read -P 2 1000 1",
        "readv -P 3 1001 1 2 4 99993",
        "read -P 0 101001 200000",
    )


def test_requests_longer_than_the_server_takes_are_split(qemu: Qemu) -> None:
    name = qemu.create("vol", "96M")
    qemu.io(name, "write -P 5 1 64M", "read -P 5 1 64M", "read -P 0 67108865 16M")


def test_more_requests_than_the_queue_is_deep_all_complete(qemu: Qemu) -> None:
    name = qemu.create("vol", "16M")
    for words in (["-d", "1024", "-c", "20000"], ["-w", "-d", "600", "-s", "1M", "-c", "2000"]):
        done = qemu.img("bench", "-f", "raw", *words, name, timeout=120)
        assert "Run completed" in done.stdout


def test_request_longer_than_the_arena_is_told_and_harms_nobody(
    server: Callable[..., ServerProcess], pool: Path
) -> None:
    small = server("--pool", pool, "--arena-max", "64K")
    qemu = made_for("stock", small)
    name = qemu.create("vol", "8M")
    qemu.io(name, "write -P 1 0 16k", "aio_write -P 2 0 4M", "aio_flush", "read -P 2 0 4M")


# ---- zeroes and discard ------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["discard 1M 4M", "write -zu 1M 4M"])
def test_space_is_freed(qemu: Qemu, command: str) -> None:
    name = qemu.create("vol", "8M")
    qemu.io(name, "write -P 1 0 8M")
    full = allocated(qemu, "vol")
    checks = ["read -P 1 0 1M", "read -P 0 1M 4M", "read -P 1 5M 3M"]
    qemu.io(name, command, *checks, options=("-d", "unmap"))
    assert full - allocated(qemu, "vol") == 4 * MIB
    holes = [(e["start"], e["length"]) for e in qemu.img_json("map", name) if not e["data"]]
    assert holes == [(MIB, 4 * MIB)]


def test_zeroes_without_unmap_keep_the_space(qemu: Qemu) -> None:
    name = qemu.create("vol", "8M")
    qemu.io(name, "write -P 1 0 8M")
    full = allocated(qemu, "vol")
    qemu.io(name, "write -z 1M 4M", "read -P 0 1M 4M", "read -P 1 5M 3M")
    assert allocated(qemu, "vol") == full


def test_zeroes_that_a_guest_writes_as_data_can_be_detected(qemu: Qemu) -> None:
    qemu.create("vol", "8M")
    qemu.io("openvstorage:vol", "write -P 1 0 8M")
    full = allocated(qemu, "vol")
    node = "driver=raw,detect-zeroes=unmap,discard=unmap,file.driver=openvstorage,file.volume=vol"
    qemu.run("qemu-io", "--image-opts", "-c", "write -P 0 1M 4M", node)
    assert full - allocated(qemu, "vol") == 4 * MIB


# ---- sharing -----------------------------------------------------------------------------------


def test_second_writer_is_refused_while_readers_share(qemu: Qemu) -> None:
    name = qemu.create("vol", "1M")
    with session(qemu, name) as writer:
        refusal = qemu.refused("qemu-io", "-f", "raw", "-c", "write 0 512", name)
        assert "cannot open volume 'vol': Device or resource busy" in refusal
        assert f"by pid {writer.process.pid} (qemu-io)" in refusal
        assert qemu.img_json("info", name)["virtual-size"] == MIB
        qemu.io(name, "read 0 1M", options=("-r",))
    qemu.io(name, "write -P 1 0 512")


def test_reader_sees_what_the_writer_wrote(qemu: Qemu) -> None:
    name = qemu.create("vol", "1M")
    with session(qemu, name) as writer, session(qemu, name, "-r") as reader:
        assert "wrote 4096/4096" in writer.do("write -P 66 0 4k")
        assert "read 4096/4096" in reader.do("read -P 66 0 4k")


def test_size_follows_a_resize_by_others(qemu: Qemu) -> None:
    name = qemu.create("vol", "1M")
    with session(qemu, name) as writer:
        assert "Input/output error" in writer.do("write 1M 4k")
        qemu.server.client("resize", "vol", "2M")
        assert "wrote 4096/4096" in writer.do("write 1M 4k")


def test_killed_writer_frees_its_volume(qemu: Qemu) -> None:
    name = qemu.create("vol", "1M")
    with session(qemu, name) as writer:
        writer.kill()
        while qemu.server.client_json("info", "vol")["writers"]:
            pass
        qemu.io(name, "write -P 1 0 512")


def test_readers_cannot_write(qemu: Qemu) -> None:
    name = qemu.create("vol", "1M")
    with session(qemu, name, "-r") as reader:
        assert "read-only" in reader.do("write 0 512")


def test_reopening_read_only_gives_the_writers_role_up(qemu: Qemu) -> None:
    name = qemu.create("vol", "1M")
    with session(qemu, name) as first:
        first.do("reopen -r")
        assert "read 512/512" in first.do("read 0 512")
        qemu.io(name, "write -P 4 0 4k")
        assert "read 512/512" in first.do("read -P 4 0 512")
        first.do("reopen -w")
        assert "wrote 512/512" in first.do("write -P 5 0 512")


def test_reopening_for_writing_is_refused_while_there_is_a_writer(qemu: Qemu) -> None:
    name = qemu.create("vol", "1M")
    with session(qemu, name) as writer, session(qemu, name, "-r") as reader:
        refusal = reader.do("reopen -w")
        assert "cannot reopen volume 'vol' for writing: Device or resource busy" in refusal
        assert "read 512/512" in reader.do("read 0 512")
        assert "wrote 512/512" in writer.do("write 0 512")


# ---- failures ----------------------------------------------------------------------------------


def test_server_that_dies_fails_requests_and_is_reported_once(qemu: Qemu) -> None:
    name = qemu.create("vol", "16M")
    with session(qemu, name) as user:
        assert "wrote" in user.do("write -P 1 0 4k")
        qemu.server.kill()
        seen = user.do("write -P 1 0 4k") + user.do("read 0 4k") + user.do("flush")
    assert seen.count("Input/output error") >= 2, seen
    assert seen.count("volume 'vol' is lost: ") == 1, seen


def test_server_that_dies_with_requests_in_flight_ends_them(qemu: Qemu) -> None:
    name = qemu.create("vol", "16M")
    argv = qemu.argv("qemu-img", "bench", "-f", "raw", "-d", "64", "-c", str(2**31 - 1), name)
    bench = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *argv],
        env=os.environ | qemu.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with bench:
        try:
            while qemu.server.client_json("status")["requests"] < 1000:
                assert bench.poll() is None
            qemu.server.kill()
            _, errors = bench.communicate(timeout=ANSWER_S)
        finally:
            bench.kill()
    assert bench.returncode == 1
    assert "Failed request: Input/output error" in errors
