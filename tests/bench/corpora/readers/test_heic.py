"""HEIC images through the package `pillow-heif`, in every reader of files; skipped where it is not installed."""

import io
import sys
import tarfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

import bench.__main__
from bench.corpora import open_corpus
from bench.corpora.readers import decode as decoding

heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed: pip install 'lexlip-bench[heif]'")
COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]


@pytest.fixture
def heic() -> dict[str, bytes]:
    """Three HEIC files, left half in a colour of `COLOURS`, right half white, as a phone writes them: with EXIF."""
    heif.register_heif_opener()
    files = {}
    for number, colour in enumerate(COLOURS):
        image, stream = Image.new("RGB", (96, 96), (255, 255, 255)), io.BytesIO()
        image.paste(colour, (0, 0, 48, 96))
        exif = Image.Exif()
        exif[0x0110] = "a phone"
        image.save(stream, "HEIF", quality=95, exif=exif)
        assert stream.getvalue()[4:12] == b"ftypheic"
        files[f"{number}.heic"] = stream.getvalue()
    return files


@pytest.fixture(params=["folder", "table", "webdataset", "parquet"])
def spec(request, heic, tmp_path) -> dict:
    """A corpus of the three files, in each layout."""
    for name, data in heic.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).with_suffix(".txt").write_text(f"image {name}\n")
    of_files = {"name": "folder", "annotations": str(tmp_path), "split": "all"}
    if request.param == "table":
        rows = ["path,caption", *(f"{name},image {name}" for name in heic)]
        (tmp_path / "table.csv").write_text("\n".join(rows))
        return of_files | {"annotations": str(tmp_path / "table.csv")}
    if request.param == "webdataset":
        with tarfile.open(tmp_path / "shard.tar", "w") as shard:
            for name in sorted(heic):
                for file in (name, name.replace("heic", "txt")):
                    shard.add(tmp_path / file, file)
        return {"name": "webdataset", "shards": {"all": str(tmp_path / "shard.tar")}}
    if request.param == "parquet":
        images = [{"bytes": data, "path": name} for name, data in heic.items()]
        made = pyarrow.table({"image": images, "caption": [f"image {name}" for name in heic]})
        pyarrow.parquet.write_table(made, tmp_path / "all.parquet")
        return {"name": "parquet", "files": {"all": str(tmp_path / "all.parquet")}}
    return of_files


def test_heic_is_read_by_every_reader(spec):
    corpus = open_corpus(spec | {"pixels": 64})
    images = [image for _, image in corpus.images("all")]
    assert len(images) == len(COLOURS) and corpus.broken() == []
    for image, colour in zip(images, COLOURS, strict=True):
        assert np.abs(image[:, :28].astype(int) - colour).max() <= 12 and (image[:, 36:] >= 243).all()


def test_a_command_encodes_heic_or_says_what_to_install(spec, checkpoints, tmp_path, capsys, monkeypatch):
    flags = ["--checkpoint", str(checkpoints[1]), "--corpus", repr(spec), "--images", "all"]
    assert bench.__main__.main(["encode", "--home", str(tmp_path / "home"), *flags]) == 0
    assert "3 images" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    decoding._register_heif.cache_clear()
    assert bench.__main__.main(["encode", "--home", str(tmp_path / "without"), *flags]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "HEIC is not supported: pip install 'lexlip-bench[heif]'" in error
    decoding._register_heif.cache_clear()


def test_a_damaged_heic_is_left_out(heic, tmp_path):
    for name, data in heic.items():
        (tmp_path / name).write_bytes(data[: len(data) // 2] if name == "1.heic" else data)
        (tmp_path / name).with_suffix(".txt").write_text("an image")
    corpus = open_corpus({"name": "folder", "annotations": tmp_path, "split": "all", "pixels": 64})
    assert [image_id for image_id, _ in corpus.images("all")] == ["0.heic", "2.heic"]
    (left,) = corpus.broken()
    assert "1.heic: cannot be decoded" in left.reason
