# SPDX-License-Identifier: MIT
"""The report of made-up runs: known ratios, medians and losers; a page that is whole, fetches
nothing and leaves out no field; and README.md, which must say what the committed results give.
"""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from bench_records import PLAIN, idle, openloop, rounds, run_of
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import goals, record
from benchmarks.record import Cost, Instructions, PeerInfo, Record, Results, load
from benchmarks.report import findings, lineplots, run, sections, tables
from benchmarks.report.__main__ import main
from benchmarks.report.markdown import BEGIN, END, NoRegion, markdown, updated
from benchmarks.report.page import page
from benchmarks.units import Load

TOP = Path(__file__).resolve().parent.parent
USUAL = "FUSE memory direct"


def whole_run() -> Results:
    """Everything that a report can show, in five rounds."""
    some: list[Sequence[Record]] = []
    for depth in (1, 8, 32):
        for number, peer in enumerate(("shm memory", "shm memory events", USUAL, "null-co")):
            at = {"peer": peer, "depth": depth, "store": "null" if peer == "null-co" else "memory"}
            base = depth * 1e5 / (number + 1)
            some.append(rounds([base * (1 + i / 50) for i in range(5)], **at))
            some.append(rounds([base / 2] * 3, **at, placement="far", handover_ns=390, noise=0.4))
    some += [openloop([10.0 * n, 11.0 * n], peer=p) for n, p in ((1, "shm memory"), (4, USUAL))]
    some += [
        rounds([1e5 * v] * 2, peer=p, volumes=v, depth=8, loader="fio", workload="randread")
        for v in (1, 4, 16)
        for p in ("shm memory", USUAL)
    ]
    some += [idle([30.0]), idle([900.0], peer=USUAL)]
    counted = {
        "syscalls_per_io": Cost(0.125, 0.25), "context_switches_per_io": Cost(0.3, 0.4),
        "wakeups_per_io": 0.55, "doorbells_per_io": 0.66, "copied_bytes_per_io": 12288.0,
        "instructions_per_io": 7654.0, "counted_ios": 20000,
    }  # fmt: skip
    some.append(rounds([2e6] * 5, workload="randread", loader="fio", **counted))
    info = PeerInfo("shm", "polls and then sleeps", {"read": 2.0}, "shmserver --store memory")
    return run_of(
        *some, skipped={"qemu-nbd": "is not < installed >"}, notes=["samples of 0.5 s"],
        peers={"shm memory": info}, instructions=[Instructions(32, 294.4, 355.0)],
    )  # fmt: skip


class Page(HTMLParser):
    """Checks that tags close in order, and collects text and what could be fetched."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self._attributes(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._attributes(attrs)

    def _attributes(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "data", "action", "srcset"):
                self.references.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def html() -> str:
    return page(whole_run())


def test_the_page_is_well_formed_and_fetches_nothing(html: str) -> None:
    found = Page(html)
    assert "://" not in html
    assert "@import" not in html
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(found.tags)
    assert all(reference.startswith("#") for reference in found.references)
    assert set(re.findall(r"url\(([^)]*)\)", html)) <= {f"#{one}" for one in found.ids}
    assert {reference[1:] for reference in found.references} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))


def test_every_section_and_colour_is_there(html: str) -> None:
    found = Page(html)
    for heading in (
        "Where a peer wins", "The goals", "Without polling", "Requests per second",
        "Latency under a fixed arrival rate", "What one I/O costs", "Cost sheet", "Scaling",
        "Idle", "What the machine did meanwhile", "To do it again", "Skipped", "Raw data",
    ):  # fmt: skip
        assert heading in found.text
    assert found.tags.count("svg") == found.tags.count("figure") > 10
    defined = set(re.findall(r"(--[\w-]+):", html))
    assert set(re.findall(r"var\((--[\w-]+)\)", html)) <= defined
    assert "prefers-color-scheme: dark" in html
    assert not re.search(r"#01..fe", html)


def test_every_field_that_matters_is_on_the_page(html: str) -> None:
    text = Page(html).text
    for words in (
        "make bench", "AMD EPYC 9R14", "6.18.5", "7.2.22", "is not < installed >",
        "samples of 0.5 s", "polls and then sleeps", "shmserver --store memory", "far", "40%",
        "390 ns", "0.12", "0.25", "0.30", "0.40", "0.55", "0.66", "3.00", "7.65 k", "900",
        "depth 32: client 294, server 355",
    ):  # fmt: skip
        assert words in text, words


def test_raw_data_has_every_field_but_distributions() -> None:
    results = whole_run()
    names, rows = tables.raw(results.records)
    assert len(rows) == len(results.records)
    headings = {name.split(".")[0] for name in names}
    assert headings == set(Record.__dataclass_fields__) - {"latency_cdf"}
    first = dict(zip(names, rows[0], strict=True))
    assert first["peer"] == "shm memory"
    assert float(first["iops"]) == results.records[0].iops
    assert first["rate"] == ""


BARE = replace(PLAIN, cpu_us_per_io=None, placement=None, handover_ns=None, iops=123456.0)


@pytest.mark.parametrize(
    "some",
    [
        [],
        [BARE],
        [replace(BARE, peer="something new")],
        [replace(BARE, iops=0.0)],
        idle([0.0]),
        [replace(one, latency_cdf=None) for one in openloop([5.0])],
        [replace(one, latency_us=None) for one in openloop([5.0])],
        [replace(BARE, depth=depth, iops=0.0) for depth in (1, 2, 4)],
    ],
)
def test_what_is_missing_breaks_nothing(some: list[Record]) -> None:
    results = run_of(some, finished=False)
    found = Page(page(results))
    assert "ended before its end" in found.text
    assert markdown(results)
    if some and some[0].iops == 123456.0:
        assert "123 k" in found.text


def test_medians_are_taken_within_a_placement() -> None:
    results = run_of(rounds([1.0, 5, 3]), rounds([100.0, 200], placement="far"))
    arranged = run.Run(results)
    (group,) = arranged.at(arranged.loads[0])
    assert group.medians(run.iops) == {"near": 3.0, "far": 150.0}
    assert group.typical(run.iops) == 3.0
    assert group.spread(run.iops) == (5.0, 1.0, 200.0)
    assert arranged.placements() == ["near", "far"]


def test_loads_come_in_a_readers_order() -> None:
    arranged = run.Run(
        run_of(*(rounds([1.0], depth=d, block_size=b) for b in (65536, 4096) for d in (32, 1, 8)))
    )
    assert [(x.block_size, x.depth) for x in arranged.loads] == [
        (b, d) for b in (4096, 65536) for d in (1, 8, 32)
    ]
    assert [[x.depth for x in s] for s in run.series(arranged.loads, "depth")] == [[1, 8, 32]] * 2


def test_tiles_are_the_ratios_of_the_goals() -> None:
    results = run_of(rounds([1.0e6, 1.1e6, 0.9e6]), rounds([5e4] * 3, peer=USUAL))
    first = findings.headline(goals.figures(results.records))[0]
    assert first.title == "FUSE usual"
    assert first.figures["near"].ratio == pytest.approx(20)
    assert "far" not in first.figures
    text = Page(page(results)).text
    assert "Do not quote" not in text
    assert "20x the I/O of FUSE" in text
    assert "between 18x and 22x" in text


def test_a_busy_machine_is_said_before_any_figure() -> None:
    text = Page(page(run_of(rounds([1e6] * 3, noise=0.5)))).text
    assert text.index("Do not quote these figures") < text.index("Where a peer wins")


def test_tables_have_no_columns_for_placements_that_were_not_met() -> None:
    near = rounds([1e6, 1.1e6, 0.9e6]), rounds([5e4] * 3, peer=USUAL)
    only = markdown(run_of(*near))
    assert "| FUSE usual | IOPS, 4k reads, depth 1, qemu-img | **20x** | 20x |" in only
    assert "| shm memory | 1.00 M | 2.00 |" in only
    both = markdown(run_of(*near, rounds([4e5], placement="far")))
    assert "| shm memory | 1.00 M / 400 k | 2.00 |" in both
    assert "| FUSE memory direct | 50.0 k / - | 2.00 |" in both


def test_a_peer_that_wins_is_named_first_by_how_much() -> None:
    results = run_of(
        rounds([1e6] * 3), rounds([3e6] * 3, peer="qemu-nbd", cpu_us_per_io=Cost(0.5, 0.5)),
        rounds([1e5] * 3, peer=USUAL, cpu_us_per_io=Cost(9.0, 9.0)),
        rounds([9e9] * 3, peer="null-co", store="null"),
        rounds([1.02e6] * 3, peer="nbdkit memory", cpu_us_per_io=Cost(1.0, 1.1)),
    )  # fmt: skip
    found = [(x.peer, x.figure, round(x.ratio, 2)) for x in findings.losses(run.Run(results))]
    assert found == [("qemu-nbd", "IOPS", 3.0), ("qemu-nbd", "CPU per I/O", 2.0)]
    assert "3.00 M against 1.00 M/s of shm memory" in Page(page(results)).text
    assert "| IOPS: 4k read, depth 1 (qemu-img) | qemu-nbd | 3.0x |" in markdown(results)


def test_stores_and_placements_are_not_mixed_when_looking_for_losses() -> None:
    """A fast peer over files beats no memory store, and far CPUs excuse nobody."""
    results = run_of(
        rounds([1e6], placement="far"), rounds([2e6], peer="qemu-nbd"),
        rounds([2e6], peer="plain file", store="file"),
        rounds([1.5e6], peer="shm file", store="file"),
    )  # fmt: skip
    found = findings.losses(run.Run(results))
    assert [(x.ours, x.peer) for x in found] == [("shm file", "plain file")]


def test_latency_and_idle_are_lost_by_the_higher() -> None:
    results = run_of(
        openloop([50.0] * 3),
        openloop([10.0] * 3, peer=USUAL),
        idle([90.0]),
        idle([9.0], peer=USUAL),
    )
    found = [(x.figure, round(x.ratio)) for x in findings.losses(run.Run(results))]
    assert found == [("CPU when idle", 10), ("p99 latency", 5)]


def test_no_loss_is_said_as_plainly() -> None:
    results = run_of(rounds([1e6]), rounds([1e5], peer=USUAL))
    assert "Nowhere in this run" in page(results)
    assert "No peer won" in markdown(results)


def test_events_only_stand_beside_polling_and_both_fuses() -> None:
    results = run_of(
        rounds([1e6]), rounds([4e4], peer="shm memory events"), rounds([2e4], peer=USUAL),
        rounds([8e4], peer="FUSE memory direct one CPU"),
    )  # fmt: skip
    events, polling = findings.event_rows(run.Run(results))
    assert (events.against_usual, events.against_best) == (2.0, 0.5)
    assert (polling.against_usual, polling.against_best) == (50.0, 12.5)
    assert "1/2.0x" in page(results)


def test_the_caption_names_the_winner_and_the_next_family() -> None:
    results = run_of(
        rounds([1e6]), rounds([9e5], peer="shm file"), rounds([2e5], peer=USUAL),
        rounds([5e6], peer="null-co", store="null"), rounds([4e6], peer="shm null", store="null"),
    )  # fmt: skip
    arranged = run.Run(results)
    caption = sections.best_line(arranged, arranged.at(arranged.loads[0]))
    assert caption == (
        "shm memory is first, 5.0x FUSE memory direct; null-co, which does no I/O, at 5.00 M/s."
    )


def test_long_blocks_are_counted_in_bytes() -> None:
    results = run_of(
        *(rounds([1e4], peer=p, block_size=1 << 20) for p in ("shm memory", USUAL)),
        rounds([1e6], peer="null-co", store="null", block_size=1 << 20),
    )  # fmt: skip
    (panel,) = sections.rates(run.Run(results))[0].panels
    assert "bytes per second" in panel.plot
    assert "1.05 TB/s" in panel.caption


def test_many_peers_are_folded_behind_those_with_a_name() -> None:
    names = ["shm memory", USUAL, *(f"FUSE memory direct {n}" for n in range(sections.GLANCE))]
    results = run_of(
        *(rounds([1e5 - n], peer=p, syscalls_per_io=Cost(1, 1)) for n, p in enumerate(names))
    )
    arranged = run.Run(results)
    (panel,) = sections.rates(arranged)[0].panels
    assert panel.every is not None
    assert panel.peers == len(names)
    assert names[-1] in panel.every
    assert names[-1] not in panel.plot
    ((short, whole),) = sections.sheets(arranged)
    assert [name for name, _ in short.rows] == names[:2]
    assert whole is not None
    assert len(whole.rows) == len(names)
    assert f"all {len(names)} peers" in Page(page(results)).text


def test_rounds_that_have_little_in_common_are_named() -> None:
    results = run_of(
        rounds([10.0, 29.0]), rounds([10.0, 4.0, 30.0], peer=USUAL), rounds([0.0], peer="qsd FUSE")
    )
    (one,) = findings.unsteady(run.Run(results))
    assert (one.group.peer, one.low, one.high) == (USUAL, 4.0, 30.0)
    assert "Medians to distrust" in page(results)


def test_a_near_miss_does_not_read_like_the_goal() -> None:
    for rate, said in ((19.97e6, "19.9x"), (19.2e6, "19x"), (20.3e6, "20x")):
        results = run_of(rounds([rate] * 3), rounds([1e6] * 3, peer=USUAL))
        figure = next(f for f in goals.figures(results.records) if f.goal.title == "FUSE usual")
        assert (figure.wanted, findings.reached_ratio(figure)) == (20, said)


@given(
    st.lists(st.floats(0, 1000), max_size=20).map(sorted),
    st.floats(1, 40),
)
def test_labels_are_moved_apart_and_keep_their_order(places: list[float], gap: float) -> None:
    moved = lineplots.apart(places, gap, 0, 1000)
    assert len(moved) == len(places)
    for one, other in itertools.pairwise(moved):
        assert other - one >= gap * 0.999
    if len(places) * gap < 1000:
        assert all(-1e-6 <= place <= 1000 for place in moved)


@given(st.floats(0, 1), st.floats(0, 1))
def test_nines_rise_with_the_share(one: float, other: float) -> None:
    assert lineplots.nines(min(one, other)) <= lineplots.nines(max(one, other))
    assert lineplots.nines(0.99) == pytest.approx(2)


def test_sides_of_the_cost_sheet_are_the_medians() -> None:
    results = run_of(
        *(rounds([1.0], cpu_us_per_io=Cost(client, 3 * client)) for client in (1.0, 9.0, 2.0)),
        rounds([1.0], peer=USUAL, cpu_us_per_io=Cost(8.0, 8.0), doorbells_per_io=None),
    )  # fmt: skip
    arranged = run.Run(results)
    sheet = tables.cost_sheet(arranged, Load.of(PLAIN))
    assert [column.side for column in sheet.columns] == ["client", "server"]
    assert [(name, [c.text for c in cells]) for name, cells in sheet.rows] == [
        ("shm memory", ["2.00", "6.00"]), (USUAL, ["8.00", "8.00"]),
    ]  # fmt: skip
    assert sheet.rows[0][1][0].width == 0.25


def test_the_region_is_rewritten_and_the_rest_kept() -> None:
    results = whole_run()
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    new = updated(text, results)
    assert new == f"before\n{BEGIN}\n{markdown(results)}{END}\nafter\n"
    assert updated(new, results) == new
    for broken in ("nothing", text + text):
        with pytest.raises(NoRegion):
            updated(broken, results)


def test_the_commands_write_page_tables_and_region(tmp_path: Path) -> None:
    file, readme = tmp_path / "run.json", tmp_path / "README.md"
    record.save(run_of(rounds([1e6]), rounds([1e5], peer=USUAL)), file)
    readme.write_text(f"{BEGIN}{END}")
    invoke = CliRunner().invoke
    assert invoke(main, [str(file)]).exit_code == 0
    assert (tmp_path / "run.html").read_text().startswith("<!DOCTYPE html>")
    printed = invoke(main, [str(file), "--markdown"])
    assert printed.stdout == markdown(load(file))
    assert "`make bench`" in printed.stdout
    assert invoke(main, [str(file), "--update", str(readme)]).exit_code == 0
    assert printed.stdout in readme.read_text()


def test_refusals_say_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"schema": 9}')
    done = CliRunner().invoke(main, [str(tmp_path / "bad.json")])
    assert done.exit_code == 2
    assert "bad.json: no results of python -m benchmarks: started: Field required" in done.output
    done = CliRunner().invoke(main, [str(tmp_path / "no.json")])
    assert "No such file or directory" in done.output
    record.save(run_of(rounds([1.0])), tmp_path / "good.json")
    done = CliRunner().invoke(
        main, [str(tmp_path / "good.json"), "--update", str(tmp_path / "none.md")]
    )
    assert done.exit_code == 2
    assert "none.md" in done.output


def committed_results(scratch: Path) -> list[Path]:
    """The file here, and the committed one: whoever has measured since has both."""
    latest = record.RESULTS / "latest.json"
    shown = subprocess.run(
        ["git", "show", f"HEAD:{latest.relative_to(TOP)}"], cwd=TOP, capture_output=True, timeout=20
    )
    committed = scratch / "committed.json"
    committed.write_bytes(shown.stdout)
    return [path for path, there in ((committed, not shown.returncode), (latest, True)) if there]


def test_readme_says_what_the_committed_results_give(tmp_path: Path) -> None:
    text = (TOP / "README.md").read_text()
    assert text in (updated(text, load(path)) for path in committed_results(tmp_path)), (
        "python -m benchmarks.report benchmarks/results/latest.json --update README.md"
    )
