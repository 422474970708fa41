"""All tasks of a variant over one opened model and one encoding of each slice."""

import json

import pytest

from bench.store.records import RecordStore
from bench.tasks.measure import Plan, measure_variant
from bench.tasks.retrieval.settings import RecallOptions
from bench.tasks.subject import Subject
from bench.vectors import encode

SPEC = {"name": "scenes", "concepts": 12, "pixels": 64}
PLAN = Plan(6, ("compositional", "none"), 4, RecallOptions(top_k=(8,), timing=None, examples=2))


@pytest.fixture
def counted(monkeypatch):
    """Calls of `encode` by split, and models loaded."""
    calls, whole = [], encode.encode

    def count(home, encoder, corpus, split, *rest):
        calls.append(split)
        return whole(home, encoder, corpus, split, *rest)

    monkeypatch.setattr(encode, "encode", count)
    return calls


@pytest.mark.parametrize("kind", ["lexicon", "dense"])
def test_a_variant_is_opened_once_and_each_slice_encoded_once(kind, tiny_models, tmp_path, counted, monkeypatch):
    subject = Subject(tiny_models[kind], kind, 3, "tiny", "of-run", "again")
    measure_variant(tmp_path, subject, SPEC, PLAN)
    assert counted == ["test", "compositional"]
    rows = RecordStore(tmp_path).read()
    named = rows[["variant", "seed", "profile", "command"]].drop_duplicates()
    assert named.to_numpy().tolist() == [[kind, 3, "tiny", "again"]]
    tasks = {split: set(part.task) for split, part in rows.groupby("split")}
    everywhere = {"retrieval", "encoding"}
    assert tasks["compositional"] == everywhere
    assert tasks["test"] == everywhere | {"hard_negatives", "zero_shot"} | (
        {"sparsity"} if kind == "lexicon" else set()
    )
    assert set(rows[rows.task != "zero_shot"].config_id) == {"of-run"}
    assert rows[rows.task == "zero_shot"].point_id.nunique() == 4
    knobs = {json.loads(knobs)["classes"] for knobs in rows[rows.task == "zero_shot"].knobs}
    assert knobs == {"concept", "place", "time", "colour"}

    monkeypatch.setattr(RecordStore, "write", lambda *_, **__: pytest.fail("measured again"))
    measure_variant(tmp_path, Subject(tiny_models[kind], kind, 3, "tiny", "of-run", "again"), SPEC, PLAN)
