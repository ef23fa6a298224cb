# SPDX-License-Identifier: MIT
"""What ran: every client on every server, and no pair less than its features allow.

`pytest -s -k matrix` prints the table.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from interop.pairs import ALL_PAIRS, CLIENTS, FEATURES, TRAITS, Pair
from interop.servers import SERVERS

HERE = Path(__file__).parent
MODULES = {path.name for path in HERE.glob("test_*.py")}


def pairs_run(session: pytest.Session) -> dict[str, set[Pair]]:
    """Behaviour -> the pairs that run it, by what pytest has collected."""
    found: dict[str, set[Pair]] = {}
    for item in session.items:
        pair = getattr(item, "callspec", None) and item.callspec.params.get("pair")
        if pair is not None and item.path.parent == HERE:
            behaviour = f"{item.path.name}::{item.originalname}"
            found.setdefault(behaviour, set()).add(pair)
    return found


@pytest.fixture
def ran(request: pytest.FixtureRequest) -> dict[str, set[Pair]]:
    collected = {item.path.name for item in request.session.items if item.path.parent == HERE}
    if collected != MODULES or request.config.getoption("keyword"):
        pytest.skip(f"only a part of the suite was asked for: {sorted(collected)}")
    return pairs_run(request.session)


def needs_of(request: pytest.FixtureRequest, behaviour: str) -> tuple[set[str], set[str]]:
    for item in request.session.items:
        if f"{item.path.name}::{item.originalname}" == behaviour:
            markers = list(item.iter_markers())
            break
    return (
        {word for marker in markers if marker.name == "needs" for word in marker.args},
        {word for marker in markers if marker.name == "servers" for word in marker.args},
    )


def test_every_pair_runs_every_behaviour_it_can(ran, request) -> None:
    """A pair is left out for a feature its client lacks or a trait its server lacks, by name."""
    for behaviour, pairs in ran.items():
        features, traits = needs_of(request, behaviour)
        for pair in ALL_PAIRS:
            lacks = pair.client.lacks & features or traits - pair.server.traits
            assert (pair in pairs) == (not lacks), f"{behaviour} {pair} {lacks}"


def test_every_client_meets_every_server(ran) -> None:
    counts = Counter(pair for pairs in ran.values() for pair in pairs)
    assert set(counts) == {Pair(client, server) for client in CLIENTS for server in SERVERS}
    width = max(map(len, SERVERS))
    print("\n" + " " * width, *(f"{client:>12}" for client in CLIENTS))
    for server in SERVERS:
        print(f"{server:{width}}", *(f"{counts[Pair(c, server)]:12}" for c in CLIENTS))
    assert min(counts.values()) > 30, "fewer behaviours than any client can do"


def test_no_feature_is_lacked_by_all_and_none_is_idle(ran, request) -> None:
    """A behaviour that nobody runs would be a silent skip."""
    assert not frozenset.intersection(*(client.lacks for client in CLIENTS.values()))
    needed = [needs_of(request, behaviour) for behaviour in ran]
    assert set().union(*(features for features, _ in needed)) == set(FEATURES)
    assert set().union(*(traits for _, traits in needed)) == set(TRAITS)
