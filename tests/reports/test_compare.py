"""Comparing two sets of records: every verdict from made-up records, and the command."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from bench.store import cli
from bench.store.records import Point, RecordStore
from reports import compare
from reports.findings.changes import (
    BETTER,
    NOT_JUDGED,
    ONLY_A,
    ONLY_B,
    OTHER_DATA,
    OTHER_MACHINE,
    SAME,
    WORSE,
    changes,
    kind_of,
)
from reports.records.bundle import write as write_bundle
from reports.records.evidence import Evidence
from reports.statistics import sign_flip

LEVEL, TOLERANCE = 0.05, 0.02
POINT = Point(
    "retrieval", "scenes", "test", images=100, direction="text_to_image", profile="quick", variant="lexlip", seed=0,
    kind="lexicon", engine="impact", top_k=32, bits=8, data_id="data", code_id="before", machine_id="one",
)  # fmt: skip
EARLY, LATE = "2026-01-02T03:04:05+00:00", "2026-02-02T03:04:05+00:00"


# --- the records


def queries(hits, prefix="") -> list[dict]:
    """Five captions of each image; `hits`: (images, 5) bool."""
    return [
        {
            "query_id": f"{prefix}{image}-{i}",
            "group": f"{prefix}{image}",
            "ranks": [1 if hit else 7],
            "relevant": 1,
            "latency_us": None,
        }
        for image, row in enumerate(hits)
        for i, hit in enumerate(row)
    ]


def hits(seed: int, chance=0.5, images=100) -> np.ndarray:
    return np.random.default_rng(seed).random((images, 5)) < chance


class Side:
    def __init__(self, folder):
        self.home = folder
        self.store = RecordStore(folder)

    def quality(self, found, prefix="", started=EARLY, **fields):
        point = dataclasses.replace(POINT, **fields)
        self.store.write(point, {"recall@1": float(np.mean(found))}, queries(found, prefix), started=started)
        return point.id

    def values(self, values, note="", started=EARLY, **fields):
        return self.store.write(dataclasses.replace(POINT, **fields), values, note=note, started=started)

    @property
    def evidence(self):
        return Evidence(self.store)


@pytest.fixture
def both(tmp_path):
    return Side(tmp_path / "a"), Side(tmp_path / "b")


def compared(both) -> list:
    return changes(both[0].evidence, both[1].evidence, TOLERANCE, LEVEL)


def verdicts(both) -> dict[str, str]:
    return {change.metric: change.verdict for change in compared(both)}


def test_matches_by_what_was_measured(both):
    """Another commit, machine or checkpoint is the same measurement; another seed, size or top_k is not."""
    a, b = both
    same = hits(1)
    a.quality(same)
    b.quality(same, code_id="after", checkpoint_id="another", machine_id="two")
    for fields in (
        {"seed": 1},
        {"images": 10},
        {"top_k": 16},
        {"engine": "scipy"},
        {"knobs": {"ef": 3}},
        {"split": "val"},
    ):
        b.quality(same, **fields)
    found = compared(both)
    assert sorted(change.verdict for change in found) == [ONLY_B] * 6 + [SAME]
    at = next(change for change in found if change.verdict == SAME)
    assert (at.a, at.b, at.difference.value, at.p, at.why) == (same.mean(), same.mean(), 0, None, "no query differs")
    assert at.what == "retrieval, scenes test, 100 images, text to image, lexlip, seed 0, impact, top-32, 8 bits, quick"


def test_worse_and_better_and_by_chance(both):
    a, b = both
    before = hits(2)
    for variant, after in (("worse", before & hits(3, 0.7)), ("better", before | hits(4, 0.4)), ("chance", hits(5))):
        a.quality(before, variant=variant)
        b.quality(after, variant=variant)
    found = {change.what.split(", ")[4]: change for change in compared(both)}
    assert {name: change.verdict for name, change in found.items()} == {
        "worse": WORSE,
        "better": BETTER,
        "chance": SAME,
    }
    assert found["worse"].difference.value == pytest.approx(found["worse"].b - found["worse"].a)
    assert found["worse"].difference.high < 0 < found["better"].difference.low
    assert found["worse"].p == pytest.approx(
        3 * sign_flip.p_value((before & hits(3, 0.7)).sum(1) - before.sum(1).astype(float)), rel=1e-9
    )  # the smallest of three, after Holm


def test_what_was_measured_on_one_machine_of_both_is_compared_there(both):
    a, b = both
    for machine, qps in (("one", 100.0), ("two", 900.0)):
        a.values({"qps": qps}, batch_mode="single", threads=1, machine_id=machine)
    b.values({"qps": 50.0}, batch_mode="single", threads=1, machine_id="one", code_id="after")
    found = compared(both)
    assert [(change.verdict, change.ratio) for change in found] == [(NOT_JUDGED, 0.5), (ONLY_A, None)]


def test_the_newest_of_what_was_measured_twice(both):
    a, b = both
    a.values({"index_bytes": 100.0}, started=LATE)
    b.values({"index_bytes": 500.0}, started=EARLY)
    b.values({"index_bytes": 100.0}, started=LATE, code_id="after")
    assert verdicts(both) == {"index_bytes": SAME}


def test_rates_are_never_judged_and_never_compared_across_machines(both):
    a, b = both
    a.values(
        {"qps": 100.0, "resident_bytes": 10.0, "latency_p50_us": 5.0}, note="median of 3 rounds, 99 to 101 queries/s"
    )
    b.values({"qps": 10.0, "resident_bytes": 99.0, "latency_p50_us": 5.0}, code_id="after")
    assert verdicts(both) == {"qps": NOT_JUDGED, "resident_bytes": NOT_JUDGED, "latency_p50_us": NOT_JUDGED}
    b.store = RecordStore(b.home / "elsewhere")
    b.values({"qps": 10.0, "resident_bytes": 99.0, "latency_p50_us": 5.0}, machine_id="two")
    assert verdicts(both) == {"qps": OTHER_MACHINE, "resident_bytes": OTHER_MACHINE, "latency_p50_us": OTHER_MACHINE}
    assert {change.ratio for change in compared(both)} == {None}


@pytest.mark.parametrize(
    ("size", "verdict"), [(100.0, SAME), (102.0, SAME), (102.5, WORSE), (97.5, BETTER), (0.0, BETTER)]
)
def test_sizes_against_the_tolerance(both, size, verdict):
    for side, value in zip(both, (100.0, size), strict=True):
        side.values({"bytes_per_image": value})
    assert verdicts(both) == {"bytes_per_image": verdict}


def test_other_data_is_no_comparison(both):
    a, b = both
    a.quality(hits(6, 0.9))
    b.quality(hits(7, 0.1), data_id="others")
    assert verdicts(both) == {"recall@1": OTHER_DATA}


def test_points_of_the_same_data_are_compared_even_beside_newer_ones_of_other_data(both):
    for side in both:
        side.quality(hits(6, 0.5))
    both[0].quality(hits(7, 0.1), data_id="others", started=LATE)
    assert verdicts(both) == {"recall@1": SAME, "": ONLY_A}


def test_only_shared_queries_are_tested(both):
    a, b = both
    a.quality(hits(8, 0.9))
    b.quality(hits(9, 0.1), prefix="other ")
    change = compared(both)[0]
    assert (change.verdict, change.why) == (NOT_JUDGED, "no per-query results of shared queries")


def test_what_is_no_number_or_not_there(both):
    a, b = both
    a.values({"recall@1": 0.5, "recall@5": float("nan"), "loss": 2.0, "recall@10": 0.5})
    b.values({"recall@1": 0.4, "recall@5": 0.5, "loss": 1.0, "median_rank": 2.0})
    assert verdicts(both) == {
        "recall@1": NOT_JUDGED, "recall@5": ONLY_B, "loss": NOT_JUDGED, "recall@10": ONLY_A, "median_rank": ONLY_B,
    }  # fmt: skip


def test_a_point_that_failed(both):
    a, b = both
    a.quality(hits(1))
    b.store.write(POINT, {}, status="out_of_memory", note="build: 8 GiB", started=EARLY)
    change = compared(both)[0]
    assert (change.verdict, change.metric, change.why) == (ONLY_A, "", "out of memory: build: 8 GiB")


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ("recall@1", "quality"), ("hard_negative_accuracy_count", "quality"), ("index_bytes", "size"),
        ("qps", "speed"), ("resident_bytes", "speed"), ("train_seconds", "speed"), ("loss_flops", "other"),
        ("trec_recall@1", "other"), ("median_rank", "other"), ("of another version", "other"),
    ],
)  # fmt: skip
def test_kinds(metric, kind):
    assert kind_of(metric) == kind


# --- the command


def run(*arguments) -> int:
    try:
        return cli.run(compare.main, compare.parser(), [str(argument) for argument in arguments])
    except SystemExit as ended:
        return ended.code


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """`noise` differs by chance, `worse` is worse in one point, `larger` has larger files, `fewer` fewer points."""
    folder = tmp_path_factory.mktemp("homes")
    variants = [f"<script>{number}" for number in range(24)]
    for name in ("before", "noise", "worse", "larger", "fewer"):
        side = Side(folder / name)
        for number, variant in enumerate(variants if name in ("before", "noise") else variants[:2]):
            found = hits(100 * (name == "noise") + number, images=40)
            found = found & hits(99, 0.4, images=40) if name == "worse" and number == 1 else found
            if name != "fewer" or number == 0:
                side.quality(found, variant=variant)
            side.values(
                {"index_bytes": 1000.0 * (2 if name == "larger" else 1)}, variant=variant, task="scale", split=""
            )
    return folder


@pytest.mark.parametrize(
    ("after", "fail_on", "code"),
    [("before", "quality,size,missing", 0), ("noise", "quality,size,missing", 0), ("worse", "quality", 1),
     ("worse", "size", 0), ("worse", "", 0),
     ("larger", "size", 1), ("larger", "quality", 0), ("fewer", "missing", 1),
     ("fewer", "quality,size", 0)],
)  # fmt: skip
def test_exit_code(homes, after, fail_on, code, capsys):
    assert run(homes / "before", homes / after, "--fail-on", fail_on) == code
    said = capsys.readouterr().out
    assert ("\nRegression: " in said) == (code == 1)
    assert "\nQuality: 0 better, " in said


def test_a_bundle_and_files(homes, tmp_path, capsys):
    write_bundle([RecordStore(homes / "before")], tmp_path / "bundle")
    assert run(tmp_path / "bundle", homes / "worse", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "Only in A: 44 points (0 failed on one side), and 0 metrics of shared points." in said
    table = pd.read_csv(tmp_path / "out" / "compare_quality.csv")
    assert sorted(table.verdict) == [SAME, WORSE]
    worse = table[table.verdict == WORSE].iloc[0]
    assert worse.change == pytest.approx(worse.b - worse.a)
    assert worse["change low"] < worse.change < worse["change high"] < 0
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "&lt;script&gt;1" in text
    assert "<script>" not in text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "compare.md", "compare_quality.csv", "compare_size.csv", "compare_speed.csv", "compare_other.csv",
        "compare_only.csv",
    }  # fmt: skip


def test_all_prints_every_row(homes, capsys):
    run(homes / "before", homes / "before", "--all")
    assert capsys.readouterr().out.count("no query differs") == 24


def test_few_rows_are_printed_unless_asked_for(homes, capsys):
    run(homes / "before", homes / "fewer")
    said = capsys.readouterr().out
    assert said.count("only in A") == 20
    assert "... and 25 more: --all prints them" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{homes}/nowhere", "{homes}/before"], "nowhere: no records; expected"),
        (
            ["{homes}/before", "{homes}/before", "--fail-on", "speed"],
            "--fail-on: unknown kind 'speed'; expected quality, size or missing",
        ),
        (["{homes}/before", "{homes}/before", "--level", "1"], "a --level between 0 and 1"),
        (["{homes}/before", "{homes}/before", "--tolerance", "nan"], "a --tolerance of at least 0"),
        (["{homes}/before", "{homes}/empty"], "no measured point in common"),
    ],
)
def test_bad_input(homes, arguments, message, capsys):
    Side(homes / "empty").values({"qps": 1.0}, task="encoding")
    assert run(*(argument.format(homes=homes) for argument in arguments)) == 2
    assert message in capsys.readouterr().err


def test_hostile_records_are_printed_on_one_line(both, capsys):
    a, b = both
    hostile = "two\nlines \u202e and\ttabs"
    for side, size in zip(both, (1.0, 2.0), strict=True):
        side.values({"index_bytes": size}, variant=hostile, knobs=json.dumps({"k": hostile}))
    assert run(a.home, b.home) == 0
    said = capsys.readouterr().out
    assert "\u202e" not in said
    assert "two lines" in said
