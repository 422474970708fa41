"""Bundles: the same report from fewer files."""

import dataclasses

import pandas as pd
import pyarrow.parquet as pq
import pytest

from bench.store.records import RecordStore
from models.errors import InputError
from reports.build import build
from reports.pages.site import PAGES
from reports.records.bundle import Bundle, Compact, write


def test_bundle_makes_the_same_bytes(home, site, tmp_path):
    write([RecordStore(home)], tmp_path / "reference")
    assert sorted(file.name for file in (tmp_path / "reference").iterdir()) == [
        "examples.parquet",
        "queries.parquet",
        "records.parquet",
    ]
    again = build(tmp_path / "reference", tmp_path / "site").parent
    for file in (
        *(f"{page.name}.html" for page in PAGES),
        "tables/ablations.tex",
        "data/records.csv.zip",
    ):
        assert (again / file).read_bytes() == (site / file).read_bytes()
    assert Bundle(tmp_path / "reference").queries("nothing") is None


def test_rows_of_a_point_may_lie_apart(made, tmp_path):
    """Another tool may have sorted them by query."""
    points = [made.point(variant) for variant in ("lexlip", "clip")]
    for point in points:
        made.retrieval(point, 0.5)
    write([made.store], tmp_path / "reference")
    whole, path = Bundle(tmp_path / "reference"), tmp_path / "reference" / "queries.parquet"
    before = [whole.queries(point.id) for point in points]
    pq.write_table(pq.read_table(path).sort_by("query_id"), path)
    for point, expected in zip(points, before, strict=True):
        pd.testing.assert_frame_equal(Bundle(tmp_path / "reference").queries(point.id), expected)


def test_a_compact_bundle_tests_the_same_differences(home, made, site, tmp_path):
    """Dropped: per-query results of other variants and profiles at another top_k, and with them intervals only."""
    for top_k in (8, 32):
        made.retrieval(made.point("lexlip", top_k=top_k, profile="second"), 0.4)
        made.retrieval(made.point("beside", top_k=top_k), 0.3)
        made.retrieval(made.point("lexlip", top_k=top_k), 0.5)
    write([Compact(made.store)], tmp_path / "small")
    small = Bundle(tmp_path / "small")
    has_queries = {
        (variant, top_k): small.queries(made.point(variant, top_k=top_k).id) is not None
        for variant in ("lexlip", "beside")
        for top_k in (8, 32)
    }
    assert has_queries == {("lexlip", 8): True, ("lexlip", 32): True, ("beside", 8): False, ("beside", 32): True}
    second = [made.point("lexlip", top_k=top_k, profile="second").id for top_k in (8, 32)]
    assert [small.queries(id) is not None for id in second] == [False, True]
    assert len(small.read()) == len(made.store.read())
    judged = {top_k: made.point("lexlip", task="judgements", engine="scipy", top_k=top_k) for top_k in (None, 8, 32)}
    for point in judged.values():
        made.store.write(point, {"judgements_tau_c": 0.4}, [{"query_id": "q", "group": "q", "outcome": 0.1}])
    compact = Compact(made.store)
    (outcome,) = compact.queries(judged[None].id).outcome
    assert outcome != 0.1 and outcome == pytest.approx(0.1, rel=1e-7), "in single precision"
    assert [top_k for top_k, point in judged.items() if compact.queries(point.id) is None] == [8]
    write([Compact(RecordStore(home))], tmp_path / "reference")
    again = build(tmp_path / "reference", tmp_path / "site").parent
    for file in ("tables/ablations.csv", "tables/ablations_zero_shot.csv", "index.html"):
        assert (again / file).read_bytes() == (site / file).read_bytes()


def test_a_bundle_takes_some_tasks_of_a_home_and_adds_those_of_another(home, made, tmp_path):
    write([RecordStore(home)], tmp_path / "reference")
    made.variant("lexlip", 0.3)
    made.retrieval(made.point("another"), 0.2)
    write([made.store, Bundle(tmp_path / "reference")], tmp_path / "reference", {"retrieval"})
    before, after = RecordStore(home).read(), Bundle(tmp_path / "reference").read()
    assert set(after.task) == set(before.task) and set(after.variant) == {*before.variant, "another"}
    assert len(after) == len(after.drop_duplicates(["point_id", "metric"]))
    (ours,) = set(after[after.variant == "another"].point_id)
    assert len(Bundle(tmp_path / "reference").queries(ours)) == 300
    shared = made.point("lexlip").id  # measured in both: the first store counts
    assert set(after[after.point_id == shared].value) == set((mine := made.store.read())[mine.point_id == shared].value)
    known = "hard_negatives, retrieval, sparsity, training, zero_shot"
    with pytest.raises(InputError, match=f"no records of the task 'scale'; known tasks: {known}"):
        write([made.store], tmp_path / "other", {"scale"})


COMMANDS = {
    "python -m bench.scale --home /home/me/runs --corpus 1M": "python -m bench.scale --corpus 1M",
    "python -m bench.scale --home '/a b/runs' --corpus 1M": "python -m bench.scale --corpus 1M",
    "python -m bench.scale --home=x --corpus 1M": "python -m bench.scale --corpus 1M",
    "lexlip-bench recall --checkpoint /home/me/runs/a/best --corpus scenes": (
        "lexlip-bench recall --checkpoint FOLDER --corpus scenes"
    ),
    "ablations.run --home r 'data.corpus={name: flickr8k, root: /data/f8k, check_counts: false}'": (
        "ablations.run 'data.corpus={name: flickr8k, root: FOLDER, check_counts: false}'"
    ),
    "lexlip-bench recall --checkpoint '/a b/best' --corpus '{\"annotations\": \"~/c/x.csv\"}'": (
        "lexlip-bench recall --checkpoint 'FOLDER' --corpus '{\"annotations\": \"FOLDER\"}'"
    ),
    "lexlip-bench recall --model open_clip:ViT-B-32//home/me/w.pt --bits 8": (
        "lexlip-bench recall --model open_clip:ViT-B-32/FOLDER --bits 8"
    ),
    "python -m ablations.run model.text.pretrained=/home/me/bert # https://arxiv.org/abs/2302.02908": (
        "python -m ablations.run model.text.pretrained=FOLDER # https://arxiv.org/abs/2302.02908"
    ),
    r"lexlip-bench recall --checkpoint C:\runs\best --bits 8": "lexlip-bench recall --checkpoint FOLDER --bits 8",
    "lexlip-bench recall --model open_clip:ViT-B-32/laion2b_s34b_b79k --corpus runs/mine 'rounds=1 top_k=[8,32]'": None,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bundle_does_not_say_where_its_records_lay(made, tmp_path, command):
    point = dataclasses.replace(made.point("lexlip"), command=command)
    made.store.write(point, {"recall@1": 0.5})
    write([made.store], tmp_path / "reference")
    assert set(Bundle(tmp_path / "reference").read().command) == {COMMANDS[command] or command}
