"""What two models put first where they disagree most, and heat maps, against brute force over tiny models that were not trained."""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from bench.corpora import open_corpus
from bench.store import cli
from bench.store.records import EXAMPLES_SCHEMA, RecordStore
from bench.tasks import disagreement as inside
from bench.tasks.disagreement import look_inside
from bench.tasks.rank_gap import RANK_GAP
from bench.tasks.recall import measure_recall
from bench.vectors.encode import Encoder, encode
from bench.vectors.impacts import prune, quantise
from models import checkpoint
from models.config import ClipConfig, HeadConfig, ImageConfig, LexLIPConfig, ModelConfig, TextConfig
from models.errors import InputError
from models.tokenizer import LexiconTokenizer

SPEC = {"name": "scenes", "concepts": 12, "pixels": 64}
IMAGES, TOP_KS = 8, 32
MEASURED = {"top_k": (TOP_KS,)}


@pytest.fixture(scope="module")
def corpus():
    return open_corpus(SPEC)


@pytest.fixture(scope="module")
def measured(tmp_path_factory, corpus):
    """A home in which a LexLIP and a CLIP were measured, and the looking inside is done; their checkpoints and the ids of their points."""
    home = tmp_path_factory.mktemp("home")
    tokenizer = LexiconTokenizer.train(
        [text for _, text, _ in corpus.captions("train", 0, 40)], vocabulary_size=90, max_tokens=24
    )
    folders = []
    for kind in ("lexlip", "clip"):
        torch.manual_seed(3)
        config = ModelConfig(
            kind=kind,
            image=ImageConfig(layers=1, width=16, heads=2, pixels=64, patch=16, stem="patch"),
            text=TextConfig(layers=1, width=16, heads=2, max_tokens=24, vocabulary=len(tokenizer), embedding_std=0.5),
            lexlip=LexLIPConfig(head=HeadConfig(image_bias=-0.5)),
            clip=ClipConfig(embedding=8),
        )
        folders.append(home / kind)
        checkpoint.save(checkpoint.create(config, tokenizer), folders[-1])
        named = {"variant": kind, "seed": 0, "profile": "tiny", "command": "again"}
        measure_recall(
            RecordStore(home),
            home,
            folders[-1],
            SPEC,
            images=IMAGES,
            timing=False,
            hard_negatives=False,
            examples=6,
            **MEASURED,
            **named,
        )
    before = {path: path.read_bytes() for path in (home / "results").iterdir()}
    ids = look_inside(RecordStore(home), home, folders, SPEC, images=IMAGES, **MEASURED)
    return home, folders, ids, before


@pytest.fixture
def copied(measured, tmp_path):
    """A home of its own with the same content, and its checkpoints."""
    home = shutil.copytree(measured[0], tmp_path / "home")
    return home, [home / "lexlip", home / "clip"]


def first_ranks(store, point_id) -> dict[str, int]:
    return {row.query_id: row.ranks[0] for row in store.queries(point_id).itertuples()}


def worst_queries(store, ids) -> list[list[str]]:
    ours, theirs = (first_ranks(store, point_id) for point_id in ids)
    gaps = {query: int(ours[query]) - int(theirs[query]) for query in ours}
    return [sorted((q for q in gaps if sign * gaps[q] > 0), key=lambda q: (-sign * gaps[q], q))[:5] for sign in (1, -1)]


def test_results_are_of_the_queries_furthest_apart_by_brute_force(measured, corpus):
    """Scores and first places from a product of all pairs, captions and pictures from the corpus."""
    home, folders, ids, _ = measured
    store, chosen = RecordStore(home), worst_queries(RecordStore(home), ids)
    captions = {query: (text, image) for query, text, image in corpus.captions("test", 0, IMAGES)}
    assert len(chosen[0]) == len(chosen[1]) == 5
    for folder, point_id in zip(folders, ids, strict=True):
        encoded = encode(home, Encoder(folder), corpus, "test", IMAGES)
        queries, gallery = encoded.captions.rows(0, encoded.captions.count), encoded.images.rows(0, IMAGES)
        if encoded.kind == "lexicon":
            queries, gallery = (
                quantise(queries).astype(int).toarray(),
                quantise(prune(gallery, TOP_KS)).astype(int).toarray(),
            )
        scores = pd.DataFrame(queries @ gallery.T, index=encoded.captions.ids, columns=encoded.images.ids)
        rows = store.examples(point_id)
        rows = rows[rows.chosen == RANK_GAP]
        assert list(dict.fromkeys(rows.query_id)) == [*chosen[0], *chosen[1]]
        for query_id, found in rows.groupby("query_id"):
            text, image = captions[query_id]
            assert set(found["query"]) == {text} and found[found.relevant].image_id.tolist() == [image]
            first = found[found["rank"] == 1].image_id.item()
            assert scores.loc[query_id, first] == pytest.approx(scores.loc[query_id].max(), abs=1e-6)
            assert found[found.relevant]["rank"].item() == first_ranks(store, point_id)[query_id]
            assert len(found) == (1 if first == image else 2)
            for row in found.itertuples():
                assert row.score == pytest.approx(scores.loc[query_id, row.image_id], abs=1e-5)
                assert Image.open(io.BytesIO(row.image)).size == (64, 64)


def test_heat_maps_are_the_models_own_logits_token_by_token(measured, corpus):
    """Each against the head run on one token state at a time; its highest against the pooled logit that the weight is made of."""
    home, folders, ids, _ = measured
    model = Encoder(folders[0]).model
    pictures = dict(corpus.images("test", 0, IMAGES))
    rows = RecordStore(home).examples(ids[0]).dropna(subset="heat_maps")
    for row in rows.itertuples():
        with torch.inference_mode():
            hidden_BLD, pooled = model.image_states(torch.from_numpy(pictures[row.image_id][None]))
            by_token_LV = np.stack([model.image.head(state_D).numpy() for state_D in hidden_BLD[0]])
        maps, matched = json.loads(row.heat_maps), json.loads(row.lexicons)
        assert [name for name, *_ in maps] == [name for name, *_ in matched[:4]] and maps
        for name, first_pooled, logits in maps:
            v = model.vocabulary.index(name)
            assert first_pooled == 0 and logits == pytest.approx(by_token_LV[:, v].tolist(), abs=1e-4)
            assert max(logits) == pytest.approx(float(pooled.logits_BV[0, v]), abs=1e-4)


def test_which_pictures_have_heat_maps(measured):
    home, _, ids, _ = measured
    store = RecordStore(home)
    rows, chosen = store.examples(ids[0]), worst_queries(store, ids)
    heated = rows[rows.heat_maps.notna()]
    spaced = list(dict.fromkeys(rows[rows.chosen != RANK_GAP].query_id))
    assert len(spaced) == 6
    of_spaced = heated[heated.chosen != RANK_GAP]
    assert of_spaced.query_id.tolist() == [spaced[i] for i in (0, 2, 3, 5)] and set(of_spaced["rank"]) == {1}
    assert set(heated[heated.chosen == RANK_GAP].query_id) == {chosen[0][0], chosen[1][0]}
    assert store.examples(ids[1]).heat_maps.isna().all(), "dense vectors have no lexicons"


def test_the_points_and_what_was_shown_before_stay(measured):
    home, _, ids, before = measured
    changed = [path.name for path in (home / "results").iterdir() if path.read_bytes() != before.get(path)]
    assert sorted(changed) == sorted(f"{point_id}.examples.parquet" for point_id in ids)
    for point_id in ids:
        old = pd.read_parquet(io.BytesIO(before[home / "results" / f"{point_id}.examples.parquet"])).drop(
            columns="heat_maps"
        )
        now = RecordStore(home).examples(point_id).drop(columns="heat_maps")
        pd.testing.assert_frame_equal(now[now.chosen != RANK_GAP], old, check_dtype=False)


def test_what_is_there_is_not_made_again(copied, monkeypatch):
    home, folders = copied
    stamps = {path: path.stat().st_mtime_ns for path in home.rglob("*.*")}
    monkeypatch.setattr(Encoder, "model", property(lambda self: pytest.fail("a model was loaded")))
    look_inside(RecordStore(home), home, folders, SPEC, images=IMAGES, **MEASURED)
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*.*")} == stamps


def test_examples_of_an_earlier_version_are_added_to(copied, measured):
    home, folders = copied
    store, (_, _, ids, _) = RecordStore(home), measured
    wanted = [store.examples(point_id) for point_id in ids]
    for point_id in ids:
        path = store.folder / f"{point_id}.examples.parquet"
        rows = pd.read_parquet(path)
        rows[rows.chosen != RANK_GAP].drop(columns=["chosen", "heat_maps"]).to_parquet(path)
        assert list(store.examples(point_id).columns) == EXAMPLES_SCHEMA.names[:-2]
    assert look_inside(store, home, folders, SPEC, images=IMAGES, **MEASURED) == ids
    for point_id, rows in zip(ids, wanted, strict=True):
        pd.testing.assert_frame_equal(store.examples(point_id), rows)


def test_the_command(copied, measured, capsys):
    home, folders = copied
    corpus = ("--corpus", json.dumps(SPEC))
    flags = [
        str(flag)
        for flag in ("--home", home, "--checkpoint", folders[0], "--baseline", folders[1], *corpus, "--images", IMAGES)
    ]
    assert cli.run(inside.main, inside.parser(), [*flags, "--force"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == measured[2]
    for point_id in measured[2]:
        pd.testing.assert_frame_equal(RecordStore(home).examples(point_id), RecordStore(measured[0]).examples(point_id))


def test_what_was_not_measured_is_one_line(copied, capsys):
    home, folders = copied
    with pytest.raises(
        InputError, match="lexlip: no recall of this checkpoint on 7 images of scenes, test; measure it"
    ):
        look_inside(RecordStore(home), home, folders, SPEC, images=7)
    flags = ["--home", str(home), "--checkpoint", str(folders[0]), "--baseline", str(folders[1]), "--images", "7"]
    assert cli.run(inside.main, inside.parser(), flags) == 2
    assert "no recall of this checkpoint" in (err := capsys.readouterr().err) and err.count("\n") == 1


def test_ranks_that_were_lost_are_named(copied, measured):
    home, folders = copied
    (home / "results" / f"{measured[2][1]}.queries.parquet").unlink()
    with pytest.raises(InputError, match=f"{measured[2][1]}: no ranks of each query"):
        look_inside(RecordStore(home), home, folders, SPEC, images=IMAGES, **MEASURED)
