"""Files that this project writes: checkpoints, vectors, records. A changed byte is refused."""

import json
import shutil

import numpy as np

from bench.store.config import fingerprint
from bench.store.records import Point, RecordStore
from bench.vectors import read as vectors_module
from bench.vectors.read import open_vectors
from bench.vectors.write import write_vectors
from models.config import BottleneckConfig, ImageConfig, LexLIPConfig, ModelConfig, MomentumConfig, TextConfig
from models.files import sha256
from models.query_table.table import QueryTable
from models.tokenizer import LexiconTokenizer
from tests.fuzz.targets.target import CAPTIONS, Target


def tiny_model():
    """The smallest model that has every part."""
    import torch  # by those targets alone that read checkpoints: it takes longer than most others run

    from models import checkpoint

    torch.set_num_threads(1)
    tokenizer = LexiconTokenizer.train([*CAPTIONS, *CAPTIONS], vocabulary_size=80, max_tokens=8)
    config = ModelConfig(
        image=ImageConfig(layers=1, width=8, heads=1, mlp_ratio=1.0, pixels=8, patch=8, stem="patch"),
        text=TextConfig(layers=1, width=8, heads=1, mlp_ratio=1.0, max_tokens=8, vocabulary=len(tokenizer)),
        lexlip=LexLIPConfig(bottleneck=BottleneckConfig(decoder_layers=1), momentum=MomentumConfig(queue=4)),
    )
    torch.manual_seed(0)
    return checkpoint.create(config, tokenizer)


class Checkpoint(Target):
    """A file of a checkpoint as it lies on disk."""

    sealed = True

    def build(self, folder):
        from models import checkpoint

        shutil.rmtree(folder / "made", ignore_errors=True)
        checkpoint.save(tiny_model(), folder / "made")
        shutil.copytree(folder / "made", folder, dirs_exist_ok=True)
        return [(folder / self.file).read_bytes()]

    def read(self, folder):
        from models import checkpoint

        model = checkpoint.load(folder)
        weights = [
            [name, str(value.dtype), value.numpy().tobytes()] for name, value in sorted(model.state_dict().items())
        ]
        return [fingerprint(model.config), model.vocabulary, weights]


class CheckpointJson(Checkpoint):
    name, file, about, form = "checkpoint-json", "model.json", "checkpoints: model.json", "json"


class CheckpointWeights(Checkpoint):
    name, file, about = "checkpoint-weights", "model.safetensors", "checkpoints: model.safetensors"


class CheckpointTokenizer(Checkpoint):
    name, file, about, form = "checkpoint-tokenizer", "tokenizer.json", "checkpoints: tokenizer.json", "json"


class _Sealed(Checkpoint):
    """As an own tool would write it: the sum in model.json is that of the changed file."""

    sealed, slow = False, True

    def read(self, folder):
        description = json.loads((folder / "made" / "model.json").read_text())
        description["sha256"][self.file] = sha256(folder / self.file)
        (folder / "model.json").write_text(json.dumps(description))
        return super().read(folder)


class SealedWeights(_Sealed):
    name, file, about = "sealed-weights", "model.safetensors", "checkpoints: model.safetensors whose sum fits"


class SealedTokenizer(_Sealed):
    name, file, about, form = "sealed-tokenizer", "tokenizer.json", "checkpoints: tokenizer.json whose sum fits", "json"


class TableWeights(Target):
    """A file of a query table as it lies on disk."""

    name, file, about, sealed = "query-table-weights", "table.safetensors", "query tables: table.safetensors", True

    def build(self, folder):
        tokenizer = LexiconTokenizer.train([*CAPTIONS, *CAPTIONS], vocabulary_size=80, max_tokens=8)
        weights_V = np.linspace(0, 2, len(tokenizer), dtype=np.float32)
        shutil.rmtree(folder / "made", ignore_errors=True)
        QueryTable(weights_V, tokenizer, "learned", {"checkpoint": "fuzz"}).save(folder / "made")
        shutil.copytree(folder / "made", folder, dirs_exist_ok=True)
        return [(folder / self.file).read_bytes()]

    def read(self, folder):
        table = QueryTable.load(folder)
        vectors = [part.tolist() for part in table.encode(CAPTIONS)]
        return [table.method, table.made_from, table.vocabulary, table.weights_V.tolist(), vectors]


class TableJson(TableWeights):
    name, file, about, form = "query-table-json", "table.json", "query tables: table.json", "json"


class Vectors(Target):
    """A file of vectors as it lies on disk, opened and verified."""

    sealed = True
    kind = "lexicon"

    def build(self, folder):
        values = np.random.default_rng(0).random((5, 6), np.float32)
        names = [f"item {n}" for n in range(5)]
        shutil.rmtree(folder / "made", ignore_errors=True)
        words = list("abcdef") if self.kind == "lexicon" else None
        with write_vectors(folder / "made", self.kind, 6, words, {"from": "fuzz"}, shard_rows=3) as writer:
            writer.append(
                np.where(values > 0.4, values, 0) if self.kind == "lexicon" else values,
                names,
                groups=["a", "a", "b", "b", "c"],
            )
        shutil.copytree(folder / "made", folder, dirs_exist_ok=True)
        return [(folder / self.file).read_bytes()]

    def read(self, folder):
        vectors_module._verified.cache_clear()  # two changes within a tick of the file system's clock
        vectors = open_vectors(folder)
        rows = vectors.rows(0, vectors.count)
        rows = rows.toarray() if self.kind == "lexicon" and vectors.kind == "lexicon" else np.asarray(rows)
        meta = [vectors.kind, vectors.dimension, vectors.count, vectors.vocabulary, vectors.meta.get("made_from")]
        return [meta, vectors.ids, vectors.groups, str(rows.dtype), rows.tolist()]


class VectorsJson(Vectors):
    name, file, about, form = "vectors-json", "meta.json", "vectors: meta.json", "json"


class VectorsVocabulary(Vectors):
    name, file, about, form = "vectors-vocabulary", "vocabulary.json", "vectors: vocabulary.json", "json"


class VectorsWeights(Vectors):
    name, file, about = "vectors-weights", "00000.weights.npy", "vectors: weights"


class _SealedVectors(Vectors):
    """As an own tool would write it: size and sum in meta.json are those of the changed file."""

    sealed = False

    def read(self, folder):
        meta = json.loads((folder / "made" / "meta.json").read_text())
        (entry,) = (
            entry for shard in meta["shards"] for entry in shard["files"].values() if entry["name"] == self.file
        )
        entry |= {"bytes": (folder / self.file).stat().st_size, "sha256": sha256(folder / self.file)}
        (folder / "meta.json").write_text(json.dumps(meta))
        return super().read(folder)


class SealedDense(_SealedVectors):
    name, file, about, kind = "sealed-dense", "00001.values.npy", "vectors: dense values whose sum fits", "dense"


class SealedPointers(_SealedVectors):
    name, file, about = "sealed-pointers", "00000.indptr.npy", "vectors: row pointers whose sum fits"


class SealedLexicons(_SealedVectors):
    name, file, about = "sealed-lexicons", "00000.lexicons.npy", "vectors: lexicons whose sum fits"


class SealedIds(_SealedVectors):
    name, file, about = "sealed-ids", "00000.ids.npy", "vectors: ids whose sum fits"


class Records(Target):
    name, about, sealed = "records", "records", True
    point = Point("retrieval", corpus="scenes", variant="lexlip", seed=0, knobs={"ef": 16}, machine_id="fuzz")
    file = f"{point.id}.parquet"

    def build(self, folder):
        store = RecordStore(folder)
        store.folder = folder
        ranks = [
            {"query_id": str(n), "group": "g", "ranks": [n + 1], "relevant": 1, "latency_us": 0.5} for n in range(3)
        ]
        store.write(
            self.point,
            {"recall@1": 0.25, "recall@5": 0.5},
            queries=ranks,
            note="one",
            started="2026-01-01T00:00:00+00:00",
        )
        return [(folder / self.file).read_bytes()]

    def read(self, folder):
        store = RecordStore.open(folder)
        return [store.read().to_json(), store.queries(self.point.id).to_json()]


class Queries(Records):
    slow = True
    name, file, about = "queries", f"{Records.point.id}.queries.parquet", "results per query beside records"


CLASSES = [
    *(CheckpointJson, CheckpointWeights, CheckpointTokenizer, SealedWeights, SealedTokenizer),
    *(TableWeights, TableJson),
    *(VectorsJson, VectorsVocabulary, VectorsWeights, SealedDense, SealedPointers, SealedLexicons, SealedIds),
    *(Records, Queries),
]
