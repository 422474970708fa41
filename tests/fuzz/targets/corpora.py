"""Tables of captions and corpora of files, streamed."""

import io
import json
import os
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet

from bench.corpora import open_corpus, read_spec
from bench.corpora.readers import table
from bench.corpora.readers.flickr8k import Flickr8k
from bench.corpora.readers.folder import Folder
from bench.corpora.readers.karpathy import Coco
from bench.corpora.readers.parquet import Parquet as Images
from bench.corpora.readers.webdataset import WebDataset, read_shard
from bench.tasks.judgements import read as judgements
from tests.fuzz.targets.images import encoded, image
from tests.fuzz.targets.target import CAPTIONS, PIXELS, Target


def _write_images(folder: Path) -> None:
    for number in range(3):
        (folder / f"{number}.png").write_bytes(encoded(image(number), "PNG"))


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
        return list(table.rows(folder / self.file, ("path", "caption"), table.Dialect(quoted=False)))


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


class ParquetImages(Target):
    name, file, about = "parquet-images", "test.parquet", "pictures and lists of captions in Parquet, streamed"

    def build(self, folder):
        made = []
        images = [{"bytes": encoded(image(number, size=(4, 4)), "PNG"), "path": f"{number}.png"} for number in range(3)]
        rows = {"image": images, "caption": [[text, text] for text in CAPTIONS[:3]]}
        for options in ({"row_group_size": 2}, {"compression": "none", "use_dictionary": False}):
            buffer = io.BytesIO()
            pyarrow.parquet.write_table(pyarrow.table(rows), buffer, **options)
            made.append(buffer.getvalue())
        return made

    def read(self, folder):
        return _streamed(Images({"test": str(folder / self.file)}, pixels=PIXELS, allow_missing=True))


class OfFolder(Csv):
    name, file, about = "folder", "captions.csv", "a folder of pictures with its table, streamed"

    def build(self, folder):
        _write_images(folder)
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
        _write_images(folder)
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


class JsonTable(Target):
    name, file, about, form = (
        "json-table",
        "captions.json",
        "JSON lists, JSON lines and COCO's captions, streamed",
        "json",
    )

    def build(self, folder):
        _write_images(folder)
        rows = [{"image": f"{n}.png", "caption": [text, text]} for n, text in enumerate(CAPTIONS)]
        images = [{"id": n, "file_name": f"{n}.png"} for n in range(3)]
        notes = [{"id": n, "image_id": n, "caption": text} for n, text in enumerate(CAPTIONS)]
        lines = "\n".join(map(json.dumps, rows))
        return [
            json.dumps(rows).encode(),
            lines.encode(),
            json.dumps({"images": images, "annotations": notes}).encode(),
        ]

    def read(self, folder):
        return _streamed(Folder(folder / self.file, pixels=PIXELS, allow_missing=True))


class KarpathyTables(Target):
    name, file, about = (
        "karpathy-tables",
        "coco_train.tsv",
        "the TSV tables of LexLIP's code, with their pictures, streamed",
    )

    def build(self, folder):
        _write_images(folder)
        for part in ("val", "test"):
            (folder / f"coco_{part}.tsv").write_text(f"title\tfilepath\timage_id\na thing\t0.png\t{part}\n")
        return [b"title\tfilepath\timage_id\na red apple\t1.png\t1\nthe same\t1.png\t1\na guitar\t2.png\t2\n"]

    def read(self, folder):
        return _streamed(Coco(folder, pixels=PIXELS, check_counts=False))


class Flickr8kTokens(Target):
    name, file, about = (
        "flickr8k-tokens",
        "Flickr8k.token.txt",
        "the captions of Flickr8k, with their pictures, streamed",
    )

    def build(self, folder):
        (folder / "Images").mkdir(exist_ok=True)
        _write_images(folder / "Images")
        for number, part in enumerate(("train", "dev", "test")):
            (folder / f"Flickr_8k.{part}Images.txt").write_text(f"{number}.png\n")
        lines = [f"{n}.png#{k}\t{' '.join(text.split())}\n" for n, text in enumerate(CAPTIONS) for k in range(2)]
        return ["".join(lines).encode(), "".join(lines).replace(".png#", ".png.1#").replace("\n", "\r\n").encode()]

    def read(self, folder):
        return _streamed(Flickr8k(folder, pixels=PIXELS, check_counts=False, allow_missing=True))


class Judgements(Target):
    name, file, about = "flickr8k-experts", "ExpertAnnotations.txt", "the experts' graded judgements of Flickr8k"
    kind, rows = judgements.EXPERT, ("1\t2\t4", "4\t4\t4")

    def build(self, folder):
        lines = "".join(f"{n}.png\t{n + 1}.png#2\t{row}\n" for n, row in enumerate(self.rows))
        return [lines.encode(), b"\xef\xbb\xbf" + lines.replace("\n", "\r\n\r\n").encode()]

    def read(self, folder):
        judged = judgements.read(self.kind, folder / self.file)
        return [judged.images, judged.captions, judged.grades_NS.tolist()]


class CrowdJudgements(Judgements):
    name, file, about = "flickr8k-crowd", "CrowdFlowerAnnotations.txt", "the crowd's graded judgements of Flickr8k"
    kind, rows = judgements.CROWD, ("0\t0\t3", "0.666666666666667\t2\t1")


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
                    contents = {"png": encoded(image(number, size=(4, 4)), "PNG"), "txt": text.encode(), "json": about}
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
        _write_images(folder)
        (folder / "captions.csv").write_bytes(Csv().build(folder)[0])
        (folder / "coco.json").write_bytes(KarpathyJson().build(folder)[0])
        for name in ("shard", "00", "01"):
            (folder / f"{name}.tar").write_bytes(Tar().build(folder)[0])
        specs = (
            "{name: folder, annotations: captions.csv, root: ., pixels: 16, path: path, caption: caption, "
            "quoted: true}",
            '{name: webdataset, shards: {test: "shard.tar"}, caption: null}',
            '{name: webdataset, shards: ["{00..01}.tar", "*d.tar"], pixels: 16}',
            "{name: coco, root: ., annotations: coco.json, check_counts: false}",
            '{name: folder, annotations: captions.csv, separator: ",", strict: true, allow_missing: false}',
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


CLASSES = [
    Csv,
    Tsv,
    Parquet,
    ParquetImages,
    OfFolder,
    KarpathyJson,
    JsonTable,
    KarpathyTables,
    Flickr8kTokens,
    Judgements,
    CrowdJudgements,
    Tar,
    CorpusSpec,
]
