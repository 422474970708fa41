"""The readers of what people bring and disks damage: for each of them how to make a valid file, and what reads it.

A new one is a class here that inherits `Target`: its `name`, `build` and `read`.
"""

import abc
import dataclasses
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from ablations import config as run_config
from bench.corpora import open_corpus, read_spec
from bench.corpora.readers import table
from bench.corpora.readers.decode import decode
from bench.corpora.readers.folder import Folder
from bench.corpora.readers.karpathy import Coco
from bench.corpora.readers.webdataset import WebDataset, read_shard
from bench.scale.plan import GRID, Grid
from bench.store.config import fingerprint
from bench.store.records import Point, RecordStore
from bench.vectors import read as vectors_module
from bench.vectors.read import open_vectors, write_vectors
from models.config import BottleneckConfig, ImageConfig, LexLIPConfig, ModelConfig, MomentumConfig, TextConfig
from models.files import sha256
from models.tokenizer import LexiconTokenizer
from reports import cost

PIXELS = 16
CAPTIONS = ("a red apple, on the grass", 'a "blue" bicycle', "zwei grüne Gitarren \N{GUITAR}")


class Target(abc.ABC):
    """One reader. `build` writes what it needs into an empty folder and returns valid contents of `file`, the one that is then changed.

    `read` may raise InputError and nothing else; it returns plain values. kept: a file with one change is refused or reads as the same values.
    form: "json" or "yaml" where values can be exchanged inside the file, else "bytes".
    """

    name: ClassVar[str]
    file: ClassVar[str]
    about: ClassVar[str]
    kept: ClassVar[bool] = False
    form: ClassVar[str] = "bytes"
    slow: ClassVar[bool] = False  # takes more than 5 ms

    @abc.abstractmethod
    def build(self, folder: Path) -> list[bytes]: ...

    @abc.abstractmethod
    def read(self, folder: Path): ...


# --- tables and corpora -----------------------------------------------------------------------------------------------------------


def picture(seed: int = 0, mode: str = "RGB", size: tuple[int, int] = (9, 7)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), np.uint8)
    return Image.fromarray(values, "RGBA").convert(mode)


def stored(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _pictures(folder: Path) -> None:
    for number in range(3):
        (folder / f"{number}.png").write_bytes(stored(picture(number), "PNG"))


def _streamed(corpus) -> list:
    return [
        [split, list(corpus.captions(split)), [(image_id, image.tobytes()) for image_id, image in corpus.images(split)]]
        for split in corpus.splits
    ]


class Csv(Target):
    name, file, about = "csv", "captions.csv", "tables of paths and captions, CSV"

    def build(self, folder):
        plain = "path,caption\n" + "".join(
            f'{n}.png,"{text.replace(chr(34), chr(34) * 2)}"\n' for n, text in enumerate(CAPTIONS)
        )
        return [
            plain.encode(),
            b"\xef\xbb\xbf" + plain.replace("\n", "\r\n").encode(),
            b'caption,path\n"two\nlines",x.png\n',
        ]

    def read(self, folder):
        return list(table.rows(folder / self.file, ("path", "caption")))


class Tsv(Csv):
    name, file, about = "tsv", "captions.tsv", "tables of paths and captions, TSV without quotes"

    def build(self, folder):
        return ["".join(f"{a}\t{b}\n" for a, b in [("path", "caption"), *enumerate(CAPTIONS)]).encode()]

    def read(self, folder):
        return list(table.rows(folder / self.file, ("path", "caption"), quoted=False))


class Parquet(Csv):
    name, file, about = "parquet", "captions.parquet", "tables of paths and captions, Parquet"

    def build(self, folder):
        rows = {"path": [f"{n}.png" for n in range(3)], "caption": list(CAPTIONS)}
        made = []
        for as_table, options in (
            (pyarrow.table(rows), {}),
            (pyarrow.table(rows), {"compression": "none", "use_dictionary": False, "row_group_size": 1}),
            (pyarrow.table({**rows, "caption": pyarrow.array(CAPTIONS).dictionary_encode()}), {"compression": "zstd"}),
        ):
            buffer = io.BytesIO()
            pyarrow.parquet.write_table(as_table, buffer, **options)
            made.append(buffer.getvalue())
        return made


class OfFolder(Csv):
    name, file, about = "folder", "captions.csv", "a folder of pictures with its table, streamed"

    def build(self, folder):
        _pictures(folder)
        return [
            b"split," + super().build(folder)[0].replace(b"\n", b"\ntest,").removesuffix(b"test,"),
            super().build(folder)[0],
        ]

    def read(self, folder):
        return _streamed(Folder(folder / self.file, pixels=PIXELS))


class KarpathyJson(Target):
    name, file, about, form = (
        "karpathy-json",
        "dataset_coco.json",
        "Karpathy's JSON of COCO, with its pictures, streamed",
        "json",
    )

    def build(self, folder):
        _pictures(folder)
        images = [
            {
                "filepath": "",
                "filename": f"{n}.png",
                "cocoid": n,
                "split": split,
                "sentences": [{"sentid": n, "raw": CAPTIONS[n]}],
            }
            for n, split in enumerate(("train", "restval", "test"))
        ]
        return [json.dumps({"images": images, "dataset": "coco"}).encode()]

    def read(self, folder):
        return _streamed(Coco(folder, pixels=PIXELS, check_counts=False))


class KarpathyTables(Target):
    name, file, about = (
        "karpathy-tables",
        "coco_train.tsv",
        "the TSV tables of LexLIP's code, with their pictures, streamed",
    )

    def build(self, folder):
        _pictures(folder)
        for part in ("val", "test"):
            (folder / f"coco_{part}.tsv").write_text(f"title\tfilepath\timage_id\na thing\t0.png\t{part}\n")
        return [b"title\tfilepath\timage_id\na red apple\t1.png\t1\nthe same\t1.png\t1\na guitar\t2.png\t2\n"]

    def read(self, folder):
        return _streamed(Coco(folder, pixels=PIXELS, check_counts=False))


class Tar(Target):
    name, file, about = "tar", "shard.tar", "tar shards of pictures, captions and JSON, streamed"

    def build(self, folder):
        made = []
        for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w:", format=form) as archive:
                for number, text in enumerate(CAPTIONS[:2]):
                    about = json.dumps({"caption": text}).encode()
                    key = "k" * 120 if number and form != tarfile.USTAR_FORMAT else f"{number:05d}"
                    contents = {"png": stored(picture(number, size=(4, 4)), "PNG"), "txt": text.encode(), "json": about}
                    for extension, content in contents.items():
                        member = tarfile.TarInfo(f"{key}.{extension}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
            made.append(buffer.getvalue().rstrip(b"\0"))
            made[-1] += bytes(-len(made[-1]) % 512 + 1024)
        return made

    def read(self, folder):
        corpus = WebDataset({"test": str(folder / self.file)}, pixels=PIXELS)
        labelled = [item for item in read_shard(folder / self.file, "shard", "caption")]
        return [_streamed(corpus), [item.captions for item in labelled if hasattr(item, "captions")]]


class CorpusSpec(Target):
    name, file, about = "corpus-spec", "spec.txt", "--corpus on a command line, opened"
    form = "yaml"

    def build(self, folder):
        _pictures(folder)
        (folder / "captions.csv").write_bytes(Csv().build(folder)[0])
        (folder / "coco.json").write_bytes(KarpathyJson().build(folder)[0])
        for name in ("shard", "00", "01"):
            (folder / f"{name}.tar").write_bytes(Tar().build(folder)[0])
        specs = (
            "{name: folder, annotations: captions.csv, root: ., pixels: 16, path: path, caption: caption, quoted: true}",
            '{name: webdataset, shards: {test: "shard.tar"}, caption: null}',
            '{name: webdataset, shards: ["{00..01}.tar", "*d.tar"], pixels: 16}',
            "{name: coco, root: ., annotations: coco.json, check_counts: false}",
        )
        return [spec.encode() for spec in specs]

    def read(self, folder):
        before = os.getcwd()
        os.chdir(folder)
        try:
            corpus = open_corpus(read_spec((folder / self.file).read_text(encoding="utf-8", errors="replace")))
            return [corpus.fingerprint, list(corpus.splits)]
        finally:
            os.chdir(before)


# --- pictures ---------------------------------------------------------------------------------------------------------------------


class Picture(Target):
    about = "pictures, decoded"
    samples: Callable[[], list[bytes]]

    def build(self, folder):
        return type(self).samples()

    def read(self, folder):
        found = decode((folder / self.file).read_bytes(), self.file, PIXELS)
        if found.shape != (PIXELS, PIXELS, 3) or found.dtype != np.uint8:
            raise AssertionError(f"{found.dtype} {found.shape}")
        return found.tobytes()


def _exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


def _frames(mode: str) -> dict:
    return {"save_all": True, "append_images": [picture(5, mode), picture(6, mode)]}


def _deep() -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 1 << 16, (7, 9), np.uint16))


def _pngs() -> list[bytes]:
    palette = picture(2).quantize(8)
    return [
        stored(picture(mode=mode), "PNG") for mode in ("RGB", "RGBA", "L", "LA", "1")
    ] + [
        stored(_deep(), "PNG"),
        stored(palette, "PNG", transparency=3),
        stored(picture(), "PNG", exif=_exif(6), dpi=(72, 72)),
        stored(picture(), "PNG", **_frames("RGB")),
    ]  # fmt: skip


def _jpegs() -> list[bytes]:
    made = [stored(picture(mode=mode), "JPEG") for mode in ("RGB", "L", "CMYK", "YCbCr")]
    made += [stored(picture(), "JPEG", exif=_exif(orientation)) for orientation in (3, 6, 8)]
    return [
        *made,
        stored(picture(), "JPEG", progressive=True, subsampling=0),
        stored(picture(), "JPEG", restart_marker_blocks=1),
    ]


def _tiffs() -> list[bytes]:
    packed = ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate")
    made = [stored(picture(), "TIFF", compression=name) for name in packed]
    made += [stored(picture(mode=mode), "TIFF") for mode in ("1", "L", "P", "RGBA", "CMYK", "LAB")]
    made += [
        stored(_deep(), "TIFF"),
        stored(picture(), "TIFF", compression="jpeg"),
        stored(picture(), "TIFF", exif=_exif(5)),
    ]
    return [*made, stored(picture(), "TIFF", **_frames("RGB"))]


FORMATS = {
    "png": _pngs,
    "jpeg": _jpegs,
    "tiff": _tiffs,
    "webp": lambda: [
        *(stored(picture(), "WEBP", lossless=lossless) for lossless in (False, True)),
        stored(picture(mode="RGBA"), "WEBP", exif=_exif(6)),
        stored(picture(), "WEBP", **_frames("RGB")),
    ],
    "gif": lambda: [stored(picture(), "GIF"), stored(picture(), "GIF", **_frames("RGB")), stored(picture(2).quantize(8), "GIF", transparency=1)],
    "bmp": lambda: [stored(picture(mode=mode), "BMP") for mode in ("RGB", "RGBA", "P", "1", "L")],
    "ppm": lambda: [stored(picture(mode=mode), "PPM") for mode in ("RGB", "L", "1")]
    + [stored(_deep(), "PPM"), b"P3 # plain\n2 2 255\n1 2 3 4 5 6 7 8 9 10 11 12\n"],
}  # fmt: skip


# --- checkpoints, vectors, records: a changed byte is refused -----------------------------------------------------------------------


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

    kept = True

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

    kept, slow = False, True

    def read(self, folder):
        description = json.loads((folder / "made" / "model.json").read_text())
        description["sha256"][self.file] = sha256(folder / self.file)
        (folder / "model.json").write_text(json.dumps(description))
        return super().read(folder)


class SealedWeights(_Sealed):
    name, file, about = "sealed-weights", "model.safetensors", "checkpoints: model.safetensors whose sum fits"


class SealedTokenizer(_Sealed):
    name, file, about, form = "sealed-tokenizer", "tokenizer.json", "checkpoints: tokenizer.json whose sum fits", "json"


class Vectors(Target):
    """A file of vectors as it lies on disk, opened and verified."""

    kept = True
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

    kept = False

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
    name, about, kept = "records", "records", True
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


# --- configuration ----------------------------------------------------------------------------------------------------------------


def _tree(config) -> list:
    return [json.dumps(dataclasses.asdict(config), default=str), fingerprint(config)]


class Profile(Target):
    slow = True
    name, file, about, form = "profile", "own.yaml", "YAML of a profile, with its parents", "yaml"

    def build(self, folder):
        for name in ("quick", "smoke"):
            shutil.copy(run_config.named_file("profiles", name), folder / f"{name}.yaml")
        return [
            b"extends: [smoke.yaml]\ntrain: {steps: 4, phase1: {batch: 8}}\n",
            *((folder / f"{n}.yaml").read_bytes() for n in ("quick", "smoke")),
        ]

    def read(self, folder):
        return _tree(run_config.resolve(str(folder / self.file), "lexlip"))


class Variant(Target):
    slow = True
    name, file, about, form = "variant", "own.yaml", "YAML of a variant", "yaml"

    def build(self, folder):
        return [run_config.named_file("variants", name).read_bytes() for name in run_config.names("variants")[::7]]

    def read(self, folder):
        return _tree(run_config.resolve("smoke", str(folder / self.file)))


class Overrides(Target):
    slow = True
    name, file, about = "overrides", "overrides.txt", "dotted overrides on a command line"

    def build(self, folder):
        return [
            b"train.steps=8\nmodel.image.pixels=64",
            b"data.corpus={name: scenes, pixels: 64}\ntrain.betas=[0.9, 0.99]",
        ]

    def read(self, folder):
        text = (folder / self.file).read_text(encoding="utf-8", errors="replace")
        return _tree(run_config.resolve("smoke", "lexlip", text.split("\n")))


class SweepGrid(Target):
    slow = True
    name, file, about, form = "grid", "own.yaml", "YAML of a sweep", "yaml"

    def build(self, folder):
        return [GRID.read_bytes()]

    def read(self, folder):
        grid = Grid.read(folder / self.file)
        return [_tree(grid), grid.threaded]


class Costs(Target):
    slow = True
    name, file, about, form = "costs", "own.yaml", "YAML of prices and machines", "yaml"

    def build(self, folder):
        return [cost.DEFAULTS.read_bytes()]

    def read(self, folder):
        return json.dumps(dataclasses.asdict(cost.read(folder / self.file)))


def _targets() -> dict[str, Target]:
    of_pictures = [
        type(f"Of{form}", (Picture,), {"name": f"picture-{form}", "file": f"picture.{form}", "about": f"pictures, {form.upper()}", "samples": staticmethod(samples)})
        for form, samples in FORMATS.items()
    ]  # fmt: skip
    others = (
        Csv, Tsv, Parquet, OfFolder, KarpathyJson, KarpathyTables, Tar, CorpusSpec,
        CheckpointJson, CheckpointWeights, CheckpointTokenizer, SealedWeights, SealedTokenizer,
        VectorsJson, VectorsVocabulary, VectorsWeights, SealedDense, SealedPointers, SealedLexicons, SealedIds,
        Records, Queries, Profile, Variant, Overrides, SweepGrid, Costs,
    )  # fmt: skip
    return {target.name: target() for target in (*others, *of_pictures)}


TARGETS = _targets()
