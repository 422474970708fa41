import errno
import io
import json
import shutil

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from PIL import Image

from bench.store import cli
from bench.store.records import RecordStore
from bench.tasks import recall
from bench.tasks.examples import matched
from bench.tasks.recall import Setting, main_setting, measure_recall, settings
from bench.tasks.timing import Timing
from models.errors import InputError
from models.pretrained.open_clip import open_clip

SETTINGS = dict(images=60, top_k=(2, 4, 32, None), timing=Timing(queries=8, repeats=1, seconds=0.1), seed=0)


@pytest.fixture(scope="module")
def measured(tmp_path_factory, words_installed):
    """Both models measured over 60 images of the corpus of words: the store, and its rows."""
    home = tmp_path_factory.mktemp("measured")
    store = RecordStore(home)
    with words_installed():
        for kind in ("lexicon", "dense"):
            measure_recall(store, home, home / kind, "words", variant=kind, **SETTINGS)
    return store, store.read()


@pytest.fixture
def copied(measured, tmp_path, words):
    """A home of its own with the same content."""
    shutil.copytree(measured[0].folder.parent, tmp_path / "home")
    return tmp_path / "home"


def values(rows, metric, **filters):
    for column, wanted in filters.items():
        rows = rows[rows[column].isna()] if wanted is None else rows[rows[column] == wanted]
    return rows[rows.metric == metric].value.tolist()


def test_every_step_from_float_search_to_the_index_is_a_point(measured):
    _, rows = measured
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
    assert found == {(direction, *setting) for direction in recall.DIRECTIONS for setting in expected}
    assert len(accuracy) == len(found)
    assert values(
        rows, "recall@1", variant="dense", engine="faiss-flat", bits=None, top_k=None, direction="text_to_image"
    )


def test_values_are_those_of_the_model_by_hand(measured, word_corpus, word_model):
    """R@1 of brute force and of the index, against numpy over the model's own vectors."""
    _, rows = measured
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


def test_per_query_results_give_the_recorded_recall(measured):
    store, rows = measured
    for row in rows[rows.metric == "recall@1"].itertuples():
        queries = store.queries(row.point_id)
        assert len(queries) == row.queries == (120 if row.direction == "text_to_image" else 60)
        assert np.mean([len(ranks) > 0 and ranks[0] == 1 for ranks in queries.ranks]) == pytest.approx(row.value)
        assert (queries.relevant == (1 if row.direction == "text_to_image" else 2)).all()
        assert queries.group.nunique() == 60 and queries.latency_us.isna().all()


def test_rates_are_points_of_their_own(measured):
    store, rows = measured
    timed = rows[rows.batch_mode != ""]
    assert set(timed.metric) == {"qps", "latency_p50_us", "latency_p95_us", "latency_p99_us"}
    assert set(timed.depth) == {10} and set(timed.threads) == {1} and set(timed.direction) == {"text_to_image"}
    single = timed[(timed.batch_mode == "single") & (timed.engine == "impact")].point_id.iloc[0]
    assert (store.queries(single).latency_us > 0).all() and len(store.queries(single)) == 8
    assert rows[rows.metric == "recall@1"].batch_mode.eq("").all()


def test_hard_negatives_count_ties_as_wrong(measured):
    store, rows = measured
    found = rows[(rows.task == "hard_negatives") & (rows.variant == "lexicon")]
    assert set(found.metric) == {f"hard_negative_accuracy{kind}" for kind in ("", "_attribute", "_count", "_relation")}
    queries = store.queries(found.point_id.iloc[0])
    assert not queries.correct[::4].any(), "every fourth negative is the caption itself"
    assert queries.correct.mean() == pytest.approx(found[found.metric == "hard_negative_accuracy"].value.iloc[0])
    assert queries.correct.mean() > 0.6


def test_examples_show_pictures_and_the_lexicons_that_matched(measured):
    store, rows = measured
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


def test_what_is_there_is_not_made_again(copied, words):
    store = RecordStore(copied)
    stamps = {path: path.stat().st_mtime_ns for path in copied.rglob("*.*")}
    again = measure_recall(store, copied, copied / "lexicon", "words", variant="lexicon", **SETTINGS)
    assert words.loads == 0 and {path: path.stat().st_mtime_ns for path in copied.rglob("*.*")} == stamps
    forced = measure_recall(store, copied, copied / "lexicon", "words", variant="lexicon", force=True, **SETTINGS)
    assert words.loads == 1 and set(copied.rglob("*.*")) == set(stamps)
    assert set(again) < set(forced), "the rates of encoding are there only when it was done"
    assert all(
        (store.folder / f"{point}.parquet").stat().st_mtime_ns > stamps[store.folder / f"{point}.parquet"]
        for point in forced
    )


def test_killed_between_points_it_goes_on_where_it_stood(copied, words):
    store = RecordStore(copied)
    before, lost = store.read(), sorted(store.folder.glob("*.parquet"))[::3]
    for path in lost:
        path.unlink()
    for kind in ("lexicon", "dense"):
        measure_recall(store, copied, copied / kind, "words", variant=kind, **SETTINGS)
    after = store.read()
    made_now = before.task == "encoding"  # only when vectors are made
    assert set(after.point_id) >= set(before[~made_now].point_id)
    deterministic = ["recall@1", "median_rank", "index_bytes", "flops_per_pair", "hard_negative_accuracy"]
    pick = lambda rows: rows[rows.metric.isin(deterministic)].set_index(["point_id", "metric"]).value.to_dict()  # noqa: E731
    assert pick(after) == pick(before)


def test_pruned_queries_are_another_point(tmp_path, words):
    store = RecordStore(tmp_path)
    common = dict(images=20, top_k=(8,), timing=False, examples=0, hard_negatives=False)
    whole = measure_recall(store, tmp_path, tmp_path / "lexicon", "words", **common)
    pruned = measure_recall(store, tmp_path, tmp_path / "lexicon", "words", query_top_k=1, **common)
    assert not set(whole) & set(pruned)
    rows = store.read()
    assert values(
        rows,
        "active_lexicons_text",
        engine="impact",
        direction="text_to_image",
        knobs='{"query_top_k":1,"scale":100.0}',
    ) == [1.0]


def test_a_shallow_depth_counts_what_was_not_retrieved_as_beyond(tmp_path, words):
    store = RecordStore(tmp_path)
    measure_recall(store, tmp_path, tmp_path / "dense", "words", images=60, depth=5, timing=False, hard_negatives=False)
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


def test_matched_lexicons_best_first():
    query, document = sp.csr_array(np.array([[3, 0, 2, 1]], np.uint8)), sp.csr_array(np.array([[1, 9, 6, 0]], np.uint8))
    assert matched(query, document, "abcd") == [["c", 2.0, 6.0, 0.8], ["a", 3.0, 1.0, 0.2]]


def run(*argv):
    return cli.run(recall.main, recall.parser(), [str(argument) for argument in argv])


def test_command(tmp_path, words, capsys):
    corpus = ("--corpus", "{name: words, seed: 0}")
    arguments = (
        "--checkpoint",
        tmp_path / "lexicon",
        "--home",
        tmp_path,
        "--images",
        20,
        "--top-k",
        "8,all",
        "--no-timing",
        *corpus,
    )
    assert run(*arguments) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split()[:4] == ["direction", "engine", "top_k", "bits"] and len(out) == 1 + 2 * 4
    rows = RecordStore(tmp_path).read()
    assert set(rows.variant) == {"lexicon"}


def test_a_pre_trained_model_takes_the_same_path(tmp_path, words, capsys):
    """A tiny one of open_clip from a file: encoded, indexed, recorded under its own name; and not both a model and a checkpoint."""
    config = tmp_path / "tiny-recall-clip.json"
    towers = {"layers": 1, "width": 16}
    config.write_text(
        json.dumps(
            {
                "embed_dim": 8,
                "vision_cfg": {"image_size": 16, "patch_size": 8, "head_width": 8, **towers},
                "text_cfg": {"context_length": 8, "vocab_size": 49408, "heads": 2, **towers},
            }
        )
    )
    open_clip.add_model_config(config)
    torch.save(open_clip.create_model(config.stem).state_dict(), tmp_path / "weights.pt")
    model = ("--model", f"open_clip:{config.stem}/{tmp_path / 'weights.pt'}")
    flags = ("--home", tmp_path, "--images", 20, "--no-timing")
    assert run(*model, *flags) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 2
    rows = RecordStore(tmp_path).read()
    assert set(rows.variant) == {"clip_zeroshot:tiny-recall-clip/weights.pt"} and set(rows.kind) == {"dense"}
    assert set(rows[rows.task == "retrieval"].engine) == {"faiss-flat"} and values(rows, "flops_per_pair") == [8.0, 8.0]
    assert rows.checkpoint_id.nunique() == 1 and words.loads == 0
    assert run(*model, *flags, "--precision", "bfloat16") == 0
    assert RecordStore(tmp_path).read().vectors_id.nunique() == 2 * rows.vectors_id.nunique()
    drawn = recall.drawn_at
    assert drawn("scenes", 224) == {"name": "scenes", "pixels": 224} and drawn("none", 224) == "none"
    assert drawn({"name": "scenes", "pixels": 64}, 224) == {"name": "scenes", "pixels": 64}, "what is stated stays"
    with pytest.raises(SystemExit, match="2"):
        run(*model, *flags, "--checkpoint", tmp_path / "dense")


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--top-k", "8,some"], "--top-k 8,some"), (["--top-k", "0"], "at least 1"), (["--images", "0"], "images 0")],
)
def test_bad_flags_are_one_line_and_exit_code_2(tmp_path, words, capsys, flags, message):
    assert run("--checkpoint", tmp_path / "lexicon", "--home", tmp_path, *flags) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_home_that_cannot_be_written_is_one_line(tmp_path, words, capsys):
    (tmp_path / "home").write_text("a file")
    assert run("--checkpoint", tmp_path / "lexicon", "--home", tmp_path / "home", "--images", 5) == 2
    assert "home" in (err := capsys.readouterr().err) and err.count("\n") == 1


def test_a_full_disk_is_one_line_and_what_was_measured_stays(copied, words, monkeypatch, capsys):
    before = len(RecordStore(copied).read())

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert run("--checkpoint", copied / "lexicon", "--home", copied, "--images", 10) == 2
    assert "No space left" in (err := capsys.readouterr().err) and err.count("\n") == 1
    assert len(RecordStore(copied).read()) == before
    assert not list(copied.rglob("*.partial"))


def test_a_missing_checkpoint_is_one_line(tmp_path, capsys):
    assert run("--checkpoint", tmp_path / "none", "--home", tmp_path) == 2
    assert "none" in (err := capsys.readouterr().err) and err.count("\n") == 1


def test_a_truncated_vector_shard_is_named_and_nothing_is_lost(copied, measured):
    shard = next(path for path in (copied / "vectors").rglob("*.weights.npy"))
    shard.write_bytes(shard.read_bytes()[:-4])
    with pytest.raises(InputError, match=shard.name.replace(".", r"\.")):
        measure_recall(RecordStore(copied), copied, copied / "lexicon", "words", variant="lexicon", **SETTINGS)
    assert len(RecordStore(copied).read()) == len(measured[1])
