# SPDX-License-Identifier: MIT
"""Names and numbers that Python says again are those of the wire header.

The header is compared with the document, the C compiler and the golden bytes in test_wire.py, the
tables of the reference with the document in test_reference_tables.py; here is what is left: enums,
records, limits and names of both servers, both clients, and the stores.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import wire
from conftest import TOP
from rawclient import RawClient

import shmclient
import shmclient.reference
import shmserver
import shmserver.reference
from interop.stores import Full
from shmclient.reference import tables
from shmclient.reference import wire as reference_wire
from shmserver import store

SERVERS = {"c": shmserver.Server, "reference": shmserver.reference.Server}
CLIENTS = ["native", "reference"]
each_server = pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
each_client = pytest.mark.parametrize("client", CLIENTS)


def family(prefix: str) -> dict[str, int]:
    """WRITE_ZEROES -> 4, ... of all constants of a kind, in order of their numbers."""
    found = {
        name.removeprefix(f"OVSSHM_{prefix}_"): value
        for name, value in wire.CONSTANTS.items()
        if name.startswith(f"OVSSHM_{prefix}_")
    }
    return dict(sorted(found.items(), key=lambda item: item[1]))


CAPABILITIES = family("CAP")
DASHED = [name.lower().replace("_", "-") for name in CAPABILITIES]


@pytest.fixture
def serve(short_dir: Path, cleanup: ExitStack) -> Callable[..., str]:
    """serve(server, store, ...): its socket."""

    def serve(server: Any, kind: Any, **arguments: Any) -> str:
        path = short_dir / f"{len(list(short_dir.iterdir()))}.sock"
        cleanup.enter_context(server(kind, socket=path, **arguments))
        return str(path)

    return serve


def capabilities_of(path: str) -> int:
    with RawClient(path) as client:
        return int(client.limits.capabilities)


# ---- enums ----


def test_the_header_beside_the_reference_is_the_header() -> None:
    header = TOP / "csrc/include/openvstorage/shm_wire.h"
    assert reference_wire.HEADER.read_bytes() == header.read_bytes()


def test_ops_of_a_store_are_those_of_the_wire() -> None:
    assert {op.name: op.value for op in store.Op} == family("OP")


OF_A_MOUNT = ["truncate", "rename"]  # no client is told
TOLD = [name for name in store.Ability._fields if name not in OF_A_MOUNT]


def test_abilities_of_a_store_are_the_capabilities_of_the_wire() -> None:
    assert [*TOLD, *OF_A_MOUNT] == list(store.Ability._fields)
    assert [name.upper() for name in TOLD] == list(CAPABILITIES)


METHODS = {  # what gives a store each ability
    "write": "pwrite",
    "discard": "discard",
    "write_zeroes": "write_zeroes",
    "block_status": "block_status",
    "resize": "resize",
    "snapshot": "snapshot_create",
    "manage": "create",
}


@each_server
@pytest.mark.parametrize("ability", TOLD)
def test_each_ability_is_its_bit(serve, server: Any, ability: str) -> None:
    methods = ("size", "pread", METHODS[ability])  # no store comes without the first two
    able = type("Able", (store.Store,), {name: getattr(Full, name) for name in methods})
    assert capabilities_of(serve(server, able())) == CAPABILITIES[ability.upper()]


@pytest.mark.parametrize("name", DASHED)
def test_the_fault_store_hides_each_capability_by_its_name(serve, name: str) -> None:
    path = serve(shmserver.Server, "fault", options={"without": name})
    bit = CAPABILITIES[name.upper().replace("-", "_")]
    assert capabilities_of(path) == sum(CAPABILITIES.values()) - bit


@pytest.mark.parametrize("name", tables.OPS)
def test_the_fault_store_knows_each_op_by_its_name(serve, name: str) -> None:
    serve(shmserver.Server, "fault", options={"error-op": name, "error": "EIO"})


@each_client
def test_clients_name_the_capabilities_in_the_order_of_their_bits(serve, client: str) -> None:
    path = serve(shmserver.Server, "memory")
    with shmclient.connect(path, implementation=client) as connection:  # type: ignore[call-overload]
        assert list(connection.hello.capabilities) == DASHED


@each_client
def test_clients_name_the_modes(serve, client: str) -> None:
    path = serve(shmserver.Server, "memory")
    with shmclient.connect(path, implementation=client) as connection:  # type: ignore[call-overload]
        connection.create("v", 512)
        with connection.open("v"), connection.open("v", writable=True):
            modes = [session.mode for session in connection.sessions()]
            buckets = {len(session.latency_counts) for session in connection.sessions()}
    assert modes == [name.lower() for name in family("MODE")]
    assert buckets == {wire.LATENCY_BUCKETS}


def test_types_of_the_native_client_name_events_and_modes() -> None:
    text = (TOP / "shmclient/_native.pyi").read_text()
    for prefix in ("EVENT", "MODE"):
        names = ", ".join(f'"{name.lower()}"' for name in family(prefix))
        assert f"Literal[{names}]" in text


# ---- records ----

RECORDS = {
    "VolumeInfo": "volume_info",
    "SnapshotInfo": "snapshot_info",
    "Status": "status",
    "SessionInfo": "session_info",
    "Hello": "msg_hello_reply",
}
NOT_FOR_USERS = {"Hello": {"features"}}


def members(struct: str) -> set[str]:
    fields = [field.name for field in wire.STRUCTS["ovsshm_" + struct].fields]
    return {name for name in fields if not name.startswith(("resv", "pad"))}


@pytest.mark.parametrize("module", [shmclient, shmclient.reference], ids=CLIENTS)
@pytest.mark.parametrize("record", RECORDS)
def test_records_have_all_members_of_their_struct(module: Any, record: str) -> None:
    told = set(getattr(module, record)._fields)
    assert told == members(RECORDS[record]) - NOT_FOR_USERS.get(record, set())


@each_server
def test_status_of_a_server_has_all_members_of_its_struct(short_dir: Path, server: Any) -> None:
    with server("memory", socket=short_dir / "sock") as running:
        assert set(running.status()) == members("status")


# ---- limits ----

OF_THE_C_SERVER = {"reactors", "spin_ns_max"}


def test_limits_of_the_server_module_are_those_of_the_wire() -> None:
    from shmserver import _core

    for name in ("DEPTH_MAX", "QUEUES_MAX", "PAGE_BYTES"):
        assert getattr(_core, name) == wire.CONSTANTS[f"OVSSHM_{name}"]


def test_defaults_of_both_servers_are_the_same(short_dir: Path) -> None:
    limits = []
    for name, server in SERVERS.items():
        with server("memory", socket=short_dir / name) as running:
            limits.append(
                {key: n for key, n in running.limits.items() if key not in OF_THE_C_SERVER}
            )
    assert limits[0] == limits[1]
    assert limits[0]["depth_max"] == wire.DEPTH_MAX
    assert limits[0]["request_bytes_max"] == wire.REQUEST_BYTES_DEFAULT


def test_both_servers_say_the_same_to_hello(serve) -> None:
    hellos = []
    for server in SERVERS.values():
        with RawClient(serve(server, "memory")) as client:
            hellos.append(
                {name: getattr(client.limits, name) for name in members("msg_hello_reply")}
            )
    own = {"server", "store"}
    first, second = ({k: v for k, v in hello.items() if k not in own} for hello in hellos)
    assert first == second
    assert first["features"] == sum(family("FEATURE").values()) & tables.FEATURES
    assert first["segments_max"] == wire.SEGMENTS_MAX
    assert first["range_bytes_max"] == wire.RANGE_BYTES_MAX


BOUNDS = {
    "depth_max": [1, 7, wire.DEPTH_MAX, wire.DEPTH_MAX + 1, 1 << 31],
    "queues_max": [1, wire.QUEUES_MAX, wire.QUEUES_MAX + 1],
    "request_bytes_max": [1, 512, 4095, 4096, 4097, 1 << 20, 1 << 30, (1 << 30) + 4096, 1 << 31],
    "connections_max": [1, 1 << 20, (1 << 20) + 1],
    "arena_bytes_max": [1, 4095, 4096, 4097, 1 << 40, (1 << 40) + 4096],
    "socket_mode": [0o600, 0o777, 0o1777],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BOUNDS.items() for value in values]
)
def test_both_servers_accept_and_refuse_the_same(short_dir: Path, name: str, value: int) -> None:
    answers = []
    for kind, server in SERVERS.items():
        try:
            with server("memory", socket=short_dir / kind, **{name: value}) as running:
                answers.append(running.limits.get(name))
        except OSError as error:
            answers.append(-(error.errno or 0))
    assert answers[0] == answers[1]


NATIVE_ONLY = {"mount", "mount_options", "volume_suffix", "unmounted", "shared_memory"}


def test_both_servers_have_the_same_calls_and_arguments() -> None:
    """Of the C server by its types; Cython keeps no signatures.  Only that one has a mount."""
    tree = ast.parse((TOP / "shmserver/_core.pyi").read_text())
    (typed,) = [node for node in tree.body if getattr(node, "name", "") == "Server"]
    calls = {node.name: node.args for node in typed.body if isinstance(node, ast.FunctionDef)}
    assert {name for name in calls if name[0] != "_"} == {
        name for name in dir(shmserver.reference.Server) if name[0] != "_"
    }
    for name in ("__init__", "start", "stop", "close", "status"):
        ours = inspect.signature(getattr(shmserver.reference.Server, name)).parameters
        theirs = [arg.arg for arg in calls[name].args + calls[name].kwonlyargs]
        assert [arg for arg in theirs if arg not in NATIVE_ONLY] == list(ours)
        assert name != "__init__" or set(theirs) >= NATIVE_ONLY
