"""Tar shards of img2dataset: any slice is read in place; damaged shards are refused, broken images skipped."""

import gzip
import io
import json
import tarfile

import pytest
from PIL import Image

from bench.corpora import Corpus, open_corpus
from bench.corpora.readers.stored import hash_split
from bench.corpora.readers.webdataset import expand
from models.errors import InputError

PER_SHARD = 5


def colour(i):
    return 5 * i, 60, 250 - 5 * i


def jpeg(i):
    stream = io.BytesIO()
    Image.new("RGB", (30, 20), colour(i)).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def sample(i):
    key = f"{i // PER_SHARD:05d}{i % PER_SHARD:04d}"
    meta = {"caption": f"Caption of {i}", "captions": [f"One of {i}", f"Two of {i}"], "key": key, "width": 30}
    return {f"{key}.jpg": jpeg(i), f"{key}.txt": f"Caption of {i}".encode(), f"{key}.json": json.dumps(meta).encode()}


def pack(file, members, format=tarfile.PAX_FORMAT):
    """members: name -> bytes, or a TarInfo for a member that is not a plain file."""
    with tarfile.open(file, "w", format=format) as archive:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return file


@pytest.fixture
def shards(tmp_path):
    """Four shards of five samples."""
    for shard in range(4):
        members = {}
        for i in range(shard * PER_SHARD, (shard + 1) * PER_SHARD):
            members |= sample(i)
        pack(tmp_path / f"{shard:05d}.tar", members)
        (tmp_path / f"{shard:05d}_stats.json").write_text("{}")
    return tmp_path


def spec(shards, pattern="{00000..00003}.tar", **parameters):
    return {"name": "webdataset", "shards": {"train": str(shards / pattern)}, "pixels": 16} | parameters


def ids(corpus, split="train", *slice):
    return [image_id for image_id, _ in corpus.images(split, *slice)]


def test_samples_are_read_in_order(shards):
    corpus = open_corpus(spec(shards))
    assert isinstance(corpus, Corpus) and corpus.splits == ("train",)
    images, captions = list(corpus.images("train")), list(corpus.captions("train"))
    assert len(images) == len(captions) == 20
    assert captions[0] == ("00000/000000000#0", "Caption of 0", "00000/000000000")
    assert captions[10] == ("00002/000020000#0", "Caption of 10", "00002/000020000")
    assert captions[19] == ("00003/000030004#0", "Caption of 19", "00003/000030004")
    for i, (image_id, image) in enumerate(images):
        assert (
            image_id == captions[i][2] and image.shape == (16, 16, 3) and abs(image.astype(int) - colour(i)).max() < 9
        )


def test_any_slice_can_be_read(shards):
    whole = ids(open_corpus(spec(shards)))
    corpus = open_corpus(spec(shards))
    for start, stop in ((12, 14), (3, 8), (0, 20), (19, None), (30, 40)):
        assert ids(corpus, "train", start, stop) == whole[start:stop]
        assert [image_id for _, _, image_id in corpus.captions("train", start, stop)] == whole[start:stop]


def test_captions_can_come_from_the_json(shards):
    several = list(open_corpus(spec(shards, caption="captions")).captions("train", 1, 2))
    assert several == [
        ("00000/000000001#0", "One of 1", "00000/000000001"),
        ("00000/000000001#1", "Two of 1", "00000/000000001"),
    ]
    assert [text for _, text, _ in open_corpus(spec(shards, caption="caption")).captions("train", 0, 2)] == [
        "Caption of 0",
        "Caption of 1",
    ]
    nothing = open_corpus(spec(shards, caption="width"))
    assert (
        list(nothing.captions("train")) == []
        and len(nothing.broken()) == 20
        and "no caption under 'width'" in nothing.broken()[0].reason
    )


def test_each_line_of_a_text_is_a_caption(tmp_path):
    texts = {"a": b"one\ntwo\r\nthree\n\n four\nfive", "b": b"alone\n", "c": b"\n \n"}
    members = {}
    for key, text in texts.items():
        members |= {f"{key}.jpg": jpeg(1), f"{key}.txt": text}
    pack(tmp_path / "0.tar", members)
    corpus = open_corpus(spec(tmp_path, "0.tar"))
    found = [("0/a#0", "one"), ("0/a#1", "two"), ("0/a#2", "three"), ("0/a#3", " four"), ("0/a#4", "five")]
    assert [caption[:2] for caption in corpus.captions("train")] == [*found, ("0/b#0", "alone")]
    assert ids(corpus) == ["0/a", "0/b"] and "no caption" in corpus.broken()[0].reason


def test_shards_are_assigned_to_splits(shards):
    mapping = {
        "test": str(shards / "00003.tar"),
        "train": [str(shards / "0000{0,1}.tar")],
        "distractors": str(shards / "0000[2].tar"),
    }
    corpus = open_corpus({"name": "webdataset", "shards": mapping, "pixels": 16})
    assert corpus.splits == ("train", "test", "distractors")
    assert [len(ids(corpus, split)) for split in corpus.splits] == [10, 5, 5] and ids(corpus, "test")[
        0
    ] == "00003/000030000"
    with pytest.raises(InputError, match="00002.tar: the shard is in two splits"):
        open_corpus({"name": "webdataset", "shards": mapping | {"val": str(shards / "*2.tar")}})


def test_without_splits_the_hash_of_the_shard_name_decides(tmp_path):
    for shard in range(40):
        pack(tmp_path / f"{shard:05d}.tar", {f"{shard}.jpg": jpeg(1), f"{shard}.txt": b"one"})
    corpus = open_corpus({"name": "webdataset", "shards": str(tmp_path / "*.tar"), "pixels": 16})
    found = {image_id.split("/")[0]: split for split in corpus.splits for image_id in ids(corpus, split)}
    assert found == {f"{shard:05d}": hash_split(f"{shard:05d}") for shard in range(40)} and len(corpus.splits) > 1
    assert ids(corpus, "all") == [f"{shard:05d}/{shard}" for shard in range(40)]


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("a/{08..11}.tar", ["a/08.tar", "a/09.tar", "a/10.tar", "a/11.tar"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
        (["b.tar", "{a,}c.tar"], ["b.tar", "ac.tar", "c.tar"]),
        ("{a}.tar", ["{a}.tar"]),
    ],
)
def test_braces_are_expanded(pattern, expected):
    assert [str(file) for file in expand("shards", pattern)] == expected


def test_other_members_and_folders_are_ignored(tmp_path):
    folder = tarfile.TarInfo("sub")
    folder.type = tarfile.DIRTYPE
    pack(
        tmp_path / "0.tar",
        {
            "sub": folder,
            "sub/b.seg.PNG": b"x",
            "sub/b.txt": b"late",
            "a.JPG": jpeg(2),
            "a.cls": b"3",
            "sub/b.jpeg": jpeg(3),
            "a.txt": b"early",
        },
        tarfile.GNU_FORMAT,
    )
    corpus = open_corpus(spec(tmp_path, "*.tar"))
    assert list(corpus.captions("train")) == [("0/sub/b#0", "late", "0/sub/b"), ("0/a#0", "early", "0/a")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.tar"], "nothing is unpacked"


def test_a_broken_image_and_a_missing_caption_are_skipped_by_name(tmp_path, caplog):
    members = {}
    for i in range(8):
        members |= sample(i)
    members["000000001.jpg"] = members["000000001.jpg"][:300]
    del members["000000002.txt"], members["000000003.jpg"]
    members["000010000.txt"], members["000010001.txt"] = b" \n", b"caf\xe9"
    pack(tmp_path / "0.tar", members)
    corpus = open_corpus(spec(tmp_path, "0.tar"))
    assert [text for _, text, _ in corpus.captions("train")] == ["Caption of 0", "Caption of 4", "Caption of 7"]
    assert ids(corpus) == ["0/000000000", "0/000000004", "0/000010002"]
    why = {left.name: left.reason for left in corpus.broken("train")}
    for name, reason in {
        "000000001": "cannot be decoded",
        "000000002": "no caption",
        "000000003": "no image",
        "000010000": "no caption",
        "000010001": "utf-8",
    }.items():
        assert reason in why.pop(f"0/{name}")
    assert not why and "0.tar: 000000001.jpg" in caplog.text and "5 of " in caplog.text


def test_many_missing_captions_are_counted_not_named(tmp_path, caplog):
    pack(tmp_path / "0.tar", {f"{i}.jpg": jpeg(i) for i in range(9)} | {"0.txt": b"one"})
    corpus = open_corpus(spec(tmp_path, "0.tar"))
    assert ids(corpus) == ids(corpus) == ["0/0"] and len(corpus.broken()) == 8
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4 and lines[2].endswith("; more like this are only counted")
    assert lines[3] == "webdataset, train: skipped 8 of 9 in all, 8 without an image or a caption"


# --- damaged and hostile shards -------------------------------------------------------------------------------------


def last_member(file):
    with tarfile.open(file) as archive:
        return archive.getmembers()[-3]


@pytest.mark.parametrize("cut", ["inside a member", "between members", "in the end mark", "to nothing", "to a header"])
def test_a_truncated_shard_is_reported_on_opening(shards, cut):
    file = shards / "00002.tar"
    whole, member = file.read_bytes(), last_member(file)
    end = whole.rindex(b"}") // 512 * 512 + 512
    size = {
        "inside a member": member.offset_data + 200,
        "between members": member.offset,
        "in the end mark": end + 512,
        "to nothing": 0,
        "to a header": 512,
    }
    file.write_bytes(whole[: size[cut]])
    with pytest.raises(InputError, match="00002.tar: truncated"):
        open_corpus(spec(shards))


def test_a_damaged_header_is_not_the_end_of_a_shard(shards):
    """`tarfile` alone would treat it as the end, and drop the samples after it."""
    file = shards / "00002.tar"
    data, member = bytearray(file.read_bytes()), last_member(file)
    data[member.offset + 20] ^= 0xFF
    file.write_bytes(data)
    corpus = open_corpus(spec(shards))
    assert ids(corpus, "train", 0, 10)[-1] == "00001/000010004"
    for _ in range(2):
        with pytest.raises(InputError, match=f"00002.tar: damaged at byte {member.offset:,}"):
            ids(corpus)


@pytest.mark.parametrize("name", ["../../x.jpg", "/etc/x.jpg", "a/../../x.jpg"])
def test_a_member_outside_the_archive_is_refused(tmp_path, name):
    pack(tmp_path / "0.tar", sample(0) | {name: jpeg(1)})
    with pytest.raises(InputError, match="0.tar: member .* leads outside the archive"):
        ids(open_corpus(spec(tmp_path, "0.tar")))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    link = tarfile.TarInfo("x.jpg")
    link.type, link.linkname = kind, "/etc/passwd"
    pack(tmp_path / "0.tar", sample(0) | {"x.jpg": link})
    with pytest.raises(InputError, match="0.tar: member 'x.jpg' is a link"):
        ids(open_corpus(spec(tmp_path, "0.tar")))


def test_hostile_member_names_are_read(tmp_path):
    names = ["a b", 'q"uote', "new\nline", "日本🙂", "-rf", "%s", "x" * 300, "caf\udce9"]
    members = {}
    for i, name in enumerate(names):
        members |= {f"{name}.jpg": jpeg(i), f"{name}.txt": b"text"}
    pack(tmp_path / "0.tar", members, tarfile.GNU_FORMAT)
    corpus = open_corpus(spec(tmp_path, "0.tar"))
    assert ids(corpus) == [f"0/{name}" for name in [*names[:-1], "caf\\xe9"]]
    assert all(image_id.encode() for _, _, image_id in corpus.captions("train"))


def test_two_images_with_one_key_are_refused(tmp_path):
    pack(tmp_path / "0.tar", {"a.jpg": jpeg(0), "a.txt": b"a", "a.png": jpeg(1)})
    with pytest.raises(InputError, match="0.tar: two images with the key 'a'"):
        ids(open_corpus(spec(tmp_path, "0.tar")))


def test_the_fingerprint_covers_shards_splits_and_parameters(shards, tmp_path):
    specs = [spec(shards), spec(shards, "{00000..00002}.tar"), spec(shards, caption="caption"), spec(shards, pixels=32)]
    specs.append({"name": "webdataset", "shards": {"test": str(shards / "*.tar")}, "pixels": 16})
    fingerprints = [open_corpus(each).fingerprint for each in specs]
    assert open_corpus(spec(shards, "*.tar")).fingerprint == fingerprints[0]
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in shards.glob("*.tar"):
        file.rename(moved / file.name)
    assert open_corpus(spec(moved)).fingerprint == fingerprints[0], "the path of the shards does not matter"
    pack(moved / "00001.tar", sample(5) | sample(7))
    fingerprints.append(open_corpus(spec(moved)).fingerprint)
    assert len(set(fingerprints)) == 6


@pytest.mark.parametrize(
    "given, message",
    [
        ("nowhere/*.tar", "shards: no file matches nowhere/"),
        ("{00000..00009}.tar", "00004.tar: no such file; expected a tar shard"),
        ("{9..0}.tar", r"\{9..0\} is not a range of shards"),
        ("{0..9999999}.tar", "is not a range of shards"),
        ({}, "expected a mapping of split names"),
        ({3: "a.tar"}, "expected a mapping of split names"),
        ({"train": 3}, "train: 3 is not a pattern"),
        ([], r"shards: \[\] is not a pattern"),
        ("{00000,00000}.tar", "named twice"),
        ("https://a.b/{0..9}.tar", r"shards: https://a.b/\{0..9\}.tar is a URL; expected a path"),
        (["00000.tar", "pipe:curl a"], "shards: pipe:curl a is a URL"),
        ({"test": "hf://datasets/a/*.tar"}, "test: hf://.* is a URL"),
        ("packed.tar.gz", "packed.tar.gz: compressed with gzip, but read in place: decompress it first"),
        ("packed.tar", "packed.tar: compressed with gzip"),
        (".", r"shards: \. is a folder; expected tar shards"),
        ("note.txt", "note.txt: truncated, or not a tar file"),
    ],
)
def test_bad_patterns_are_refused(shards, monkeypatch, given, message):
    monkeypatch.chdir(shards)
    (shards / "note.txt").write_text("no tar file")
    for name in ("packed.tar.gz", "packed.tar"):
        (shards / name).write_bytes(gzip.compress((shards / "00000.tar").read_bytes()))
    with pytest.raises(InputError, match=message):
        open_corpus({"name": "webdataset", "shards": given})


def test_a_member_of_a_longer_extension_is_no_caption(tmp_path):
    shard = {"a.jpg": jpeg(1), "a.ocr.txt": b"SALE", "a.txt": b"A red car", "b.jpg": jpeg(2), "b.ocr.txt": b"STOP"}
    pack(tmp_path / "0.tar", shard)
    captions = open_corpus(spec(tmp_path, "0.tar")).captions("train")
    assert [(text, image) for _, text, image in captions] == [("A red car", "0/a")]
