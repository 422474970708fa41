"""Queries on which two models disagree most, against brute force over tiny untrained models."""

import io
import itertools
import json

import pandas as pd
import pytest
from PIL import Image

from bench.store import cli
from bench.store.records import RecordStore
from bench.tasks import disagreement
from bench.tasks.disagreement import gap_values, measure_disagreement
from bench.tasks.rank_gap import RANK_GAP
from bench.tasks.retrieval.examples import HEAT_MAPS
from bench.tasks.subject import Slice
from bench.vectors.encode import encode
from bench.vectors.encoder import Encoder
from bench.vectors.impacts import prune, quantise
from models.errors import InputError

SHOWN = 5


@pytest.fixture(scope="module")
def compared(measured):
    """The measured home, with disagreement measured: home, and per model (recall point, disagreement point)."""
    store = RecordStore(measured.home)
    before = {path: path.read_bytes() for path in store.folder.iterdir()}
    ids = measure_disagreement(measured.home, measured.subjects, measured.slice, measured.top_k)
    assert all(path.read_bytes() == content for path, content in before.items()), "no other record changes"
    rows = store.read().drop_duplicates("point_id").set_index("point_id")
    yield [(json.loads(rows.knobs[point_id])["recall"], point_id) for point_id in ids]
    for path in set(store.folder.iterdir()) - set(before):
        path.unlink()


def first_ranks(store, recall_id) -> dict[str, int]:
    return {row.query_id: int(row.ranks[0]) for row in store.queries(recall_id).itertuples()}


def rank_gaps(store, compared) -> dict[str, int]:
    ours, theirs = (first_ranks(store, recall_id) for recall_id, _ in compared)
    return {query: ours[query] - theirs[query] for query in ours}


def furthest_queries(gaps: dict[str, int], sign: int) -> list[str]:
    return sorted((q for q in gaps if sign * gaps[q] > 0), key=lambda q: (-sign * gaps[q], q))[:SHOWN]


def test_points_of_both_models(measured, compared):
    """Their values follow from the recorded ranks; their fields are those of the recall points."""
    store = RecordStore(measured.home)
    rows, gaps = store.read(), pd.Series(rank_gaps(store, compared))
    for (recall_id, point_id), (other_id, _), gap in zip(compared, reversed(compared), (gaps, -gaps), strict=True):
        mine, recall = (rows[rows.point_id == found].reset_index(drop=True) for found in (point_id, recall_id))
        values = mine.set_index("metric").value
        assert values.to_dict() == {"ranked_lower": (gap > 0).sum(), "rank_gap_max": max(0, gap.max())}
        assert json.loads(mine.knobs[0]) == {"recall": recall_id, "against": other_id}
        same = ["corpus", "split", "images", "variant", "seed", "profile", "config_id", "data_id", "checkpoint_id"]
        same += ["vectors_id", "index_id", "engine", "top_k", "bits", "depth", "direction", "kind", "exact", "queries"]
        pd.testing.assert_series_equal(mine.loc[0, same], recall.loc[0, same])
        assert mine.task[0] == "disagreement" and store.queries(point_id) is None


def test_values_of_hand_made_gaps():
    assert gap_values(pd.Series([3, -2, 0, 1])) == {"ranked_lower": 2, "rank_gap_max": 3.0}
    assert (
        gap_values(pd.Series([-2.0]))
        == gap_values(pd.Series([], dtype=float))
        == {
            "ranked_lower": 0,
            "rank_gap_max": 0.0,
        }
    )


def test_examples_are_the_first_and_the_relevant_image_by_brute_force(measured, compared, scenes):
    """Scores and first places from a product of all pairs; captions and images from the corpus."""
    store = RecordStore(measured.home)
    gaps, images = rank_gaps(store, compared), measured.slice.images
    chosen = [*furthest_queries(gaps, 1), *furthest_queries(gaps, -1)]
    captions = {query: (text, image) for query, text, image in scenes.captions("test", 0, images)}
    assert len(chosen) == 2 * SHOWN
    for subject, (recall_id, point_id) in zip(measured.subjects, compared, strict=True):
        encoded = encode(measured.home, subject.encoder, scenes, "test", images)
        queries, gallery = encoded.captions.rows(0, encoded.captions.count), encoded.images.rows(0, images)
        if encoded.kind == "lexicon":
            pruned = prune(gallery, measured.top_k[0])
            queries, gallery = (quantise(side).astype(int).toarray() for side in (queries, pruned))
        scores = pd.DataFrame(queries @ gallery.T, index=encoded.captions.ids, columns=encoded.images.ids)
        rows, ranks = store.examples(point_id), first_ranks(store, recall_id)
        assert set(rows.chosen) == {RANK_GAP} and list(dict.fromkeys(rows.query_id)) == chosen
        for query_id, found in rows.groupby("query_id"):
            text, image = captions[query_id]
            assert set(found["query"]) == {text} and found[found.relevant].image_id.tolist() == [image]
            first = found[found["rank"] == 1].image_id.item()
            assert scores.loc[query_id, first] == pytest.approx(scores.loc[query_id].max(), abs=1e-6)
            assert found[found.relevant]["rank"].item() == ranks[query_id]
            assert len(found) == (1 if first == image else 2)
            for row in found.itertuples():
                assert row.score == pytest.approx(scores.loc[query_id, row.image_id], abs=1e-5)
                assert Image.open(io.BytesIO(row.image)).size == (64, 64)


def test_heat_maps_are_of_the_query_furthest_apart_in_each_direction(measured, compared):
    store = RecordStore(measured.home)
    gaps = rank_gaps(store, compared)
    (_, lexicon), (_, dense) = compared
    rows = store.examples(lexicon)
    heated = rows[rows.heat_maps.notna()]
    assert set(heated.query_id) == {furthest_queries(gaps, 1)[0], furthest_queries(gaps, -1)[0]}
    for row in heated.itertuples():
        maps, matched = json.loads(row.heat_maps), json.loads(row.lexicons)
        assert maps and [name for name, *_ in maps] == [name for name, *_ in matched[:HEAT_MAPS]]
    assert store.examples(dense).heat_maps.isna().all(), "dense vectors have no lexicons"


def test_recorded_points_are_not_measured_again(compared, copied, monkeypatch):
    stamps = {path: path.stat().st_mtime_ns for path in copied.home.rglob("*.*")}
    monkeypatch.setattr(Encoder, "model", property(lambda self: pytest.fail("a model was loaded")))
    measure_disagreement(copied.home, copied.subjects, copied.slice, copied.top_k)
    assert {path: path.stat().st_mtime_ns for path in copied.home.rglob("*.*")} == stamps


def test_the_command(compared, copied, capsys):
    models = itertools.chain(
        *zip(("--checkpoint", "--baseline"), (subject.model for subject in copied.subjects), strict=True)
    )
    flags = ["--home", copied.home, *models, "--corpus", json.dumps({"name": "scenes", "concepts": 12, "pixels": 64})]
    flags = [str(flag) for flag in [*flags, "--images", copied.slice.images]]
    before = {point_id: RecordStore(copied.home).examples(point_id) for _, point_id in compared}
    assert cli.run(disagreement.main, disagreement.parser(), [*flags, "--force"]) == 0
    *lines, where, last = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == list(before)
    assert where == f"python -m reports.build --home {copied.home} shows them under Largest disagreements"
    assert last == f"used scenes, test: {copied.slice.images} images, {5 * copied.slice.images} queries"
    for point_id, examples in before.items():
        pd.testing.assert_frame_equal(RecordStore(copied.home).examples(point_id), examples)
    assert cli.run(disagreement.main, disagreement.parser(), [*flags[:-1], "7"]) == 2
    assert "no recall of this checkpoint on 7 images" in (err := capsys.readouterr().err) and err.count("\n") == 1


def test_one_model_given_twice_is_refused(compared, copied):
    with pytest.raises(InputError, match="the same model as --checkpoint; expected another one"):
        measure_disagreement(copied.home, [copied.subjects[0]] * 2, copied.slice, copied.top_k)


def test_missing_recall_and_missing_ranks_are_named(compared, copied, scenes):
    with pytest.raises(InputError, match="lexlip: no recall of this checkpoint on 7 images of scenes, test; measure"):
        measure_disagreement(copied.home, copied.subjects, Slice(scenes, "test", 7))
    recall_id = compared[1][0]
    (copied.home / "results" / f"{recall_id}.queries.parquet").unlink()
    with pytest.raises(InputError, match=f"{recall_id}: no per-query ranks"):
        measure_disagreement(copied.home, copied.subjects, copied.slice, copied.top_k)


def test_an_image_that_was_not_retrieved_has_no_rank(compared, copied):
    """It counts as one rank beyond the depth, and is an example all the same."""
    store = RecordStore(copied.home)
    (recall_id, _), (other_id, _) = compared
    best = min(first_ranks(store, other_id).items(), key=lambda item: item[1])[0]
    queries = store.queries(recall_id)
    queries["ranks"] = [
        [] if query_id == best else ranks for query_id, ranks in zip(queries.query_id, queries.ranks, strict=True)
    ]
    queries.to_parquet(store.folder / f"{recall_id}.queries.parquet")
    point_id, _ = measure_disagreement(copied.home, copied.subjects, copied.slice, copied.top_k, force=True)
    rows = store.examples(point_id)
    relevant = rows[(rows.query_id == best) & rows.relevant]
    assert rows.query_id[0] == best and (relevant["rank"].isna() | relevant["rank"].eq(1)).tolist() == [True]
