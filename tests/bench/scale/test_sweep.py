"""The sweep on small vectors, through real workers and the real command."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from bench import engines
from bench.scale import run as scale
from bench.scale import sweep
from bench.scale.plan import Grid, LeastBatch, Lexicons, plan
from bench.scale.sweep import Side, Sweep
from bench.store import cli, sizes
from bench.store.isolated import Limits, Outcome
from bench.store.records import Point, RecordStore
from bench.vectors.read import open_vectors, write_vectors
from models.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
ITEMS, QUERIES, LEXICONS = 300, 40, 50
GRID = Grid(rounds=2, seconds=0.02, queries=8, checked=6, scales={8: 100.0}, modes=(("single", 1), ("batched", 1)))


def lexicon_rows(count, seed):
    rng = np.random.default_rng(seed)
    rows = sp.random_array((count, LEXICONS), density=0.2, random_state=rng, dtype=np.float32, format="csr")
    return sp.csr_array(rows / np.maximum(1e-6, np.sqrt(rows.multiply(rows).sum(axis=1)))[:, None])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Documents and queries on disk, lexicon and dense; query q belongs to item q."""
    made = {}
    for kind in ("lexicon", "dense"):
        for part, count, seed in (("documents", ITEMS, 0), ("queries", QUERIES, 0)):
            rows = lexicon_rows(count if part == "documents" else ITEMS, seed)[:count]
            rows = rows if kind == "lexicon" else rows.toarray()[:, :16] + 0.01
            folder = tmp_path_factory.mktemp(kind) / part
            with write_vectors(folder, kind, rows.shape[1], shard_rows=100) as writer:
                names = [f"item{i}" for i in range(count)]
                writer.append(rows, names if part == "documents" else [f"query{i}" for i in range(count)], names)
            made[kind, part] = folder
    return made


def side_of(folders, kind):
    documents, queries = open_vectors(folders[kind, "documents"]), open_vectors(folders[kind, "queries"])
    return Side(
        documents, f"{kind} documents", queries, f"{kind} queries", Point(task="scale", corpus="made", kind=kind)
    )


def value(rows, metric, **filters):
    for column, wanted in filters.items():
        rows = rows[rows[column] == wanted]
    found = rows[rows.metric == metric].value.tolist()
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(scope="module")
def swept(folders, tmp_path_factory):
    """Both sides swept whole: the home, and its rows."""
    home = tmp_path_factory.mktemp("swept")
    store = RecordStore(home)
    for kind, names in (("lexicon", ["impact", "dummy"]), ("dense", ["faiss-flat"])):
        side = side_of(folders, kind)
        Sweep(store, home, side, GRID, Limits(60)).run(plan(side.kind, 200, GRID, names, largest=False))
    return home, store.read()


def test_accuracy_and_sizes_are_those_of_the_index(swept, folders):
    home, rows = swept
    accuracy = rows[rows.batch_mode == ""]
    assert value(accuracy, "recall@1", engine="impact") == 1.0  # a query is its own item
    assert (
        value(accuracy, "engine_recall@10", engine="impact")
        == value(accuracy, "engine_recall@10", engine="faiss-flat")
        == 1.0
    )
    assert value(accuracy, "engine_recall@10", engine="dummy") < 0.5
    size = sum(file.stat().st_size for file in (home / "indexes").rglob("flat.faiss"))
    assert value(accuracy, "index_bytes", engine="faiss-flat") == size
    assert value(accuracy, "bytes_per_image", engine="faiss-flat") == size / 200
    assert value(accuracy, "touched_bytes", engine="impact") > 0
    assert set(accuracy.images) == {200} and set(accuracy.queries) == {GRID.queries}


def test_rates_are_of_all_rounds(swept):
    _, rows = swept
    timed = rows[rows.batch_mode != ""]
    single = timed[(timed.engine == "impact") & (timed.batch_mode == "single")]
    assert set(single.metric) == {
        "qps",
        "qps_min",
        "qps_max",
        "latency_p50_us",
        "latency_p95_us",
        "latency_p99_us",
        "limit_qps",
    }
    least, middle, most = (value(single, name) for name in ("qps_min", "qps", "qps_max"))
    assert least <= middle <= most and middle == pytest.approx((least + most) / 2)  # of two rounds
    assert "median of 2 rounds" in single.note.iloc[0]
    assert set(timed[timed.engine == "faiss-flat"].batch_mode) == {"single", "batched"}
    # the harness alone answers faster than any engine
    assert value(timed, "qps", engine="dummy", batch_mode="batched") > value(
        timed, "qps", engine="impact", batch_mode="batched"
    )


def test_the_table_keeps_corpora_apart(swept):
    _, rows = swept
    flat = rows[rows.engine == "faiss-flat"]
    twin = flat.assign(corpus="synthetic:scenes", point_id="twin " + flat.point_id)
    lines, one = scale.table(pd.concat([flat, twin])).splitlines(), scale.table(flat).splitlines()
    assert [line.endswith("synthetic:scenes") for line in lines] == [False, False, True, False]
    assert lines[1] == lines[3] == one[1] and lines[1].count("single x1") == 1


def test_what_is_measured_is_not_measured_again(swept, folders, monkeypatch):
    home, rows = swept
    monkeypatch.setattr(sweep, "run_job", lambda *_: pytest.fail("a job was run"))
    side = side_of(folders, "lexicon")
    Sweep(RecordStore(home), home, side, GRID, Limits(60)).run(
        plan(side.kind, 200, GRID, ["impact", "dummy"], largest=False)
    )
    assert len(RecordStore(home).read()) == len(rows)


def test_answers_to_another_question_are_not_taken_up(folders, tmp_path):
    """A sweep of other queries over the same index: its job was thought to be done, and its ids belonged to the queries of before."""
    side = side_of(folders, "lexicon")
    for queries in (8, 5):
        grid = replace(GRID, rounds=1, queries=queries)
        Sweep(RecordStore(tmp_path), tmp_path, side, grid, Limits(60)).run(
            plan(side.kind, 200, grid, ["impact"], largest=False)
        )
    rows = RecordStore(tmp_path).read()
    accuracy = rows[(rows.batch_mode == "") & (rows.metric == "recall@1")]
    assert sorted(accuracy.queries) == [5, 8] and set(accuracy.value) == {1.0}
    assert all(
        f"{queries} queries a round" in note
        for queries, note in rows[rows.metric == "qps"][["queries", "note"]].itertuples(index=False)
    )


def test_the_plan_sweeps_settings_at_the_largest_size_only(folders):
    grid = replace(GRID, top_k=(4, 32), bits=(8, 16), query_top_k=(2, None))
    side = side_of(folders, "lexicon")
    assert [cell.lexicons for cell in plan(side.kind, 100, grid, ["impact"], largest=False)] == [Lexicons(32, 8, None)]
    settings = [cell.lexicons for cell in plan(side.kind, 100, grid, ["impact"], largest=True)]
    assert settings == [Lexicons(32, 8, None), Lexicons(4, 8, None), Lexicons(32, 16, None), Lexicons(32, 8, 2)]
    assert plan(side.kind, 100, grid, ["faiss-flat"], largest=True) == []


def test_a_slow_engine_is_timed_over_smaller_batches(folders, tmp_path):
    """A batch is what is answered one by one in `batch_seconds`, within the least and all."""
    side, asked = side_of(folders, "lexicon"), []
    for seconds in (0.0, 1e6):
        grid, home = (
            replace(GRID, rounds=1, batch_seconds=seconds, least_batch=LeastBatch(3, 3)),
            tmp_path / str(seconds),
        )
        Sweep(RecordStore(home), home, side, grid, Limits(60)).run(
            plan(side.kind, 200, grid, ["impact"], largest=False)
        )
        rows = RecordStore(home).read()
        asked.append(rows[(rows.batch_mode == "batched") & (rows.metric == "qps")].note.iloc[0])
    assert "3 queries a round" in asked[0] and "8 queries a round" in asked[1]


def test_both_sides_take_turns_in_a_round(folders, tmp_path, monkeypatch):
    """Dense indexes used to be timed when all rounds of the lexicon ones were over."""
    timed, real = [], sweep.run_job

    def watched(job, request, folder, limits):
        timed.extend([request["folder"]] if job == "timing" else [])
        return real(job, request, folder, limits)

    monkeypatch.setattr(sweep, "run_job", watched)
    sides = []
    for kind, names in (("lexicon", ["impact", "dummy"]), ("dense", ["faiss-flat"])):
        side = side_of(folders, kind)
        sides.append(
            (
                Sweep(RecordStore(tmp_path), tmp_path, side, GRID, Limits(60)),
                plan(side.kind, 60, GRID, names, largest=False),
            )
        )
    spent = sweep.take_turns(sides)
    assert [json.loads((Path(folder) / "index.json").read_text())["made_from"]["engine"] for folder in timed] == [
        "impact", "faiss-flat", "dummy",
    ] * 2  # fmt: skip
    assert all(seconds > 0 for of_side in spent for seconds in of_side.values())
    assert set(RecordStore(tmp_path).read().status) == {"ok"}


def test_smaller_sizes_are_measured_at_the_first_knobs(folders):
    side = side_of(folders, "dense")
    (small,), large = (
        plan(side.kind, 100, GRID, ["faiss-rabitq"], largest=False),
        plan(side.kind, 100, GRID, ["faiss-rabitq"], largest=True),
    )
    assert [cell.knobs for cell in large] == engines.grid("faiss-rabitq", "build") and len(large) > 1
    assert all(cell.searches == engines.grid("faiss-rabitq", "search") for cell in large) and len(large[0].searches) > 1
    assert small.knobs == large[0].knobs and small.searches == large[0].searches[:1]


def test_knobs_of_an_engine_in_place_of_those_that_are_swept(tmp_path):
    grid = Grid.read(overrides=("knobs.faiss-ivf-pq={refine: [null], nprobe: [8, 2]}",))
    cells = plan("dense", 100, grid, ["faiss-ivf-pq", "faiss-hnsw"], largest=True)
    assert [cell.knobs for cell in cells] == [{"per_code": 2, "refine": None}, *engines.grid("faiss-hnsw", "build")]
    assert [search["nprobe"] for search in cells[0].searches] == [8, 2]
    assert [cell.searches for cell in plan("dense", 100, grid, ["faiss-ivf-pq"], largest=False)] == [
        cells[0].searches[:1]
    ]


def test_an_engine_that_takes_no_impacts_gets_pruned_floats(folders, monkeypatch):
    monkeypatch.setattr(engines.get("scipy").__class__, "weights", (None,))
    assert [cell.lexicons for cell in plan("lexicon", 100, GRID, ["scipy"], largest=False)] == [
        Lexicons(32, None, None)
    ]


@pytest.mark.parametrize(
    ("job", "status"), [("build", "absent"), ("build", "timeout"), ("accuracy", "failed"), ("timing", "out_of_memory")]
)
def test_how_a_job_ended_is_a_record_and_the_others_go_on(folders, tmp_path, monkeypatch, job, status):
    real = sweep.run_job

    def run(name, request, folder, limits):
        broken = name == job and "dummy" in (request.get("engine"), cell_of(request))
        return Outcome(status, {}, "as it was") if broken else real(name, request, folder, limits)

    def cell_of(request):
        about = Path(request.get("folder", "nowhere")) / "index.json"
        return json.loads(about.read_text())["made_from"]["engine"] if about.exists() else None

    monkeypatch.setattr(sweep, "run_job", run)
    store, side = RecordStore(tmp_path), side_of(folders, "dense")
    grid = replace(GRID, rounds=1)
    Sweep(store, tmp_path, side, grid, Limits(60)).run(
        plan(side.kind, 60, grid, ["dummy", "faiss-flat"], largest=False)
    )
    rows = store.read()
    of_dummy, of_flat = rows[rows.engine == "dummy"], rows[rows.engine == "faiss-flat"]
    assert set(of_flat.status) == {"ok"} and set(of_flat.batch_mode) == {"", "single", "batched"}
    assert set(of_dummy.batch_mode) == {"", "single", "batched"}
    failed = of_dummy[of_dummy.status == status]
    assert set(failed.batch_mode) == ({"single", "batched"} if job == "timing" else {"", "single", "batched"})
    assert failed.note.str.endswith("as it was").all() and failed.value.isna().all()

    monkeypatch.setattr(sweep, "run_job", real)
    Sweep(store, tmp_path, side, grid, Limits(60)).run(
        plan(side.kind, 60, grid, ["dummy", "faiss-flat"], largest=False)
    )
    again = store.read()
    expected = {"ok"} if status == "absent" else set(of_dummy.status)
    assert set(again[again.engine == "dummy"].status) == expected, "what was absent may have been installed"


def command(folders, home):
    parts = [
        "--documents",
        str(folders["lexicon", "documents"]),
        "--queries",
        str(folders["lexicon", "queries"]),
        "--home",
        str(home),
    ]
    grid = [
        "rounds=1",
        "seconds=0.02",
        "queries=8",
        "checked=6",
        "top_k=[4]",
        "bits=[8]",
        "query_top_k=[null]",
        "modes=[[single,1]]",
    ]
    return [
        sys.executable,
        "-m",
        "bench.scale",
        "--corpus",
        "vectors",
        "--sizes",
        "300",
        "--engines",
        "impact",
        *parts,
        *grid,
    ]


@pytest.mark.fault("kill -9 of all processes of a sweep, three times")
def test_killed_three_times_it_ends_with_the_same_records(folders, tmp_path):
    done = subprocess.run(command(folders, tmp_path / "whole"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    home, kills = tmp_path / "killed", 0
    while kills < 3:
        process = subprocess.Popen(command(folders, home), cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
        answers = len(list(home.glob("sweeps/*/*/outcome.json")))
        while process.poll() is None and len(list(home.glob("sweeps/*/*/outcome.json"))) < answers + 1:
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert subprocess.run(command(folders, home), cwd=ROOT, capture_output=True, check=False).returncode == 0
    whole, killed = (RecordStore(tmp_path / name).read() for name in ("whole", "killed"))
    assert len(whole) and set(whole.status) == {"ok"}
    assert killed[["point_id", "metric"]].equals(whole[["point_id", "metric"]])
    assert "impact" in (home / "site" / "scale.html").read_text(encoding="utf-8")  # the command ends with the page


@pytest.mark.parametrize(
    ("text", "size"), [("1M", 10**6), ("250k", 250_000), ("5000", 5000), ("1.5m", 1_500_000), (" 10K ", 10_000)]
)
def test_sizes_as_people_write_them(text, size):
    assert sizes.number(text) == size


@pytest.mark.parametrize("text", ["", "M", "-5", "1G", "0", "0.5", "1.0001k5", "ten"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(InputError, match="expected a number of images"):
        sizes.number(text)


def test_sizes_are_the_decades_below():
    assert sizes.sizes_up_to(250_000) == [1000, 10_000, 100_000, 250_000]
    assert sizes.sizes_up_to(1000) == [1000]
    assert sizes.sizes_up_to(500) == [500]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--corpus", "lots"], "expected a number of images"),
        (["--corpus", "vectors"], "name both --documents FOLDER and --queries FOLDER"),
        (["--engines", "impct"], "unknown engine 'impct' (nearest: impact"),
        (["rounds=many"], "rounds"),
        (["rouns=1"], "unknown key rouns (nearest: rounds"),
        (["knobs.faiss-hsnw.ef=[1]"], "unknown engine 'faiss-hsnw' (nearest: faiss-hnsw"),
        (["knobs.faiss-hnsw.efs=[1]"], "knobs.faiss-hnsw.efs: no such knob; expected m, ef_construction, ef"),
        (["knobs.impact.ef=[1]"], "expected none, it has no knobs"),
        (["knobs.faiss-hnsw.ef=[]"], "knobs.faiss-hnsw.ef: expected at least one value"),
        (["knobs.faiss-hnsw.ef=64"], "knobs.faiss-hnsw.ef"),
        (["--corpus", "1k", "--lexicon", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(flags, message, tmp_path, capsys):
    assert cli.run(scale.main, scale.parser(), ["--home", str(tmp_path), *flags]) == cli.BAD_INPUT
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
