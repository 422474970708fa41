"""Tables as people have them: other separators, and rows and images that cannot be used."""

import pytest

from bench.corpora import open_corpus
from bench.corpora.readers.table import Dialect
from models.errors import InputError
from tests.bench.corpora.readers.tables import PIXELS, paint, rows, shown, write


@pytest.mark.parametrize("separator", [";", "|", "\t", ","])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
def test_the_separator_is_found_in_the_header(tmp_path, suffix, separator):
    paint(tmp_path, 1)
    table = tmp_path / f"list{suffix}"
    texts = ["a; b", "a, b", "a | b", "a\tb", " spaces "]
    table.write_text(separator.join(("image", "caption", "split")) + "\n")
    with open(table, "a") as stream:
        stream.writelines(separator.join(("000.png", f'"{text}"', "test\n")) for text in texts)
    for given in (None, separator):
        corpus = open_corpus({"name": "folder", "annotations": table, "separator": given})
        assert [text for _, text, _ in corpus.captions("test")] == texts


def test_a_separator_that_the_header_hides_can_be_given(tmp_path):
    paint(tmp_path, 1)
    (tmp_path / "list.csv").write_text("path;caption;note, if any;split\n000.png;one;;test\n")
    spec = {"name": "folder", "annotations": tmp_path / "list.csv"}
    with pytest.raises(InputError, match="'path;caption;note', ' if any;split'|'path;caption;note'"):
        open_corpus(spec)
    assert [text for _, text, _ in open_corpus(spec | {"separator": ";"}).captions("test")] == ["one"]


def test_the_tables_of_flickr30k_and_of_kaggle_are_read(tmp_path, caplog):
    paint(tmp_path, 30)
    lines = ["image_name| comment_number| comment"]
    lines += [f"{i:03d}.png| {k}|  Thing {k} of {i}, in a row ." for i in range(30) for k in range(5)]
    lines[7] = "001.png| 1   A dog runs across the grass ."  # the published table has such a row
    (tmp_path / "results.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "captions.txt").write_text('image,caption\n000.png,one .\n000.png,"two , and three ."\n')
    corpus = open_corpus({"name": "folder", "annotations": tmp_path / "results.csv"})
    found = {c[0]: c[1] for split in corpus.splits for c in corpus.captions(split)}
    assert len(found) == 149 and found["000.png#0"] == "Thing 0 of 0, in a row ."
    assert "1 of 150 rows cannot be used (line 8 has 2 values, expected 3 as in the header): left out" in caplog.text
    corpus = open_corpus({"name": "folder", "annotations": tmp_path / "captions.txt"})
    assert [c[1] for c in corpus.captions(corpus.splits[0])] == ["one .", "two , and three ."]


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_rows_and_images_that_cannot_be_used_are_left_out_counted_and_named(tmp_path, caplog, kind):
    paint(tmp_path, 120)
    listed = [(f"{i:03d}.png", "a thing", "test") for i in range(120)]
    for i, change in {
        3: ("003.png", " ", "test"),
        5: ("005.png", "a", ""),
        6: ("", "a", "test"),
        8: ("", "", ""),
    }.items():
        listed[i] = change
    for i in (20, 21):
        (tmp_path / f"{i:03d}.png").unlink()
    table = write(tmp_path / f"list{kind}", listed)
    corpus = open_corpus({"name": "folder", "annotations": table, "pixels": PIXELS})
    expected = [f"{i:03d}.png" for i in range(120) if i not in (3, 5, 6, 8, 20, 21)]
    assert list(shown(corpus, "test")[0]) == expected
    rows_left, images_left = [record.getMessage() for record in caplog.records]
    first = 1 if kind == ".parquet" else 2
    assert (
        f"list{kind}: 4 of 120 rows cannot be used (row {3 + first}: 'caption' is empty; row {5 + first}: 'split' is "
        in rows_left
    )
    assert f"row {6 + first}: 'path' is empty; 1 more): left out" in rows_left
    assert "2 of 116 images" in images_left and "020.png: No such file" in images_left and "021.png" in images_left
    spec = {"name": "folder", "annotations": table, "strict": True}
    with pytest.raises(InputError, match=f"row {8 + first}: 'path' is empty.; expected none"):
        open_corpus(spec)


def test_strict_names_at_most_20_missing_images(tmp_path):
    paint(tmp_path, 500)
    table = write(tmp_path / "list.csv", [*rows(500), *((f"no{i}.png", "one", "test") for i in range(25))])
    with pytest.raises(InputError, match="25 of 525 images .*no0.png.*no19.png: No such file or directory; 5 more"):
        open_corpus({"name": "folder", "annotations": table, "strict": True})


def test_more_than_5_percent_must_be_allowed(tmp_path, caplog):
    paint(tmp_path, 19)
    spec = {"name": "folder", "annotations": tmp_path / "list.csv"}
    write(tmp_path / "list.csv", [*rows(19), ("no.png", "one", "train")])
    assert len(list(open_corpus(spec).images("train"))) == 19, "5% of 20"
    (tmp_path / "018.png").unlink()
    with pytest.raises(InputError, match="2 of 20 images cannot be used .*expected at most 5%; allow_missing: true"):
        open_corpus(spec)
    assert len(list(open_corpus(spec | {"allow_missing": True}).images("train"))) == 18
    assert "2 of 20 images cannot be used" in caplog.text
    (tmp_path / "list.csv").write_text("path,caption\nno.png,one\n")
    with pytest.raises(InputError, match="1 of 1 images .*no.png.*expected at least one that can"):
        open_corpus(spec | {"allow_missing": True})


def test_quoted_is_true_or_false():
    with pytest.raises(InputError, match="quoted: 'x' is not true or false"):
        Dialect(quoted="x")


@pytest.mark.parametrize("name", ["coco", "flickr8k"])
def test_check_counts_is_true_or_false(tmp_path, name):
    with pytest.raises(InputError, match="check_counts: 'x' is not true or false"):
        open_corpus({"name": name, "root": str(tmp_path), "check_counts": "x"})
