# SPDX-License-Identifier: MIT
"""The bytes both sides share are the same in the text, in C, in Python, and in the golden files.

docs/PROTOCOL.md is parsed; shm_wire.h is read by cffi and by the C compiler; nothing is typed here.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import wire
from golden import samples

PROTOCOL = wire.ROOT / "docs/PROTOCOL.md"
GOLDEN = Path(samples.__file__).parent
SAMPLES = samples.samples()


class Document(NamedTuple):
    constants: dict[str, int]
    structs: dict[str, wire.Struct]


def cells(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]


def number(text: str) -> int:
    base, _, shift = text.partition("<<")
    return int(base, 0) << int(shift or 0)


def parse_document(text: str) -> Document:
    """Tables headed Offset|Size|Field belong to the struct named last; Name|Value are constants."""
    constants: dict[str, int] = {}
    structs: dict[str, wire.Struct] = {}
    fields: list[wire.Field] = []
    table: list[str] = []
    for line in text.splitlines():
        if title := re.fullmatch(r"#+ `struct (\w+)` \((\d+) bytes\)", line):
            assert title[1] not in structs, f"{title[1]} is described twice"
            fields = []
            structs[title[1]] = wire.Struct(int(title[2]), fields)
        if not line.startswith("|"):
            table = []
        elif not table:
            table = cells(line)
        elif line.startswith("|---"):
            continue
        elif table[:3] == ["Offset", "Size", "Field"]:
            offset, size, name = cells(line)[:3]
            fields.append(wire.Field(name, int(offset), int(size)))
        elif table[:2] == ["Name", "Value"]:
            name, value = cells(line)[:2]
            assert name not in constants, f"{name} is described twice"
            constants[name] = number(value)
    return Document(constants, structs)


DOCUMENT = parse_document(PROTOCOL.read_text())


def run_c(tmp_path: Path, sources: list[Path]) -> str:
    program = tmp_path / "program"
    include = [f"-I{wire.ROOT}/csrc/include", f"-I{wire.ROOT}/csrc"]
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1"]
    subprocess.run(["gcc", *flags, *include, "-o", program, *sources], check=True, timeout=60)
    return subprocess.run(
        [program], check=True, timeout=10, stdout=subprocess.PIPE, text=True
    ).stdout


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """The header as the C compiler sees it: names from cffi, values from a compiled program."""
    tmp_path = tmp_path_factory.mktemp("layout")
    lines = [
        f'printf("constant {name} %llu\\n", (unsigned long long){name});' for name in wire.CONSTANTS
    ]
    for struct, layout in wire.STRUCTS.items():
        lines.append(f'printf("struct {struct} %zu\\n", sizeof(struct {struct}));')
        for field in layout.fields:
            place = f"offsetof(struct {struct}, {field.name})"
            size = f"sizeof(((struct {struct} *)0)->{field.name})"
            lines.append(f'printf("field {field.name} %zu %zu\\n", {place}, {size});')
    source = tmp_path / "layout.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <openvstorage/shm_wire.h>\n"
        "int main(void) {\n" + "\n".join(lines) + "\nreturn 0;\n}\n"
    )
    constants: dict[str, int] = {}
    structs: dict[str, wire.Struct] = {}
    fields: list[wire.Field] = []
    for line in run_c(tmp_path, [source]).splitlines():
        kind, name, *numbers = line.split()
        if kind == "constant":
            constants[name] = int(numbers[0])
        elif kind == "struct":
            fields = []
            structs[name] = wire.Struct(int(numbers[0]), fields)
        else:
            fields.append(wire.Field(name, int(numbers[0]), int(numbers[1])))
    return Document(constants, structs)


def test_document_names_every_constant_and_its_value() -> None:
    assert DOCUMENT.constants == wire.CONSTANTS


def test_document_describes_every_struct() -> None:
    assert DOCUMENT.structs.keys() == wire.STRUCTS.keys()


@pytest.mark.parametrize("name", wire.STRUCTS)
def test_document_describes_every_field(name: str) -> None:
    assert DOCUMENT.structs[name] == wire.STRUCTS[name]


def test_compiler_and_cffi_see_the_same_constants(compiled: Document) -> None:
    assert compiled.constants == wire.CONSTANTS


def test_compiler_and_cffi_see_the_same_structs(compiled: Document) -> None:
    assert compiled.structs == wire.STRUCTS


@pytest.mark.parametrize("name", wire.STRUCTS)
def test_struct_has_no_hidden_padding(name: str) -> None:
    end = 0
    for field in wire.STRUCTS[name].fields:
        assert field.offset == end, field.name
        end += field.size
    assert end == wire.STRUCTS[name].size


def test_header_defines_nothing_outside_of_the_marked_part() -> None:
    outside = wire.HEADER.read_text().replace(wire.marked_part(), "")
    names = re.findall(r"^#define (\w+)|^(?:struct|enum) (\w+)", outside, flags=re.MULTILINE)
    assert names == [("OPENVSTORAGE_SHM_WIRE_H", "")]


def test_every_define_of_the_header_reaches_python() -> None:
    assert set(re.findall(r"^#define (\w+)", wire.marked_part(), re.MULTILINE)) <= set(
        wire.CONSTANTS
    )


def test_there_is_a_golden_file_for_each_sample_and_no_other() -> None:
    assert {path.stem for path in GOLDEN.glob("*.hex")} == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_python_packs_the_golden_bytes(name: str) -> None:
    assert samples.dump(SAMPLES[name]) == (GOLDEN / f"{name}.hex").read_text()


def test_c_lays_out_the_golden_bytes(tmp_path: Path) -> None:
    output = run_c(tmp_path, [GOLDEN / "samples.c", wire.ROOT / "csrc/shared/region.c"])
    produced = dict(line.split() for line in output.splitlines())
    assert {name: bytes.fromhex(data) for name, data in produced.items()} == SAMPLES


def test_every_op_and_message_type_has_a_golden_sample() -> None:
    first_bytes = {data[0] for name, data in SAMPLES.items() if name.startswith("sqe-")}
    ops = {v for k, v in wire.CONSTANTS.items() if k.startswith("OVSSHM_OP_")}
    assert first_bytes == ops


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("| `OVSSHM_OP_FLUSH` | 3 |", "| `OVSSHM_OP_FLUSH` | 7 |"),
        ("| 24 | 8 | `user_data` |", "| 25 | 8 | `user_data` |"),
        ("| `OVSSHM_SQE_FUA` | 1 << 0 |", "| `OVSSHM_SQE_FUA` | 1 << 5 |"),
    ],
)
def test_a_drift_of_the_document_is_seen(old: str, new: str) -> None:
    text = PROTOCOL.read_text()
    assert text.count(old) == 1
    drifted = parse_document(text.replace(old, new))
    assert (drifted.constants, drifted.structs) != (wire.CONSTANTS, wire.STRUCTS)
