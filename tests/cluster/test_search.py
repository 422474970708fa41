"""Search over shards on a cluster gives the results of one exact index; partial results are marked."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bench import engines
from bench.engines.indexes import build_index
from bench.engines.shuffled import order
from bench.scale import run as scale
from bench.scale.plan import Grid, plan
from bench.scale.points import Gallery
from bench.scale.sweep import Sweep
from bench.store import cli
from bench.store.isolated import Limits
from bench.store.records import Point, RecordStore
from bench.vectors.nodes import joined
from bench.vectors.read import DenseVectors, LexiconVectors, open_vectors
from bench.vectors.write import write_vectors
from models.errors import InputError
from tests.cluster.nodes import ITEMS, LEXICONS, QUERIES, same, started

pytestmark = pytest.mark.cluster
GRID = Grid(
    rounds=1, seconds=0.05, queries=8, exact_queries=6, scales={8: 100.0}, modes=(("single", 1), ("batched", 1))
)


@pytest.fixture(scope="module")
def two():
    """Two nodes that no test kills."""
    with started(2) as cluster, joined(cluster.address):
        yield cluster


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_shards_give_the_results_of_one_index_ties_included(tmp_path, two, rows, shards):
    def node_and_copy(shard):
        import ray

        return ray.get_runtime_context().get_node_id(), shard.folder

    impacts, queries = LexiconVectors.of(rows.astype(np.uint8)), rows[:QUERIES].astype(np.uint8)
    one = build_index(tmp_path, "scipy", impacts, "lexicon")
    cut = build_index(tmp_path, "sharded-scipy", impacts, "lexicon", shards=shards)
    assert cut.id != one.id and cut.bytes > 0
    with one.open() as whole, cut.open() as sharded:
        same(whole, sharded, queries)
        assert sharded.missing_parts() == "" and 0 < sharded.search_metrics(1)["network_share"] < 1
        where = [actor.__ray_call__.remote(node_and_copy) for actor in sharded._actors.values()]
        on_nodes, copies = zip(*sharded._ray.get(where), strict=True)
        alive = sorted(node["NodeID"] for node in sharded._ray.nodes())
        assert list(on_nodes) == [alive[number % 2] for number in range(shards)] and all(
            copy.is_dir() for copy in copies
        )
    assert not any(copy.exists() for copy in copies)


def test_dense_shards_too(tmp_path, two, rows):
    """Small integers, so that sums are exact in any order; the last component avoids ties, which FAISS breaks."""
    dense = np.hstack([rows.toarray(), np.arange(ITEMS, dtype=np.float32)[:, None] / 1024])
    queries = np.hstack([rows[:QUERIES].toarray(), np.ones((QUERIES, 1), np.float32)])
    one = build_index(tmp_path, "faiss-flat", DenseVectors.of(dense), "dense")
    cut = build_index(tmp_path, "sharded-faiss-flat", DenseVectors.of(dense), "dense", shards=2)
    with one.open() as whole, cut.open() as sharded:
        same(whole, sharded, queries)


def test_errors_of_an_engine_name_the_shard(tmp_path, two, rows):
    with pytest.raises(InputError, match="shard [12]: impact: weights are float32; quantise them"):
        build_index(tmp_path, "sharded-impact", LexiconVectors.of(rows), "floats", shards=2)
    cut = build_index(tmp_path, "sharded-scipy", LexiconVectors.of(rows), "floats", shards=2)
    (cut.folder / "00001" / "data.npy").write_bytes(b"\x93NUMPY broken")
    with pytest.raises(InputError, match=r"shard 2 of 2: .*data\.npy: not a valid"):
        engines.get("sharded-scipy").open(cut.folder)


@pytest.mark.fault("a shard of an index is lost for good")
def test_a_lost_shard_is_named_and_the_others_still_answer(tmp_path, two, rows):
    impacts, queries = LexiconVectors.of(rows.astype(np.uint8)), rows[:QUERIES].astype(np.uint8)
    cut = build_index(tmp_path, "sharded-scipy", impacts, "lexicon", shards=3)
    last = order(ITEMS)[200:]  # items of the third shard: they are shuffled before they are cut
    products = (rows[:QUERIES] @ rows[last].T).toarray()
    best = np.argsort(-products, axis=1, kind="stable")[:, :10]
    with cut.open() as sharded:
        for number in (0, 1):
            sharded._ray.kill(sharded._actors[number], no_restart=True)
        ids, scores = sharded.search(queries, 10)
        assert np.array_equal(ids, last[best])
        assert np.array_equal(scores, np.take_along_axis(products, best, axis=1))
        assert sharded.missing_parts().startswith("shard 1 of 3 is missing (The actor died")
        assert "; shard 2 of 3 is missing" in sharded.missing_parts()
        sharded._ray.kill(sharded._actors[2], no_restart=True)
        with pytest.raises(InputError, match="sharded-scipy: shard 1 of 3 is missing"):
            sharded.search(queries, 10)


# --- the sweep ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory, rows):
    """Documents and queries on disk; item q is relevant to query q."""
    made = {}
    for part, count in (("documents", ITEMS), ("queries", QUERIES)):
        made[part] = tmp_path_factory.mktemp("vectors") / part
        with write_vectors(made[part], "lexicon", LEXICONS, shard_rows=128) as writer:
            names = [f"item{i}" for i in range(count)]
            writer.append(
                rows[:count] / 400, names if part == "documents" else [f"query{i}" for i in range(count)], names
            )
    return made


def test_the_command_records_shards_network_and_the_ranking_of_one_index(tmp_path, two, folders, capsys, monkeypatch):
    monkeypatch.setattr(scale, "build_report", lambda *_: None)
    flags = {"home": tmp_path, "corpus": "vectors", "engines": "scipy", "sizes": ITEMS} | folders
    argv = [word for flag, value in flags.items() for word in (f"--{flag}", value)]
    argv += ["rounds=1", "seconds=0.05", "exact_queries=6", "modes=[[single,1],[batched,1]]"]
    for cluster in ([], ["--ray", two.address, "--shards", 2]):
        assert cli.run(scale.main, scale.parser(), [str(word) for word in [*argv, *cluster]]) == 0, (
            capsys.readouterr().err
        )
    rows = RecordStore(tmp_path).read()
    rows = rows[rows.task.isin(["scale", "sharded"])]
    assert set(rows.status) == {"ok"}, rows.note.tolist()
    one, cut = rows[rows.task == "scale"], rows[rows.task == "sharded"]
    assert set(cut.engine) == {"sharded-scipy"} and {json.loads(knobs)["shards"] for knobs in cut.knobs} == {2}
    assert cut[cut.metric == "network_share"].value.between(0, 1, inclusive="neither").tolist() == [True, True]
    assert "network_share" not in set(one.metric) and "shards" not in one.knobs.iloc[0]
    for metric in ("engine_recall@10", "recall@1", "recall@10", "median_rank"):
        assert cut[cut.metric == metric].value.tolist() == one[one.metric == metric].value.tolist() != []
    assert cut[cut.metric == "qps"].note.str.contains("2 nodes").all()


@pytest.mark.fault("a shard of an index is lost for good while it is measured")
def test_partial_results_are_not_ok(tmp_path, two, folders, monkeypatch):
    """A shard is lost before the first search: the note has the recall of the others, and nothing is timed."""
    documents, queries = open_vectors(folders["documents"]), open_vectors(folders["queries"])
    side = Gallery(documents, "documents", queries, "queries", Point(task="scale", corpus="made", kind="lexicon"))
    [cell] = plan(side.kind, ITEMS, GRID, ["scipy"], largest=False)
    cell = replace(cell, engine="sharded-scipy", knobs={"shards": 3})
    monkeypatch.setattr("bench.scale.sweep.run_job", in_this_process)
    Sweep(RecordStore(tmp_path), tmp_path, side, GRID, Limits(600)).run([cell])
    rows = RecordStore(tmp_path).read()
    assert set(rows.status) == {"failed"} and rows.value.isna().all()
    accuracy, timed = rows[rows.batch_mode == ""], rows[rows.batch_mode != ""]
    note = accuracy.note.iloc[0]
    assert (
        note.startswith("partial: shard 1 of 3 is missing (The actor died") and "without it engine_recall@10 " in note
    )
    assert len(timed) == 2 and timed.note.str.startswith("search: partial: shard 1 of 3 is missing").all()


def in_this_process(job, request, folder, limits):
    """Runs a job as `bench.scale.worker` does, with a shard that dies once the index is open."""
    from bench.scale import worker
    from bench.store.isolated import Outcome
    from models.files import read_json, write_json

    opened = worker.open_index

    def without_the_first_shard(path):
        engine = opened(path)
        if engine.name.startswith("sharded-"):
            engine._ray.kill(engine._actors[0], no_restart=True)
        return engine

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "request.json", request | {"parent": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "open_index", without_the_first_shard)
        patch.setattr("bench.store.isolated.end_with", lambda _: None)
        worker.main(job, folder)
    answer = read_json(folder / "result.json")
    return Outcome(answer["status"], answer["result"], answer["note"])
