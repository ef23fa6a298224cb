# SPDX-License-Identifier: MIT
"""The tables that both sides of the reference act by are those of docs/PROTOCOL.md, and no others.

The document is read, never retyped: a drift of a name, a value, a rule or a section's number on
either side fails.
"""

from __future__ import annotations

import errno
import re

import document
import pytest
import wire
from conftest import TOP
from document import code, number, rows

from shmclient.reference import control, tables
from shmclient.reference.tables import Input, Memory, State

SECTIONS = document.sections(document.TEXT)
SOURCES = sorted((TOP / "shmclient/reference").rglob("*.py")) + sorted(
    (TOP / "shmserver/reference").rglob("*.py")
)


def section_of_struct(struct: str) -> str:
    found = [
        one.number for one in SECTIONS.values() if f"#### `struct ovsshm_{struct}`" in one.text
    ]
    assert len(found) == 1, struct
    return found[0]


def errors_in(text: str) -> set[str]:
    return set(re.findall(r"`-(E[A-Z]+)`", text))


# ---- section 10: states ----


def test_states_are_those_of_the_document() -> None:
    named = [row[0] for row in rows(SECTIONS["10"].text, "State", "Meaning")]
    assert named == [state.value for state in State]


def test_inputs_are_those_of_the_document_in_order() -> None:
    named = [row[0] for row in rows(SECTIONS["10"].text, "Input")]
    assert named == [row.value for row in Input]


@pytest.mark.parametrize("row", Input)
def test_every_transition_is_that_of_the_document(row: Input) -> None:
    (header,) = re.findall(r"^\| Input \|(.*)\|$", SECTIONS["10"].text, re.MULTILINE)
    states = [State(name.strip()) for name in header.split("|")]
    (cells,) = [cells[1:] for cells in rows(SECTIONS["10"].text, "Input") if cells[0] == row.value]
    for state, cell in zip(states, cells, strict=True):
        assert tables.TRANSITIONS[row][state] == tables.outcome(cell.replace("`", "")), state
    assert tables.TRANSITIONS[row].keys() == set(states)


def test_sections_that_transitions_name_exist() -> None:
    outcomes = [one for row in tables.TRANSITIONS.values() for one in row.values() if one]
    assert {one.section for one in outcomes if one.section} <= SECTIONS.keys()


# ---- section 4: messages ----


def payload(cell: str) -> tuple[str | None, str | None, bool]:
    """Struct, element and whether descriptors come, of a cell such as "`a`, then `b` each"."""
    structs = [name.removeprefix("ovsshm_") for name in re.findall(r"`(\w+)`", cell)]
    assert bool(structs) != (cell == "none"), cell
    return (
        structs[0] if structs else None,
        structs[1] if ", then " in cell else None,
        "descriptors" in cell,
    )


def test_messages_are_those_of_the_document() -> None:
    found = {}
    for name, value, request, reply in rows(SECTIONS["4"].text, "Name", "Value", "Request"):
        struct, element, descriptors = payload(reply)
        server_only = request.startswith("(server only)")
        found[code(name)] = (number(value), payload(request)[0], struct, element, descriptors)
        assert (code(name).removeprefix("OVSSHM_MSG_") in tables.SERVER_ONLY) == server_only
    assert found == {
        f"OVSSHM_MSG_{name}": (
            message.type,
            message.request,
            message.reply,
            message.element,
            message.descriptors,
        )
        for name, message in tables.MESSAGES.items()
    }


@pytest.mark.parametrize("name", tables.MESSAGES)
def test_message_names_the_section_that_describes_it(name: str) -> None:
    message = tables.MESSAGES[name]
    struct = message.request or message.reply
    assert struct is not None
    assert message.section == section_of_struct(struct)


def named_errors(name: str) -> set[str]:
    """What the text says of a message's errors; sections 4.3 and 4.4 have a list of messages."""
    section = SECTIONS[tables.MESSAGES[name].section].text
    verb = {"STAT": "stat", "LIST": "list", "OPEN": "", "SET_MODE": "set mode"}.get(
        name, name.lower().replace("_", " ").replace("is synced", "is-synced")
    )
    if name.startswith("SNAPSHOT") or section == SECTIONS["4.3"].text:
        bullets = re.split(r"^- ", section, flags=re.MULTILINE)[1:]
        (bullet,) = [one for one in bullets if f"**{verb}**" in one.split("\n\n")[0]]
        names = {"EINVAL", "ENAMETOOLONG"}
        assert names <= errors_in(SECTIONS["4.3"].text.partition("A bad name")[2])
        return errors_in(bullet.split("\n\n")[0]) | names
    if name == "SET_MODE":
        return errors_in(section.partition("**set mode**")[2])
    if name == "OPEN":
        return errors_in(section.partition("\nErrors:")[2].partition("\n\n")[0])
    if name == "HELLO":
        access = SECTIONS["2"].text.partition("Access:")[2]
        return errors_in(section.partition("Negotiation:")[2]) | errors_in(access)
    return set()


@pytest.mark.parametrize("name", tables.MESSAGES)
def test_message_has_the_errors_of_the_document(name: str) -> None:
    expected = named_errors(name)
    if name in ("SNAPSHOT_CREATE", "SNAPSHOT_ROLLBACK"):
        quiet = SECTIONS["4.4"].text.partition("They work on open volumes too:")[2]
        expected |= errors_in(quiet.partition("\n\n")[0])
    assert set(tables.MESSAGES[name].errors) == expected
    assert all(hasattr(errno, error) for error in expected)


def test_features_are_those_of_the_document() -> None:
    bits = 0
    for name, value, meaning in rows(SECTIONS["4.1"].text, "Name", "Value", "Meaning"):
        if not code(name).startswith("OVSSHM_FEATURE_"):
            continue
        bits |= number(value)
        (section,) = re.findall(r"section (\d+\.\d+)", meaning)
        of_messages = {
            message.section
            for message in tables.MESSAGES.values()
            if message.feature == code(name).removeprefix("OVSSHM_")
        }
        assert of_messages <= {section}
    assert bits == tables.FEATURES


def test_capabilities_are_asked_for_where_the_document_says() -> None:
    """The text of each bit names ops and messages in words."""
    words = {name: op.capability for name, op in tables.OPS.items()} | {
        name.lower(): message.capability for name, message in tables.MESSAGES.items()
    }
    table = rows(SECTIONS["4.1"].text, "Name", "Value", "Meaning")
    for name, _, meaning in (row for row in table if "_CAP_" in row[0]):
        capability = code(name).removeprefix("OVSSHM_")
        named = {word for word, needed in words.items() if needed == capability}
        if meaning == "the snapshot messages":
            assert named == {word for word in words if word.startswith("snapshot_")}
        else:
            assert named == set(meaning.partition(";")[0].split(", "))
        assert capability.removeprefix("CAP_").lower().replace("_", "-") in (
            set(wire_capabilities())
        )
    assert {needed for needed in words.values() if needed} == {
        code(name).removeprefix("OVSSHM_") for name, *_ in table if "_CAP_" in name
    }


def wire_capabilities() -> tuple[str, ...]:
    from shmclient.reference.records import capability_names

    return capability_names(2**64 - 1)


@pytest.mark.parametrize(
    ("section", "prefix", "table"),
    [("4.5", "OVSSHM_MODE_", tables.MODES), ("4.6", "OVSSHM_EVENT_", tables.EVENTS)],
)
def test_modes_and_events_are_those_of_the_document(
    section: str, prefix: str, table: dict[str, int]
) -> None:
    named = rows(SECTIONS[section].text, "Name", "Value", "Meaning")
    assert {code(name).removeprefix(prefix): number(value) for name, value, _ in named} == table


# ---- section 8: requests ----


def test_ops_are_those_of_the_document() -> None:
    found = {
        code(name): (number(value), meaning.removeprefix("section "))
        for name, value, meaning in rows(SECTIONS["8"].text, "Name", "Value", "Meaning")
        if code(name).startswith("OVSSHM_OP_")
    }
    assert found == {
        f"OVSSHM_OP_{name.upper().replace('-', '_')}": (op.op, op.section)
        for name, op in tables.OPS.items()
    }
    for name, op in tables.OPS.items():
        assert SECTIONS[op.section].title.lower() == name


def test_ops_use_the_fields_that_the_document_says() -> None:
    found = rows(SECTIONS["8"].text, "Op", "offset, length", "buffer", "flags")
    assert [row[0] for row in found] == list(tables.OPS)
    for name, ranged, memory, flags in found:
        op = tables.OPS[name]
        assert ranged == (f"yes, up to `{op.limit}`" if op.limit else "no")
        assert Memory(memory) is op.memory
        assert flags == (", ".join(op.flags) or "none")


def test_every_flag_of_the_document_goes_with_the_ops_that_take_it() -> None:
    for name, value, meaning in rows(SECTIONS["8"].text, "Name", "Value", "Meaning"):
        if not code(name).startswith("OVSSHM_SQE_"):
            continue
        flag = code(name).removeprefix("OVSSHM_SQE_")
        assert meaning.partition(":")[0].split(", ") == [
            name for name, op in tables.OPS.items() if flag in op.flags
        ]
        assert tables.flag_bits((flag,)) == number(value)


def test_request_errors_are_those_of_the_document_in_order() -> None:
    found = []
    everything = set(tables.OPS)
    for result, ops, _ in rows(SECTIONS["8.7"].text, "Result", "Ops", "Cause"):
        which = set(ops.split(", ")) if not ops.startswith("all") else everything
        if ops.startswith("all but "):
            which = everything - set(ops.removeprefix("all but ").split(", "))
        found.append((result.partition(" and ")[0].strip("`-"), which))
    assert found == [(error.error, set(error.ops)) for error in tables.REQUEST_ERRORS]


def test_changing_ops_are_those_that_need_the_writers_role() -> None:
    (needing,) = [error.ops for error in tables.REQUEST_ERRORS if error.error == "EBADF"]
    assert needing == {name for name, op in tables.OPS.items() if op.changes}


# ---- section 11: violations ----


def test_violations_are_those_of_the_document() -> None:
    control_plane, _, data_plane = SECTIONS["11"].text.partition("Data plane:")
    assert list(tables.CONTROL_PLANE) == [
        row[0] for row in rows(control_plane, "Number", "Violation")
    ]
    assert list(tables.DATA_PLANE) == [row[0] for row in rows(data_plane, "Number", "Violation")]


# ---- what the sources cite ----


def citations(pattern: str) -> set[str]:
    return {found for path in SOURCES for found in re.findall(pattern, path.read_text())}


def test_sections_that_the_sources_cite_exist() -> None:
    cited = citations(r"[Ss]ections? (\d+(?:\.\d+)?)") | citations(r"\(([1-9]\d?\.\d+)[,)]")
    assert cited
    assert cited <= SECTIONS.keys()


def test_rules_and_steps_that_the_sources_cite_exist() -> None:
    pattern = r"[Ss]ection (\d+(?:\.\d+)?), (?:rule|step)s? (\d+)"
    cited = citations(pattern)
    assert cited
    for section, rule in cited:
        assert re.search(rf"^{rule}\. ", SECTIONS[section].text, re.MULTILINE), (section, rule)


def test_every_violation_is_one_that_the_server_tells() -> None:
    """By its number, in the table of states or where it is noticed."""
    outcomes = [one for row in tables.TRANSITIONS.values() for one in row.values() if one]
    told = {one.action for one in outcomes if re.fullmatch(r"V\d+", one.action)}
    for path in SOURCES:
        if path.name != "tables.py":
            told |= set(re.findall(r"\"(V\d+)\"", path.read_text()))
    assert told == {*tables.CONTROL_PLANE, *tables.DATA_PLANE}


def test_every_order_of_memory_is_cited_where_it_is_kept() -> None:
    labels = {row[0] for row in rows(SECTIONS["6"].text, "Label", "Where", "What")}
    assert citations(r"\b([RAF]\d)\b") == labels


# ---- would a drift be seen? ----


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("| open, good | V3; ended | reply; open |", "| open, good | V3; ended | reply |"),
        ("| flush | no | no | none |", "| flush | no | no | FUA |"),
        ("| `-EBADF` | write, discard, write-zeroes |", "| `-EBADF` | write, discard |"),
        ("| V16 | segments:", "| V17 | segments:"),
    ],
)
def test_a_drift_of_the_document_is_seen(
    old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert document.TEXT.count(old) == 1
    drifted = document.sections(document.TEXT.replace(old, new))
    monkeypatch.setitem(globals(), "SECTIONS", drifted)
    checks = [
        lambda: test_every_transition_is_that_of_the_document(Input.OPEN),
        test_ops_use_the_fields_that_the_document_says,
        test_request_errors_are_those_of_the_document_in_order,
        test_violations_are_those_of_the_document,
    ]
    failures = 0
    for check in checks:
        try:
            check()
        except AssertionError:
            failures += 1
    assert failures == 1


# ---- golden bytes: what one wrote the other reads ----


def test_golden_messages_are_parsed_and_written_again() -> None:
    from golden import samples

    for name, data in samples.messages().items():
        packet = control.parse(data)
        assert packet.clean, name
        again = control.message(
            packet.type,
            packet.payload,
            ident=packet.id,
            flags=packet.flags,
            status=packet.status,
        )
        assert again == data
        message = tables.MESSAGES[tables.MESSAGE_NAMES[packet.type]]
        answer = packet.flags & wire.MSG_REPLY
        struct = "msg_reason" if packet.status < 0 else message.reply if answer else message.request
        assert len(packet.payload) >= (wire.sizeof(struct) if struct else 0)
