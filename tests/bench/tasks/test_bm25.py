"""BM25 against the formula by hand, and its records on both kinds of corpus."""

import math

import numpy as np
import pytest

from bench.corpora import open_corpus
from bench.store import cli
from bench.store.records import RecordStore
from bench.tasks import bm25
from bench.tasks.bm25 import held_out_caption, measure_bm25, names, rank
from bench.tasks.subject import Slice
from models.errors import InputError

SCENES = {"name": "scenes", "concepts": 200}


def test_scores_agree_with_the_formula():
    """Lucene's BM25: idf = ln(1 + (N - df + 0.5) / (df + 0.5)), tf / (tf + k1 (1 - b + b length / mean length))."""
    documents = ["dog beach", "dog dog canyon", "apple"]
    ids, scores = rank(documents, ["two dogs", "the apple on a beach", "above the", "zebra"], depth=3)
    k1, b, mean = 1.5, 0.75, 2.0
    idf = {df: math.log(1 + (3 - df + 0.5) / (df + 0.5)) for df in (1, 2)}
    part = {(tf, length): tf / (tf + k1 * (1 - b + b * length / mean)) for tf, length in ((1, 2), (2, 3), (1, 1))}
    assert ids.tolist() == [[1, 0, -1], [2, 0, -1], [-1, -1, -1], [-1, -1, -1]]
    expected = [[idf[2] * part[2, 3], idf[2] * part[1, 2]], [idf[1] * part[1, 1], idf[1] * part[1, 2]]]
    assert scores[:2, :2] == pytest.approx(np.array(expected), rel=1e-6)
    assert ids.dtype == np.int64 and scores.dtype == np.float32


def test_equal_scores_are_in_the_order_of_the_documents():
    ids, _ = rank(["apple sea", "apple lake", "apple sea", "dog sea"], ["an apple", "apples at sea"], depth=3)
    assert ids.tolist() == [[0, 1, 2], [0, 2, 1]]


def test_documents_of_stop_words_are_refused():
    with pytest.raises(InputError, match="2 documents contain only stop words"):
        rank(["the", ""], ["a dog"], 1)


def test_documents_are_the_facts_of_a_scene():
    corpus = open_corpus(SCENES)
    documents, queries = names(corpus, "test", 30)
    for i, (image_id, group, text) in enumerate(zip(documents.ids, documents.groups, documents.texts, strict=True)):
        facts = corpus.facts("test", i)
        assert image_id == group == corpus.image_id("test", i)
        assert text == " ".join([group.concept for group in facts.groups] + [facts.place, facts.time])
    assert list(zip(queries.ids, queries.texts, queries.groups, strict=True)) == list(corpus.captions("test", 0, 30))


def test_scenes_by_names(tmp_path):
    store = RecordStore(tmp_path)
    point_id = measure_bm25(tmp_path, Slice.open(SCENES, images=30), "smoke")
    rows, queries = store.read(), store.queries(point_id)
    values = dict(zip(rows.metric, rows.value, strict=True))
    identity = rows.iloc[0]
    assert {"recall@1", "recall@5", "recall@10", "trec_recall@1", "median_rank"} <= set(values)
    assert (identity.task, identity.variant, identity.kind, identity.engine) == ("retrieval", "bm25", "lexicon", "bm25")
    assert (identity.direction, identity.images, identity.queries, identity.depth) == ("text_to_image", 30, 150, 30)
    assert '"documents":"names"' in identity.knobs and "concepts, place and time of day" in identity.note
    assert len(queries) == 150 and queries.group.nunique() == 30 and (queries.relevant == 1).all()
    assert np.mean([len(ranks) > 0 and ranks[0] == 1 for ranks in queries.ranks]) == pytest.approx(values["recall@1"])
    assert 0.5 < values["recall@1"] < 1, "names say much of a caption, not all"


def test_recorded_points_are_not_measured_again(tmp_path, monkeypatch):
    store = RecordStore(tmp_path)
    point_id = measure_bm25(tmp_path, Slice.open(SCENES, images=5))
    with monkeypatch.context() as never:
        never.setattr(bm25, "rank", None)
        assert measure_bm25(tmp_path, Slice.open(SCENES, images=5)) == point_id
    stamp = (store.folder / f"{point_id}.parquet").stat().st_mtime_ns
    assert measure_bm25(tmp_path, Slice.open(SCENES, images=5), force=True) == point_id
    assert (store.folder / f"{point_id}.parquet").stat().st_mtime_ns > stamp


def test_a_corpus_without_facts_uses_a_held_out_caption(tmp_path, word_corpus):
    documents, queries = held_out_caption(word_corpus, "test", 60)
    captions = list(word_corpus.captions("test", 0, 60))
    assert documents.texts == [text for _, text, _ in captions[::2]] and documents.ids == [
        image for *_, image in captions[::2]
    ]
    assert queries.ids == [caption_id for caption_id, *_ in captions[1::2]]
    store = RecordStore(tmp_path)
    queries = store.queries(measure_bm25(tmp_path, Slice(word_corpus, "test", 60)))
    assert not queries.query_id.str.endswith("#0").any() and len(queries) == 60
    rows = store.read()
    assert '"documents":"held_out_caption"' in rows.knobs.iloc[0] and "first caption" in rows.note.iloc[0]
    shared = [
        set(query.split()) & set(document.split())
        for query, document in zip([c[1] for c in captions[1::2]], documents.texts, strict=True)
    ]
    assert all(shared) and (queries.ranks.str.len() == 1).all(), (
        "each query shares a word with its own image's document"
    )


def test_one_caption_per_image_is_refused(tmp_path, word_corpus, monkeypatch):
    whole = type(word_corpus).captions
    monkeypatch.setattr(type(word_corpus), "captions", lambda *arguments: list(whole(*arguments))[::2])
    with pytest.raises(InputError, match="corpus words: one caption per image"):
        measure_bm25(tmp_path, Slice(word_corpus, "test", 5))
    monkeypatch.setattr(type(word_corpus), "captions", lambda *_: iter(list(whole(word_corpus, "test", 0, 3))))
    with pytest.raises(InputError, match="captions of 3 images, expected 5"):
        measure_bm25(tmp_path, Slice(word_corpus, "test", 5))


def test_another_language_has_its_own_stemmer_and_stop_words():
    """ "Häuser" is the plural of "Haus", "das" a stop word: as English neither is known."""
    documents, queries = ["das Haus", "der Hund", "das Auto"], ["Häuser", "das"]
    assert bm25.rank(documents, queries, 3, "german")[0].tolist() == [[0, -1, -1], [-1, -1, -1]]
    assert bm25.rank(documents, queries, 3)[0].tolist() == [[-1, -1, -1], [0, 2, -1]]
    assert (bm25.rank(["koira istuu", "talo"], ["koirat"], 1, "finnish")[0] == 0).all(), "a language without stop words"
    with pytest.raises(InputError, match="language 'germn': no stemmer .*nearest: german.*known: arabic"):
        bm25.rank(documents, queries, 3, "germn")


def test_the_language_is_part_of_the_point(tmp_path, word_corpus):
    english, german = (
        measure_bm25(tmp_path, Slice(word_corpus, "test", 10), language=language) for language in ("english", "german")
    )
    assert english == measure_bm25(tmp_path, Slice(word_corpus, "test", 10)) != german
    knobs = RecordStore(tmp_path).read().drop_duplicates("point_id").set_index("point_id").knobs
    assert '"language":"german"' in knobs[german] and "language" not in knobs[english]


def run(*argv):
    return cli.run(bm25.main, bm25.parser(), [str(argument) for argument in argv])


def test_command(tmp_path, capsys):
    flags = ("--home", tmp_path, "--corpus", "{name: scenes, concepts: 200}", "--images", 12)
    assert run(*flags, "--profile", "smoke") == 0
    out, err = capsys.readouterr()
    assert out.startswith("bm25, text to image: R@1 ") and err == ""
    assert out.splitlines()[1:] == [
        "words stemmed as english, stop words removed; --language names another language",
        "used scenes, test: 12 images, 60 queries",
    ]
    assert set(RecordStore(tmp_path).read().profile) == {"smoke"}
    assert run(*flags, "--split", "tset") == 2
    assert "unknown split 'tset' (nearest: test" in (err := capsys.readouterr().err) and err.count("\n") == 1
