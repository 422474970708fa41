"""Missing and small splits are found before training data is made, with the settings that would fit."""

import pytest
from PIL import Image

import bench.__main__
from ablations.config import resolve
from bench.corpora import open_corpus
from bench.corpora.counts import check_splits


@pytest.fixture
def table(tmp_path):
    """A function that writes a table of images in splits, and returns the override that names it."""

    def write(broken: tuple[int, ...] = (), **counts: int) -> str:
        rows = ["path,caption,split"]
        of_splits = [split for split, count in counts.items() for _ in range(count)]
        for number, split in enumerate(of_splits):
            Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"{number}.png")
            rows.append(f"{number}.png,image {number},{split}")
        for number in broken:
            (tmp_path / f"{number}.png").write_bytes(b"torn")
        (tmp_path / "table.csv").write_text("\n".join(rows))
        return f"data.corpus={{name: folder, annotations: {tmp_path / 'table.csv'}}}"

    return write


SIZES = ("data.train_images=6", "data.val_images=4", "measure.images=5")


@pytest.mark.parametrize("command", ["ablations", "train"])
@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train": 6, "test": 5}, "no split val (it has train, test); expected train, val"),
        ({"train": 6, "val": 3, "test": 5}, "data.val_images: 4 requested, but split val has 3 images; set data.val_i"),
        ({"train": 5, "val": 4, "test": 5}, "data.train_images: 6 requested, but split train has 5 images; set data.t"),
    ],
)
def test_a_missing_or_small_split_is_found_before_training(command, counts, message, table, tiny, tmp_path, capsys):
    home = tmp_path / "home"
    flags = ["--profile", tiny, "--home", str(home), "--force", table(**counts), *SIZES]
    assert bench.__main__.main([command, *flags]) == 2
    error = capsys.readouterr().err
    assert f"lexlip-bench {command}: corpus table: {message}" in error and error.count("\n") == 1
    assert not home.exists()


@pytest.mark.parametrize("command", ["ablations", "train"])
def test_training_on_a_table_that_is_one_split_is_refused(command, table, tiny, tmp_path, capsys):
    spec = table(train=6, val=4, test=5)[:-1] + ", split: all}"
    assert bench.__main__.main([command, "--profile", tiny, "--home", str(tmp_path / "home"), spec, *SIZES]) == 2
    error = capsys.readouterr().err
    assert (
        "corpus table: its only split is all, so a model would be measured on what it was trained on; expected" in error
    )
    assert error.endswith(": leave split: all out of the corpus\n") and error.count("\n") == 1


def test_all_that_must_change_is_said_at_once_and_broken_images_do_not_count(table, tiny, tmp_path, capsys):
    spec = table(train=6, val=4, test=4, broken=(9, 13))
    assert bench.__main__.main(["ablations", "--profile", tiny, "--home", str(tmp_path / "home"), spec, *SIZES]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "lexlip-bench ablations: corpus table: data.val_images: 4 requested, but split val has 3 images; "
        "measure.images: 5 requested, but split test has 3 images; set data.val_images=3 measure.images=3"
    )


def test_splits_that_fit_pass(table, tiny):
    run = resolve(tiny, "clip", [table(train=6, val=4, test=5), *SIZES])
    check_splits(open_corpus(run.data.corpus), [*run.trained_on(), *run.measured_on(("train", "val", "test"))])
    scenes = resolve(tiny, "clip", ["measure.images=1000000000000"])
    needed = [*scenes.trained_on(), *scenes.measured_on(("test", "compositional"))]
    assert [split for split, _, _ in needed] == ["train", "val", "test", "compositional"]
    check_splits(open_corpus(scenes.data.corpus), needed)  # endless
