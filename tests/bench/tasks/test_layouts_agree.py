"""Flickr8k in four layouts gives the same ranks. A real copy only: nothing of the data set enters the repository."""

import csv
import io
import os
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

import bench.__main__
from bench.corpora import open_corpus
from bench.corpora.readers.flickr8k import IMAGE_FOLDERS
from bench.store.records import RecordStore

COPY = Path(
    os.environ.get("LEXLIP_BENCH_FLICKR8K", Path(__file__).resolve().parents[4] / "shared" / "data" / "flickr8k")
)
LAYOUTS = ("flickr8k", "folder", "webdataset", "parquet")


@pytest.fixture
def items() -> list[tuple[str, bytes, list[str]]]:
    """Name, bytes of the file and captions of each image of test."""
    captions: dict[str, list[str]] = {}
    corpus = open_corpus({"name": "flickr8k", "root": str(COPY), "check_counts": False, "pixels": 16})
    for _, text, name in corpus.captions("test"):
        captions.setdefault(name, []).append(text)
    images = next(COPY / folder for folder in IMAGE_FOLDERS if (COPY / folder).is_dir())
    return [(name, (images / name).read_bytes(), texts) for name, texts in captions.items()]


def written(layout: str, items: list, folder: Path) -> dict:
    """Writes the images, as the bytes of their files, and their captions in a layout; returns the corpus."""
    if layout == "flickr8k":
        return {"name": "flickr8k", "root": str(COPY), "check_counts": False}
    if layout == "folder":
        for name, data, _ in items:
            (folder / name).write_bytes(data)
        with open(folder / "table.csv", "w", newline="", encoding="utf-8") as file:
            rows = [(name, text, "test") for name, _, texts in items for text in texts]
            csv.writer(file).writerows([("path", "caption", "split"), *rows])
        return {"name": "folder", "annotations": str(folder / "table.csv")}
    if layout == "webdataset":
        half = len(items) // 2  # in the same order: equal scores rank in the order of the gallery
        for shard, part in enumerate((items[:half], items[half:])):
            with tarfile.open(folder / f"{shard}.tar", "w") as file:
                for number, (_, data, texts) in enumerate(part):
                    for suffix, content in (("jpg", data), ("txt", "\n".join(texts).encode())):
                        member = tarfile.TarInfo(f"{number:05d}.{suffix}")
                        member.size = len(content)
                        file.addfile(member, io.BytesIO(content))
        return {"name": "webdataset", "shards": {"test": str(folder / "{0..1}.tar")}}
    images = [{"bytes": data, "path": name} for name, data, _ in items]
    table = pyarrow.table({"image": images, "captions": [texts for _, _, texts in items]})
    pyarrow.parquet.write_table(table, folder / "test-00000-of-00001.parquet", row_group_size=100)
    return {"name": "parquet", "files": str(folder / "*.parquet")}


@pytest.mark.nightly
@pytest.mark.skipif(not COPY.is_dir(), reason="no copy of Flickr8k; LEXLIP_BENCH_FLICKR8K names its folder")
def test_flickr8k_has_the_same_recall_in_every_layout(items, checkpoints, tmp_path, capsys):
    """To the last digit, over all 1,000 images and 5,000 captions of test."""
    found = {}
    for layout in LAYOUTS:
        (tmp_path / layout).mkdir()
        spec, home = written(layout, items, tmp_path / layout), tmp_path / layout / "home"
        flags = ["--home", str(home), "--corpus", repr(spec), "--images", "all", "--top-k", "32", "--no-timing"]
        assert bench.__main__.main(["recall", "--checkpoint", str(checkpoints[0]), *flags]) == 0
        assert ": 1,000 images, 5,000 queries; " in capsys.readouterr().out
        rows = RecordStore(home).read()
        rows = rows[(rows.task == "retrieval") & rows.metric.isin(("recall@1", "recall@5", "recall@10"))]
        found[layout] = rows.set_index(["direction", "engine", "top_k", "bits", "metric"]).value.sort_index()
    assert all(len(values) == 2 * 3 * 3 for values in found.values())
    print(found["flickr8k"].to_string())
    for layout in LAYOUTS[1:]:
        assert found[layout].equals(found["flickr8k"]), layout
