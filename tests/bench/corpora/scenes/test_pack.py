"""The data pack is refused if it is not the published file; every picture has an allowed licence."""

import csv
import shutil

import pytest

from bench.corpora.scenes import pack as packs
from bench.corpora.scenes.make_pack import ALLOWED
from models.errors import InputError

MAX_BYTES = 12_000_000


@pytest.fixture
def copy(tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(packs.DATA, folder)
    return folder


def licences():
    with open(packs.DATA / packs.LICENCES, newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_pack_is_complete_and_small():
    pack = packs.open_pack()
    assert len(pack.concepts) >= 700 and len(pack.places) >= 8 and len(pack.photos) >= 100
    assert all(concept.sprites for concept in pack.concepts)
    assert sum(file.stat().st_size for file in packs.DATA.iterdir()) <= MAX_BYTES
    both = [
        concept for concept in pack.concepts if {pack.sprites[i].style for i in concept.sprites} == {"noto", "fluent"}
    ]
    assert len(both) / len(pack.concepts) > 0.98


def test_sprites_belong_to_their_concepts():
    pack = packs.open_pack(concepts=50)
    assert len(pack.concepts) == 50
    assert [i for concept in pack.concepts for i in concept.sprites] == list(range(len(pack.sprites)))
    assert all(pack.sprites[i].of == concept.name for concept in pack.concepts for i in concept.sprites)


def test_pictures_decode_to_the_published_pixels():
    pack = packs.open_pack(concepts=10)
    for picture in pack.sprites + pack.photos[:5]:
        pixels = picture.pixels()
        assert pixels.ndim == 3 and pixels.dtype == "uint8"
    wrong = packs.Picture("noto/1", "dog", "noto", (), pack.sprites[0].webp, pack.sprites[0].crc32 ^ 1)
    with pytest.raises(InputError, match="noto/1"):
        wrong.pixels()


def test_a_truncated_pack_is_refused(copy):
    file = copy / packs.PACK
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="scenes.parquet is damaged"):
        packs.open_pack(copy)


def test_a_flipped_bit_is_refused(copy):
    file = copy / packs.PACK
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        packs.open_pack(copy)


@pytest.mark.parametrize("name", [packs.PACK, "scenes.sha256"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(InputError, match=name):
        packs.open_pack(copy)


def test_every_picture_has_an_allowed_licence():
    pack = packs.open_pack()
    rows = {row["file"]: row for row in licences()}
    assert set(rows) == {picture.file for picture in pack.sprites + pack.photos}
    assert len(rows) == len(licences())
    for row in rows.values():
        assert row["licence"] in ALLOWED and row["author"] and row["source"] and row["package"] and row["version"]
        if row["licence"].startswith("CC-BY"):
            assert row["author"] != "Various"


def test_the_licence_table_is_the_published_one():
    assert packs.hashlib.sha256((packs.DATA / packs.LICENCES).read_bytes()).hexdigest() == packs.expected_sha256(
        packs.DATA, packs.LICENCES
    )
