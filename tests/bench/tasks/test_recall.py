"""Recall of models of words, against numpy over the models' own vectors."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bench.store.records import RecordStore
from bench.tasks.retrieval.direction import DIRECTIONS
from bench.tasks.retrieval.settings import RecallOptions, Setting, main_setting, settings
from models.errors import InputError
from reports.records.rows import per_query

ACCURACY = RecallOptions(timing=None, examples=0, hard_negatives=False)


def values(rows, metric, **filters):
    for column, wanted in filters.items():
        rows = rows[rows[column].isna()] if wanted is None else rows[rows[column] == wanted]
    return rows[rows.metric == metric].value.tolist()


def test_every_step_from_float_search_to_the_index_is_a_point(words_measured):
    _, rows = words_measured
    accuracy = rows[(rows.metric == "recall@1") & (rows.variant == "lexicon")]
    found = {
        (row.direction, row.engine, row.top_k if row.top_k == row.top_k else None, row.bits)
        for row in accuracy.fillna(-1).itertuples()
    }
    expected = {
        ("scipy", -1, -1),
        ("scipy", 2, -1),
        ("scipy", 4, -1),
        ("scipy", 32, -1),
        *(("impact", k, 8) for k in (2, 4, 32, -1)),
    }
    assert found == {(direction, *setting) for direction in DIRECTIONS for setting in expected}
    assert len(accuracy) == len(found)
    assert values(
        rows, "recall@1", variant="dense", engine="faiss-flat", bits=None, top_k=None, direction="text_to_image"
    )


def test_values_agree_with_numpy_over_the_models_vectors(words_measured, word_corpus, word_model):
    """R@1 of brute force and of the index, against numpy over the model's own vectors."""
    _, rows = words_measured
    images = word_model.encode_image(np.stack([picture for _, picture in word_corpus.images("test", 0, 60)]))
    captions = word_model.encode_text([text for _, text, _ in word_corpus.captions("test", 0, 60)])
    owner = np.repeat(np.arange(60), 2)
    exact = (captions @ images.T).argmax(axis=1) == owner
    assert values(rows, "recall@1", engine="scipy", top_k=None, direction="text_to_image") == [
        pytest.approx(exact.mean())
    ]
    impacts = [np.minimum(np.rint(np.float32(100) * side), 255).astype(int) for side in (captions, images)]
    through_index = (impacts[0] @ impacts[1].T).argmax(axis=1) == owner
    assert values(rows, "recall@1", engine="impact", top_k=None, direction="text_to_image") == [
        pytest.approx(through_index.mean())
    ]
    active = (captions > 0).mean(axis=0) @ (images > 0).mean(axis=0)
    assert values(rows, "flops_per_pair", engine="scipy", top_k=None, direction="text_to_image") == [
        pytest.approx(active)
    ]
    assert values(rows, "active_lexicons_image", engine="scipy", top_k=2, direction="text_to_image") == [2.0]
    assert values(rows, "active_lexicons_image", engine="scipy", top_k=2, direction="image_to_text") == [
        pytest.approx((images > 0).sum() / 60)
    ]
    assert values(rows, "flops_per_pair", variant="dense") == [16.0, 16.0]


def test_per_query_results_give_the_recorded_recall(words_measured):
    store, rows = words_measured
    for row in rows[rows.metric == "recall@1"].itertuples():
        queries = store.queries(row.point_id)
        assert len(queries) == row.queries == (120 if row.direction == "text_to_image" else 60)
        assert np.mean([len(ranks) > 0 and ranks[0] == 1 for ranks in queries.ranks]) == pytest.approx(row.value)
        assert (queries.relevant == (1 if row.direction == "text_to_image" else 2)).all()
        assert queries.group.nunique() == 60 and queries.latency_us.isna().all()


def test_rates_are_separate_points(words_measured):
    store, rows = words_measured
    timed = rows[rows.batch_mode != ""]
    assert set(timed.metric) == {"qps", "latency_p50_us", "latency_p95_us", "latency_p99_us"}
    assert set(timed.depth) == {10} and set(timed.threads) == {1} and set(timed.direction) == {"text_to_image"}
    single = timed[(timed.batch_mode == "single") & (timed.engine == "impact")].point_id.iloc[0]
    assert (store.queries(single).latency_us > 0).all() and len(store.queries(single)) == 8
    assert rows[rows.metric == "recall@1"].batch_mode.eq("").all()


def test_hard_negatives_count_ties_as_wrong(words_measured):
    store, rows = words_measured
    found = rows[(rows.task == "hard_negatives") & (rows.variant == "lexicon")]
    assert set(found.metric) == {f"hard_negative_accuracy{kind}" for kind in ("", "_attribute", "_count", "_relation")}
    queries = store.queries(found.point_id.iloc[0])
    assert not queries.correct[::4].any(), "every fourth negative is the caption itself"
    assert queries.correct.mean() == pytest.approx(found[found.metric == "hard_negative_accuracy"].value.iloc[0])
    assert queries.correct.mean() > 0.6


def test_examples_have_images_and_matched_lexicons(words_measured):
    store, rows = words_measured
    with_examples = {point: store.examples(point) for point in set(rows.point_id) if store.examples(point) is not None}
    described = rows[rows.point_id.isin(with_examples)].drop_duplicates("point_id")
    assert sorted(zip(described.engine, described.top_k.fillna(-1), strict=True)) == [
        ("faiss-flat", -1),
        ("impact", 32),
    ]
    assert set(described.direction) == {"text_to_image"}
    for row in described.itertuples():
        examples = with_examples[row.point_id]
        assert examples.query_id.nunique() == 10 and examples.groupby("query_id").size().le(5).all()
        first = examples.iloc[0]
        assert first.query_id == "test-0#0" and first["rank"] == 1
        assert Image.open(io.BytesIO(first.image)).size == (8, 8)
        ranks = store.queries(row.point_id).set_index("query_id").ranks
        assert all(example.relevant == (example.rank in ranks[example.query_id]) for example in examples.itertuples())
        lexicons = json.loads(first.lexicons)
        if row.engine == "impact":
            assert set(first["query"].split()) <= {lexicon for lexicon, *_ in lexicons}
            assert sum(query * document for _, query, document, _ in lexicons) == first.score
            assert sum(share for *_, share in lexicons) == pytest.approx(1)
        else:
            assert lexicons == []


def test_recorded_points_are_not_measured_again(copied_words, words, measure_words):
    store = RecordStore(copied_words)
    stamps = {path: path.stat().st_mtime_ns for path in copied_words.rglob("*.*")}
    again = measure_words(copied_words, "lexicon")
    assert words.loads == 0 and {path: path.stat().st_mtime_ns for path in copied_words.rglob("*.*")} == stamps
    forced = measure_words(copied_words, "lexicon", force=True)
    assert words.loads == 1 and set(copied_words.rglob("*.*")) == set(stamps)
    assert set(again) == set(forced)
    assert all(
        (store.folder / f"{point}.parquet").stat().st_mtime_ns > stamps[store.folder / f"{point}.parquet"]
        for point in forced
    )


def test_a_killed_measurement_resumes_at_the_first_missing_point(copied_words, words, measure_words):
    store = RecordStore(copied_words)
    before, lost = store.read(), sorted(store.folder.glob("*.parquet"))[::3]
    for path in lost:
        path.unlink()
    for kind in ("lexicon", "dense"):
        measure_words(copied_words, kind)
    after = store.read()
    made_now = before.task == "encoding"  # only when vectors are made
    assert set(after.point_id) >= set(before[~made_now].point_id)
    deterministic = ["recall@1", "median_rank", "index_bytes", "flops_per_pair", "hard_negative_accuracy"]
    pick = lambda rows: rows[rows.metric.isin(deterministic)].set_index(["point_id", "metric"]).value.to_dict()  # noqa: E731
    assert pick(after) == pick(before)


def test_pruned_queries_are_another_point(tmp_path, words, measure_words):
    store = RecordStore(tmp_path)
    options = replace(ACCURACY, top_k=(8,))
    whole = measure_words(tmp_path, "lexicon", options, images=20)
    pruned = measure_words(tmp_path, "lexicon", replace(options, query_top_k=1), images=20)
    assert not set(whole) & set(pruned)
    rows = store.read()
    assert values(
        rows,
        "active_lexicons_text",
        engine="impact",
        direction="text_to_image",
        knobs='{"query_top_k":1,"scale":100.0}',
    ) == [1.0]


def test_an_item_beyond_a_shallow_depth_counts_as_depth_plus_1(tmp_path, words, measure_words):
    store = RecordStore(tmp_path)
    measure_words(tmp_path, "dense", replace(ACCURACY, depth=5))
    rows = store.read()
    assert not (rows.metric == "recall@10").any()
    assert max(values(rows, "median_rank")) <= 6


def test_settings():
    assert settings("dense") == [Setting("faiss-flat")]
    assert settings("lexicon", (8, None)) == [
        Setting("scipy"),
        Setting("scipy", 8),
        Setting("impact", 8, 8),
        Setting("impact", None, 8),
    ]
    assert main_setting("lexicon") == Setting("impact", 32, 8)
    assert main_setting("lexicon", (4, None), bits=16) == Setting("impact", 4, 16)
    assert main_setting("dense") == Setting("faiss-flat")


def test_a_truncated_vector_shard_is_named_and_nothing_is_lost(copied_words, words_measured, measure_words):
    shard = next(path for path in (copied_words / "vectors").rglob("*.weights.npy"))
    shard.write_bytes(shard.read_bytes()[:-4])
    with pytest.raises(InputError, match=shard.name.replace(".", r"\.")):
        measure_words(copied_words, "lexicon")
    assert len(RecordStore(copied_words).read()) == len(words_measured[1])


def test_true_at_1_of_scenes_is_at_least_recall(measured):
    """A scene makes its own captions true, and may make those of another scene true."""
    store = RecordStore(measured.home)
    rows = store.read().query("task == 'retrieval' and batch_mode == ''")
    values = rows.pivot_table(index=["direction", "point_id"], columns="metric", values="value")
    assert values.loc["image_to_text", "true@1"].isna().all()
    to_image = values.loc["text_to_image"]
    assert len(to_image) == len(measured.top_k) * 2 + 2
    assert (to_image["true@1"] >= to_image["recall@1"]).all()
    for point_id, recorded in to_image["true@1"].items():
        queries = store.queries(point_id)
        assert per_query(queries, "true@1").mean() == pytest.approx(recorded)


def test_records_without_truth_have_no_outcomes_of_it(words_measured):
    store, rows = words_measured
    point_id = rows.query("task == 'retrieval' and batch_mode == ''").point_id.iloc[0]
    assert per_query(store.queries(point_id), "true@1") is None
