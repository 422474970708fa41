"""Parts that need no cluster: merging shards, addresses, a missing Ray, and imports."""

import pickle
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bench import engines
from bench.corpora import open_corpus
from bench.engines import ranking
from bench.engines.sharded import Sharded, merge
from bench.scale import run as scale
from bench.scale import worker
from bench.scale.plan import Grid, plan
from bench.scale.points import Gallery
from bench.scale.sweep import Sweep
from bench.store import cli
from bench.store.isolated import Limits, Outcome
from bench.store.records import Point, RecordStore
from bench.vectors import encode
from bench.vectors import nodes as cluster
from bench.vectors.read import DenseVectors, open_vectors
from bench.vectors.write import write_vectors
from models.errors import AbsentError, InputError
from models.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[3]


@given(st.data())
def test_the_top_k_of_shards_is_that_of_the_whole_ties_and_padding_included(data):
    """Against a stable sort of all (score, id). Few distinct scores, so most tie; lexicon engines omit scores of 0."""
    count, queries, k = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 50))
    scores = np.array(
        data.draw(st.lists(st.integers(0, 3), min_size=count * queries, max_size=count * queries)), np.float32
    )
    scores, lexicon = scores.reshape(queries, count), data.draw(st.booleans())
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, count - 1)), max_size=5)) - {count})
    parts = []
    for start, stop in zip([0, *cuts], [*cuts, count], strict=True):
        ids, best = ranking.top_k(scores[:, start:stop], k, positive=lexicon)
        parts.append((np.where(ids < 0, ids, ids + start), best))
    ids, best = merge(data.draw(st.permutations(parts)), k)
    for query, row in enumerate(scores):
        whole = sorted((-score, item) for item, score in enumerate(row.tolist()) if score > 0 or not lexicon)[:k]
        padding = k - len(whole)
        assert ids[query].tolist() == [item for _, item in whole] + [-1] * padding
        assert best[query].tolist() == [-negative for negative, _ in whole] + [-np.inf] * padding
    assert ids.dtype == np.int64 and best.dtype == np.float32


@pytest.mark.parametrize("address", ["nonsense", "ray://host:10001", "host:", ":6379", "host:six"])
def test_a_malformed_address_is_refused(address):
    with (
        pytest.raises(InputError, match=rf"--ray {address}: expected HOST:PORT, auto or local"),
        cluster.joined(address),
    ):
        pytest.fail("not reached")


def test_a_port_where_nothing_listens_is_one_line_and_exit_code_2(tmp_path, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"  # bound, so nobody else takes it, and not listening
        for main, parser, flags in (
            (encode.main, encode.parser(), ["--checkpoint", "none"]),
            (scale.main, scale.parser(), ["--corpus", "vectors"]),
        ):
            assert cli.run(main, parser, ["--home", str(tmp_path / "home"), "--ray", address, *flags]) == 2
            err = capsys.readouterr().err
            assert f"--ray {address}: nothing answers there" in err and err.count("\n") == 1


def test_without_ray_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(AbsentError, match=r"'ray' is not installed; pip install 'lexlip-bench\[cluster\]'"),
        cluster.joined("local"),
    ):
        pytest.fail("not reached")


@pytest.mark.parametrize("flags", [["--shards", "2"], ["--shards", "0", "--ray"]])
def test_shards_need_a_cluster_and_are_at_least_one(tmp_path, capsys, flags):
    assert cli.run(scale.main, scale.parser(), ["--home", str(tmp_path), *flags]) == 2
    assert "expected at least 1, together with --ray" in capsys.readouterr().err


def test_more_shards_than_items_are_refused(tmp_path):
    vectors = DenseVectors.of(np.eye(3, dtype=np.float32))
    with pytest.raises(InputError, match="4 shards of 3 items"):
        engines.get("sharded-faiss-flat").build(vectors, tmp_path, shards=4)


def test_an_engine_in_shards_is_as_the_engine_and_has_its_code():
    for name in ("impact", "faiss-flat", "dummy"):
        of, sharded = engines.get(name), engines.get(f"sharded-{name}")
        assert isinstance(sharded, Sharded) and sharded.name == f"sharded-{name}"
        assert (sharded.kind, sharded.exact, sharded.weights) == (of.kind, of.exact, of.weights)
        assert set(engines.modules(name)) < set(engines.modules(f"sharded-{name}"))
    with pytest.raises(InputError, match="unknown engine 'impcat' .nearest: impact"):
        engines.get("sharded-impcat")


def test_the_share_outside_the_shards_own_search():
    sharded = engines.get("sharded-dummy")
    sharded.calls = [(100.0, 1.0), (2.0, 1.5), (2.0, 0.5)]  # the first a warm-up
    assert sharded.search_metrics(2) == {"network_share": 0.5}


def in_this_process(job, request, folder, limits):
    """Runs a job as `bench.scale.worker` does."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "request.json", request | {"parent": 0})
    worker.main(job, folder)
    answer = read_json(folder / "result.json")
    return Outcome(answer["status"], answer["result"], answer["note"])


def test_partial_results_are_told_and_not_ok(tmp_path, monkeypatch):
    """An engine without a shard still answers: the note has its recall, no point is "ok", and nothing is timed."""
    rows = sp.random_array((60, 20), density=0.3, random_state=np.random.default_rng(0), dtype=np.float32, format="csr")
    rows = sp.csr_array(
        rows / np.maximum(1e-6, np.sqrt(rows.multiply(rows).sum(axis=1)))[:, None]
    )  # a query is nearest to its own item
    for part, count in (("documents", 60), ("queries", 8)):
        with write_vectors(tmp_path / part, "lexicon", 20) as writer:
            writer.append(rows[:count], [f"{part}{i}" for i in range(count)], [f"item{i}" for i in range(count)])
    monkeypatch.setattr("bench.store.isolated.end_with", lambda _: None)
    monkeypatch.setattr("bench.scale.sweep.run_job", in_this_process)
    monkeypatch.setattr(
        "bench.engines.lexicon.scipy_product.ScipyProduct.missing_parts", lambda _: "shard 1 of 3 is missing (gone)"
    )
    documents, queries = open_vectors(tmp_path / "documents"), open_vectors(tmp_path / "queries")
    side = Gallery(documents, "documents", queries, "queries", Point(task="scale", corpus="made", kind="lexicon"))
    grid = Grid(rounds=1, queries=8, exact_queries=6, scales={8: 100.0}, modes=(("single", 1), ("batched", 1)))
    Sweep(RecordStore(tmp_path), tmp_path, side, grid, Limits(60)).run(
        plan(side.kind, 60, grid, ["scipy"], largest=False)
    )
    found = RecordStore(tmp_path).read()
    assert set(found.status) == {"failed"} and found.value.isna().all()
    accuracy, timed = found[found.batch_mode == ""], found[found.batch_mode != ""]
    expected = "partial: shard 1 of 3 is missing (gone); without it engine_recall@10 1.0000, recall@1 1.0000"
    assert set(accuracy.note) == {expected}
    assert len(timed) == 2 and set(timed.note) == {"search: partial: shard 1 of 3 is missing (gone)"}


def test_an_unpickled_corpus_of_files_is_reopened_and_must_be_identical(tmp_path):
    (tmp_path / "captions.csv").write_text(
        "path,caption,split\n" + "".join(f"{i}.png,number {i},test\n" for i in range(3))
    )
    for i in range(3):
        Image.new("RGB", (32, 32), (i, i, i)).save(tmp_path / f"{i}.png")
    corpus = open_corpus({"name": "folder", "annotations": str(tmp_path / "captions.csv"), "pixels": 32})
    list(corpus.images("test"))  # which makes what cannot be sent
    sent = pickle.dumps(corpus)
    there = pickle.loads(sent)
    assert (there.name, there.fingerprint, there.splits) == (corpus.name, corpus.fingerprint, corpus.splits)
    for (name, image), (expected, same) in zip(there.images("test", 1), corpus.images("test", 1), strict=True):
        assert name == expected and np.array_equal(image, same)
    (tmp_path / "captions.csv").write_text("path,caption,split\n0.png,number 0,test\n")
    with pytest.raises(InputError, match="corpus captions: its files on .* differ from those that the run"):
        pickle.loads(sent).images("test")


def test_ray_and_torch_are_imported_only_when_used():
    code = "import sys, bench.scale, bench.scale.worker, bench.engines.sharded, bench.vectors.encode\n"
    code += "sys.exit('ray' in sys.modules or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
