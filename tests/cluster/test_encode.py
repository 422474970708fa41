"""Encoding over a cluster gives the bytes of one machine, also after a node is killed, and resumes."""

from pathlib import Path

import pytest

from bench.corpora import open_corpus
from bench.store import cli
from bench.vectors import encode
from bench.vectors.encode import encode_slices
from bench.vectors.encoder import Encoder
from bench.vectors.nodes import joined
from tests.cluster.nodes import killing_when, started, until

pytestmark = pytest.mark.cluster
SCENES = {"name": "scenes", "concepts": 10}
SLICES = [("test", 100), ("distractors", 2460)]  # 10 full shards
ROWS = 256


@pytest.fixture(scope="module")
def alone(checkpoints, tmp_path_factory):
    """A home with the vectors of one machine."""
    home = tmp_path_factory.mktemp("alone")
    encode_slices(home, encoders(checkpoints), open_corpus(SCENES), SLICES, shard_rows=ROWS)
    return home


def encoders(checkpoints):
    return {folder.name: Encoder(folder) for folder in checkpoints}


def content(home):
    """Bytes of all vector files by path."""
    return {
        str(path.relative_to(home)): path.read_bytes() for path in sorted(home.glob("vectors/**/*")) if path.is_file()
    }


@pytest.mark.fault("a node of a cluster is killed while it encodes")
@pytest.mark.parametrize("count", [2, 4])
def test_a_killed_node_changes_no_byte(tmp_path, checkpoints, alone, count):
    with started(count) as cluster, joined(cluster.address) as nodes:
        assert nodes.cores == count
        victim = sorted(cluster.worker_nodes, key=lambda node: node.node_id)[0]
        with killing_when(lambda: len(list(tmp_path.glob("vectors/*.parts/00001.json"))) == 2, cluster, victim):
            made = encode_slices(
                tmp_path, encoders(checkpoints), open_corpus(SCENES), SLICES, shard_rows=ROWS, nodes=nodes
            )
        until(lambda: nodes.cores == count - 1)  # Ray may notice the death after the work is done
    assert content(tmp_path) == content(alone) and len(list(tmp_path.glob("vectors/*"))) == 4
    assert made["clip"].images.count == 2560 and len(made["clip"].images.meta["shards"]) == 10


def test_two_nodes_resume_what_one_machine_began(tmp_path, checkpoints, capsys):
    """One machine makes the first shard and fails at a broken image; two nodes make the rest, in the same batches."""
    corpus = open_corpus(SCENES)
    images = corpus.images

    def broken(split, start, stop):
        if start >= 512:
            raise RuntimeError("a broken image")
        return images(split, start, stop)

    corpus.images = broken
    with pytest.raises(RuntimeError, match="a broken image"):
        encode_slices(tmp_path / "two", encoders(checkpoints[:1]), corpus, [("test", 700)], shard_rows=ROWS)
    [first] = tmp_path.glob("two/vectors/*.parts/00000.indptr.npy")
    stamp = first.stat().st_mtime_ns
    encode_slices(tmp_path / "one", encoders(checkpoints[:1]), open_corpus(SCENES), [("test", 700)], shard_rows=ROWS)
    with started(2) as cluster:
        argv = [
            "--home",
            tmp_path / "two",
            "--checkpoint",
            checkpoints[0],
            "--corpus",
            SCENES,
            "--images",
            700,
            "--shard-rows",
            ROWS,
        ]
        argv += ["--ray", cluster.address]
        assert cli.run(encode.main, encode.parser(), [str(word) for word in argv]) == 0, capsys.readouterr().err
        assert "700 images" in capsys.readouterr().out
    assert content(tmp_path / "two") == content(tmp_path / "one")
    assert stamp in {path.stat().st_mtime_ns for path in Path(tmp_path / "two").glob("vectors/*/00000.indptr.npy")}
