# SPDX-License-Identifier: MIT
"""A bounded run of each libFuzzer target in tests/fuzz, under ASan and UBSan, from golden seeds.

More of one target:  build/fuzz/fuzz_queue -max_len=2048 CORPUS_DIR
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
from pathlib import Path

import pytest
import wire
from golden import samples

FUZZ = Path(__file__).parent / "fuzz"
BUILD = wire.ROOT / "build/fuzz"
SANITIZE = "address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
WARN = "-Wall -Wextra -Wstrict-prototypes -Wmissing-prototypes -Werror"
RUNS = {"queue": 300_000, "control": 40_000, "client": 8_000}
LIMIT_S = 240


def queue_seeds() -> list[bytes]:
    """How, then actions: 0 = an entry follows, 2 = a segment, 3 = consume, 5 = complete."""
    good = {"op": wire.OP_READ, "length_bytes": 512}
    segments = {"flags": wire.SQE_SEGMENTS, "segment_count": 2}
    entries = [
        wire.pack("sqe", **good),
        wire.pack("sqe", **good | {"op": wire.OP_WRITE, "flags": wire.SQE_FUA}),
        wire.pack("sqe", op=wire.OP_FLUSH),
        wire.pack("sqe", op=wire.OP_DISCARD, length_bytes=1 << 20),
        wire.pack("sqe", op=wire.OP_WRITE_ZEROES, length_bytes=512, flags=wire.SQE_MAY_UNMAP),
        wire.pack("sqe", op=wire.OP_BLOCK_STATUS, length_bytes=512, buffer_bytes=64),
        wire.pack("sqe", **good | segments),
        *(data for name, data in samples.entries().items() if name.startswith("sqe-")),
    ]
    listing = b"".join(
        b"\2" + bytes([at]) + wire.pack("segment", buffer_offset=4096, length_bytes=256)
        for at in range(2)
    )
    many = [b"\1" + (b"\x80" + entries[0]) * count + b"\7" + b"\5\0" * count for count in (5, 6, 9)]
    return many + [
        bytes([how]) + listing + b"\0" + entry + b"\5\0" + b"\3" + b"\0" + entry + b"\7\5\0"
        for how in (1, 3, 17)
        for entry in entries
    ]


def control_seeds() -> list[bytes]:
    """Whether to say hello, then packets: 1 = type and payload follow, 3 = raw bytes."""
    seeds = []
    for data in samples.messages().values():
        payload = data[wire.sizeof("msg") :]
        packet = b"\1" + struct.pack("<HB", len(payload), data[4]) + payload
        raw = b"\3" + struct.pack("<H", len(data)) + data
        seeds += [b"\1" + packet + packet, b"\1" + raw, b"\0" + raw + packet]
    return seeds


def client_seeds() -> list[bytes]:
    """What the client does, then how each reply is made: 0 = honest, bits bend it."""
    seeds = [bytes(n) for n in (1, 4, 400)] + [b"\x40" + bytes(400), b"\x41" + bytes(400)]
    for bit in range(6):
        seeds.append(b"\x40" + bytes([1 << bit]) * 40 + bytes(100))
        seeds.append(b"\x01\x00" + bytes([1 << bit]) * 400)
    opened = bytes(4)  # one queue; two hellos and an open answered honestly
    for offset in range(wire.sizeof("region_header")):
        seeds.append(opened + b"\1" + struct.pack("<HB", offset, 0xFF) + bytes(200))
    for element in ("volume_info", "snapshot_info"):  # a list of unterminated names
        page = wire.pack("msg_list_reply", count=1) + b"n" * wire.sizeof(element)
        listing = b"\2" + struct.pack("<H", len(page)) + page
        seeds.append(b"\x40" + bytes(3 if element == "volume_info" else 4) + listing + bytes(99))
    for results in ([100, 512, 1, 0], [0] * 4, [-5] * 4, [513] * 4, [2**31 - 1] * 4):
        cqes = b"".join(wire.pack("cqe", user_data=n, result=r) for n, r in enumerate(results))
        seeds.append(opened + b"\0" + b"\1\0\4\0" + cqes + bytes(200))
    return seeds


SEEDS = {"queue": queue_seeds, "control": control_seeds, "client": client_seeds}


@pytest.fixture(scope="module")
def archive() -> Path:
    archive = BUILD / "libovsshm.a"
    command = ["nice", "make", "-s", "-j2", "-C", f"{wire.ROOT}/csrc", "VARIANT=fuzz", "CC=clang"]
    command += [f"FLAGS_fuzz=-O1 -g -fsanitize=fuzzer-no-link,{SANITIZE}", str(archive)]
    subprocess.run(command, check=True, timeout=LIMIT_S, stdout=subprocess.DEVNULL)
    return archive


def build(target: str, archive: Path) -> Path:
    program = BUILD / f"fuzz_{target}"
    command = ["clang", "-std=c11", *WARN.split(), "-O1", "-g", "-pthread", "-o", str(program)]
    command += f"-fsanitize=fuzzer,{SANITIZE}".split()
    command += [f"-I{wire.ROOT}/csrc/include", f"-I{wire.ROOT}/csrc"]
    command += [str(FUZZ / f"fuzz_{target}.c"), str(archive), "-luring", "-ldl"]
    subprocess.run(command, check=True, timeout=LIMIT_S)
    return program


@pytest.mark.timeout(2 * LIMIT_S)
@pytest.mark.parametrize("target", RUNS)
def test_fuzz_target_finds_nothing(target: str, archive: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS[target]()):
        (corpus / str(number)).write_bytes(seed)
    command = [str(build(target, archive)), f"-runs={RUNS[target]}", "-seed=1", "-max_len=2048"]
    command += ["-timeout=30", "-rss_limit_mb=2048", f"-artifact_prefix={tmp_path}/", str(corpus)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=LIMIT_S,
        env=os.environ | {"ASAN_OPTIONS": "detect_leaks=1", "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout[-6000:]
    runs = re.search(r"Done (\d+) runs", done.stdout)
    assert runs is not None, done.stdout[-6000:]
    assert int(runs[1]) >= RUNS[target]
    assert len(list(corpus.iterdir())) > len(SEEDS[target]()), "nothing new was reached"


def test_every_target_is_run() -> None:
    assert {path.stem for path in FUZZ.glob("fuzz_*.c")} == {f"fuzz_{name}" for name in RUNS}
