# SPDX-License-Identifier: MIT
"""docs/PROTOCOL.md as tests read it: sections by their numbers, tables as lists of rows."""

from __future__ import annotations

import re
from typing import NamedTuple

from conftest import TOP

PROTOCOL = TOP / "docs/PROTOCOL.md"
TEXT = PROTOCOL.read_text()


class Section(NamedTuple):
    number: str
    title: str
    text: str


def sections(text: str) -> dict[str, Section]:
    """By number: "4" is what comes before "4.1"."""
    found = {}
    heads = list(re.finditer(r"^#{2,3} (\d+(?:\.\d+)?)\.? (.+)$", text, re.MULTILINE))
    for head, after in zip(heads, [*heads[1:], None], strict=True):
        body = text[head.end() : after.start() if after else len(text)]
        found[head[1]] = Section(head[1], head[2], body)
    return found


def rows(text: str, *heading: str) -> list[list[str]]:
    """The rows of all tables that start with these headings."""
    found: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[: len(heading)] == list(heading):
            inside = True
        elif inside and not line.startswith("|---"):
            found.append(cells)
    return found


def code(cell: str) -> str:
    return cell.strip("`")


def number(text: str) -> int:
    base, _, shift = text.partition("<<")
    return int(base, 0) << int(shift or 0)
