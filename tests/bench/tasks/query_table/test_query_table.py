"""The command on a tiny model: records of each kind of queries against brute force, files, errors in one line."""

import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from bench.__main__ import main
from bench.scale.galleries.own import own_galleries
from bench.store.records import RecordStore
from bench.tasks.query_table.encoder import TableEncoder
from bench.tasks.query_table.pairs import MOST_IMAGES, images_to_learn_from
from bench.vectors.impacts import prune, quantise
from bench.vectors.read import open_vectors
from models import checkpoint
from models.errors import InputError
from models.files import read_json
from models.query_table import METHODS
from tests.bench.tasks.conftest import IMAGES, SPEC, TOP_K

KINDS = ("encoder", *METHODS)
LEARN = ["--train-images", "12", "--steps", "3", "--batch", "6"]


def command(home, model, *more: str) -> list[str]:
    flags = ["--home", str(home), "--checkpoint", str(model), "--corpus", json.dumps(SPEC), "--images", str(IMAGES)]
    return ["query-table", *flags, *LEARN, *more]


@pytest.fixture(scope="module")
def made(tiny_models, tmp_path_factory):
    """The command run once: its home, what it printed, and its rows by kind of queries."""
    home = tmp_path_factory.mktemp("tables")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(command(home, tiny_models["lexicon"])) == 0
    rows = RecordStore(home).read()
    rows = rows[rows.task == "query_table"]
    by_kind = {json.loads(knobs)["queries"]: part for knobs, part in rows.groupby("knobs")}
    return SimpleNamespace(home=home, lines=out.getvalue().splitlines(), rows=by_kind)


def printed(made, name: str) -> str:
    """The folder that the command printed after a name."""
    return next(line.removeprefix(name).strip() for line in made.lines if line.startswith(name))


def values(made, kind: str, batch_mode: str = "") -> dict:
    rows = made.rows[kind]
    return rows[rows.batch_mode == batch_mode].set_index("metric").value.to_dict()


def test_a_line_and_two_points_for_each_kind(made):
    assert [line.split()[0] for line in made.lines[1:5]] == list(KINDS)
    assert made.lines[-1].startswith(f"used scenes, test: {IMAGES} images, {5 * IMAGES} queries")
    assert sorted(made.rows) == sorted(KINDS)
    for kind, rows in made.rows.items():
        assert rows.point_id.nunique() == 2
        assert {(*row,) for row in rows[["engine", "top_k", "bits", "kind", "direction"]].to_numpy()} == {
            ("impact", TOP_K, 8, "lexicon", "text_to_image")
        }
        knobs = json.loads(rows.knobs.iloc[0])
        assert knobs == {"queries": kind} | ({} if kind == "encoder" else {"table": TableEncoder(table(made, kind)).id})


def table(made, kind: str) -> str:
    return printed(made, f"{kind}: table ")


@pytest.mark.parametrize("kind", KINDS)
def test_recall_and_cost_are_those_of_brute_force(made, kind):
    """Ties of integer scores are broken by the index, so ranks of tied images are compared as bounds."""
    images, queries = open_vectors(printed(made, "images ")), open_vectors(printed(made, f"{kind}: queries "))
    assert queries.count == 5 * IMAGES
    documents_NV = quantise(prune(images.to_scipy(), TOP_K)).toarray().astype(int)
    queries_QV = quantise(queries.to_scipy()).toarray().astype(int)
    scores_QN = queries_QV @ documents_NV.T
    own = np.array([images.ids.index(group) for group in queries.groups])
    own_Q1 = scores_QN[np.arange(len(own)), own][:, None]
    best = ((scores_QN > own_Q1).sum(axis=1) == 0) & (own_Q1[:, 0] > 0)
    alone = best & ((scores_QN == own_Q1).sum(axis=1) == 1)
    found = values(made, kind)
    assert alone.mean() <= found["recall@1"] <= best.mean()
    assert found["active_lexicons_text"] == pytest.approx((queries_QV > 0).sum(axis=1).mean())
    shares = (queries_QV > 0).mean(axis=0), (documents_NV > 0).mean(axis=0)
    assert found["flops_per_pair"] == pytest.approx(np.dot(*shares))


def test_times_from_text_to_ids_have_two_parts(made):
    for kind in KINDS:
        found = values(made, kind, "single")
        names = ("end_to_end", "encode_text_latency", "latency")
        assert set(found) == {f"{name}_p{share}_us" for name in names for share in (50, 95, 99)}
        assert found["end_to_end_p95_us"] >= max(found["latency_p50_us"], found["encode_text_latency_p50_us"])
        assert made.rows[kind][made.rows[kind].batch_mode == "single"].threads.eq(1).all()


def test_captions_by_idf_are_typed_words_and_learned_ones_have_their_pattern(made, scenes, tiny_models):
    captions = [text for _, text, _ in scenes.captions("test", 0, IMAGES)]
    expected = checkpoint.load(tiny_models["lexicon"]).encode_words(captions).numpy()
    found = {kind: open_vectors(printed(made, f"{kind}: queries ")) for kind in METHODS}
    np.testing.assert_allclose(found["idf"].to_scipy().toarray(), expected, atol=1e-6)
    for method in ("learned", "free"):
        learned = found[method].to_scipy().toarray()
        assert ((learned > 0) == (expected > 0)).all() and not np.allclose(learned, expected)
        assert found[method].ids == found["idf"].ids


def test_a_table_holds_where_it_comes_from(made, tiny_models):
    for method in METHODS:
        about = read_json(f"{table(made, method)}/table.json")
        assert about["made_from"]["checkpoint"] == checkpoint.fingerprint(tiny_models["lexicon"])
        assert about["method"] == about["made_from"]["method"] == method
    assert about["made_from"]["images"] == 12 and about["made_from"]["learning"]["steps"] == 3


def test_the_vectors_can_be_swept(made):
    """`bench.scale --corpus vectors` measures recall over them, since captions name their image."""
    sides = {"documents": "images ", "queries": "learned: queries "}
    folders = {side: [Path(printed(made, name))] for side, name in sides.items()}
    (gallery,) = own_galleries(SimpleNamespace(name="", **folders))
    assert gallery.has_qrels and gallery.judged == IMAGES


def test_nothing_is_made_twice_and_force_makes_it_again(made, tiny_models, capsys):
    def times() -> dict:
        folders = [made.home / "results", *(made.home / "query_tables").iterdir()]
        return {file: file.stat().st_mtime_ns for folder in folders for file in folder.iterdir()}

    before, ids = times(), {kind: TableEncoder(table(made, kind)).id for kind in METHODS}
    assert main(command(made.home, tiny_models["lexicon"])) == 0
    assert times() == before
    assert main(command(made.home, tiny_models["lexicon"], "--force", "--no-timing")) == 0
    after = times()
    assert set(after) == set(before) and all(
        after[file] > before[file] for file in before if file.parent.parent.name == "query_tables"
    )
    assert {kind: TableEncoder(table(made, kind)).id for kind in METHODS} == ids, "the same weights again"
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("free ")]
    assert [line[-3:] == ["-", "-", "-"] for line in lines] == [False, True], "the second asked for no times"


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("dense", [], "a model of dense vectors; expected a model of lexicon vectors"),
        ("lexicon", ["--steps", "0"], "expected at least 1"),
        ("lexicon", ["--train-images", "1"], "--train-images 1: expected at least 2"),
        ("lexicon", ["--train-images", "all"], "is endless; give a number"),
        ("lexicon", ["--checkpoint", "/nowhere"], "/nowhere"),
    ],
)
def test_bad_input_ends_in_one_line(tiny_models, tmp_path, capsys, kind, more, message):
    assert main(command(tmp_path, tiny_models[kind], *more)) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and len(error.strip().splitlines()) == 1


def test_a_corpus_without_train_is_refused(tmp_path):
    with pytest.raises(InputError, match="train"):
        images_to_learn_from(SimpleNamespace(name="own", splits=("all",)), tmp_path, None)


def test_as_many_images_as_the_run_had(scenes, tmp_path):
    best = tmp_path / "run" / "best"
    best.mkdir(parents=True)
    assert images_to_learn_from(scenes, best, None) == MOST_IMAGES
    for of_run, expected in ((700, 700), (10**6, MOST_IMAGES)):
        (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({"data": {"train_images": of_run}}))
        assert images_to_learn_from(scenes, best, None) == expected
        assert images_to_learn_from(scenes, best, 50) == 50
