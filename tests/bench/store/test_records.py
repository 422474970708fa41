import dataclasses
import os

import pandas as pd
import pytest

from bench.store import cli, records_command
from bench.store.records import Point, RecordStore
from bench.store.records_command import export
from models.errors import InputError

POINT = Point(
    task="retrieval",
    corpus="words",
    split="test",
    images=10,
    engine="impact",
    top_k=32,
    bits=8,
    seed=0,
    machine_id="m",
    command="one",
)
QUERIES = [{"query_id": "a#0", "group": "a", "ranks": [1, 4], "relevant": 2, "latency_us": None}]
EXAMPLES = [
    {
        "query_id": "a#0",
        "query": "a dog",
        "rank": 1,
        "image_id": "a",
        "relevant": True,
        "score": 2.5,
        "lexicons": '[["dog", 1, 2, 1.0]]',
        "image": b"x",
    }
]


def run(*argv) -> int:
    return cli.run(records_command.main, records_command.parser(), [str(argument) for argument in argv])


def test_round_trip(tmp_path):
    store = RecordStore(tmp_path)
    assert not store.has(POINT) and store.status(POINT) is None
    assert store.write(POINT, {"recall@1": 0.5, "median_rank": 2}, QUERIES, EXAMPLES, note="n", seconds=1.5) == POINT.id
    assert store.has(POINT) and store.status(POINT) == "ok"
    rows = store.read()
    assert rows.metric.tolist() == ["median_rank", "recall@1"]
    assert rows.value.tolist() == [2.0, 0.5]
    assert rows.unit.tolist() == ["rank", "share"]
    assert rows.loc[0, ["corpus", "images", "top_k", "bits", "seed", "command", "note"]].tolist() == [
        "words",
        10,
        32,
        8,
        0,
        "one",
        "n",
    ]
    assert rows.step.isna().all() and str(rows.step.dtype) == "Int64"
    assert '"numpy"' in rows.versions[0] and rows.started[0].endswith("+00:00")
    assert store.queries(POINT.id).ranks[0].tolist() == [1, 4]
    assert store.examples(POINT.id).image[0] == b"x"
    assert store.queries("0" * 16) is None


def test_id_is_a_hash_of_the_identity_only():
    assert POINT.id == "2b914bca939235ff"  # the identity of a point may only change on purpose
    assert dataclasses.replace(POINT, command="another").id == POINT.id
    for field in dataclasses.fields(Point):
        if field.name not in ("command", "knobs", "exact"):
            other = 7 if "int" in str(field.type) else "other"
            assert dataclasses.replace(POINT, **{field.name: other}).id != POINT.id, field.name
    assert dataclasses.replace(POINT, knobs={"b": 1, "a": None}) == dataclasses.replace(
        POINT, knobs='{"a": null, "b": 1}'
    )


def test_measured_again_replaces_the_point_and_its_sidecars(tmp_path):
    store = RecordStore(tmp_path)
    store.write(POINT, {"recall@1": 0.5}, QUERIES, EXAMPLES)
    store.write(POINT, {"recall@1": 0.75}, QUERIES)
    assert store.read().value.tolist() == [0.75]
    assert store.examples(POINT.id) is None


def test_a_point_that_failed_is_a_record_too(tmp_path):
    store = RecordStore(tmp_path)
    store.write(POINT, {}, status="timeout", note="after 60 s")
    store.write(dataclasses.replace(POINT, seed=1), {"recall@1": 0.3}, status="out_of_memory")
    rows = store.read()
    assert sorted(rows.status) == ["out_of_memory", "timeout"]
    assert rows.value.isna().all()


def test_bad_values_are_refused_before_anything_is_written(tmp_path):
    store = RecordStore(tmp_path)
    with pytest.raises(InputError, match=r"'recal@1'.*'recall@1'"):
        store.write(POINT, {"recal@1": 0.5}, QUERIES)
    with pytest.raises(InputError, match="unknown status 'fine'"):
        store.write(POINT, {"recall@1": 0.5}, status="fine")
    with pytest.raises(InputError, match="expected at least one value"):
        store.write(POINT, {})
    assert not store.folder.exists()


def test_hard_negatives_have_their_own_sidecar(tmp_path):
    store, point = RecordStore(tmp_path), dataclasses.replace(POINT, task="hard_negatives")
    store.write(
        point, {"hard_negative_accuracy": 1.0}, [{"query_id": "a", "group": "a", "kind": "count", "correct": True}]
    )
    assert store.queries(point.id).correct.tolist() == [True]


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "other"])
def test_a_broken_file_is_named_and_refused(tmp_path, damage):
    store = RecordStore(tmp_path)
    store.write(POINT, {"recall@1": 0.5})
    path = store.folder / f"{POINT.id}.parquet"
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        del content[len(content) // 2 :]
    elif damage == "flip":
        content[40] ^= 0xFF  # inside the first page
    elif damage == "empty":
        content = b""
    else:
        pd.DataFrame({"x": [1]}).to_parquet(path)
        content = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(InputError, match=POINT.id):
        store.read()


def test_a_renamed_file_is_refused(tmp_path):
    store = RecordStore(tmp_path)
    store.write(POINT, {"recall@1": 0.5})
    (store.folder / f"{POINT.id}.parquet").rename(store.folder / f"{'0' * 16}.parquet")
    with pytest.raises(InputError, match="belong to another point"):
        store.read()


def test_merge_brings_results_of_several_machines_together(tmp_path):
    here, there = RecordStore(tmp_path / "here"), RecordStore(tmp_path / "there")
    other = dataclasses.replace(POINT, machine_id="another")
    here.write(POINT, {"recall@1": 0.5})
    there.write(POINT, {"recall@1": 0.6})
    there.write(other, {"recall@1": 0.7}, QUERIES, EXAMPLES)
    assert here.merge(there) == (1, 1)
    assert sorted(here.read().value) == [0.5, 0.7]
    assert here.queries(other.id) is not None and here.examples(other.id) is not None
    assert here.merge(there, force=True) == (2, 0)
    assert sorted(here.read().value) == [0.6, 0.7]


def test_a_forced_merge_leaves_no_sidecar_of_the_replaced_point(tmp_path):
    here, there = RecordStore(tmp_path / "here"), RecordStore(tmp_path / "there")
    here.write(POINT, {"recall@1": 0.5}, QUERIES, EXAMPLES)
    there.write(POINT, {"recall@1": 0.6})
    assert here.merge(there, force=True) == (1, 0)
    assert here.values(POINT) == {"recall@1": 0.6}
    assert here.queries(POINT.id) is None and here.examples(POINT.id) is None


def test_a_point_that_was_absent_here_is_merged(tmp_path):
    here, there = RecordStore(tmp_path / "here"), RecordStore(tmp_path / "there")
    here.write(POINT, {}, status="absent", note="pip install it")
    there.write(POINT, {}, status="absent", note="pip install it")
    assert here.merge(there) == (0, 1)
    there.write(POINT, {"recall@1": 0.6})
    assert here.merge(there) == (1, 0) and here.values(POINT) == {"recall@1": 0.6}
    there.write(POINT, {}, status="absent")
    assert here.merge(there) == (0, 1) and here.status(POINT) == "ok"


@pytest.mark.parametrize("killed_at", [0, 1, 2])
@pytest.mark.parametrize("merged", [False, True])
def test_a_write_that_is_killed_mixes_no_two_measurements(tmp_path, monkeypatch, killed_at, merged):
    """The rows of the first used to stand beside the queries of the second."""
    here, there = RecordStore(tmp_path / "here"), RecordStore(tmp_path / "there")
    later = [QUERIES[0] | {"query_id": "later"}]
    here.write(POINT, {"recall@1": 0.5}, QUERIES, EXAMPLES)
    there.write(POINT, {"recall@1": 0.75}, later, EXAMPLES)
    replaced, rename = [], os.replace

    def killed(source, target):
        if len(replaced) == killed_at:
            raise KeyboardInterrupt
        replaced.append(target)
        rename(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        here.merge(there, force=True) if merged else here.write(POINT, {"recall@1": 0.75}, later, EXAMPLES)
    assert here.status(POINT) is None and not here.read().size
    monkeypatch.undo()
    here.write(POINT, {"recall@1": 0.75}, later)
    assert here.values(POINT) == {"recall@1": 0.75} and here.queries(POINT.id).query_id.tolist() == ["later"]


def test_commands(tmp_path, capsys):
    home, other = tmp_path / "home", tmp_path / "other"
    RecordStore(other).write(POINT, {"recall@1": 0.5})
    assert run("merge", other, "--home", home) == 0
    assert run("merge", "--home", home, other / "results") == 0, "flags may stand between the words"
    assert "1 points copied, 0 already here" in (out := capsys.readouterr().out) and "0 points copied, 1 already" in out
    assert run("list", "--home", home) == 0
    assert POINT.id in (out := capsys.readouterr().out) and "recall@1" in out
    for suffix, read in (
        (".csv", pd.read_csv),
        (".parquet", pd.read_parquet),
        (".json", lambda path: pd.read_json(path, lines=True)),
    ):
        assert run("export", tmp_path / f"all{suffix}", "--home", home) == 0
        assert read(tmp_path / f"all{suffix}").loc[0, ["metric", "value", "top_k"]].tolist() == ["recall@1", 0.5, 32]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["list"], "no records; expected a home"),
        (["export"], "no records; expected a home"),
        (["merge"], "expected at least one home"),
        (["merge", "nowhere"], "nowhere: no records; expected"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys, argv, message):
    assert run(*argv, "--home", tmp_path / "home") == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_export_to_an_unknown_format(tmp_path, capsys):
    RecordStore(tmp_path).write(POINT, {"recall@1": 0.5})
    assert run("export", tmp_path / "all.xlsx", "--home", tmp_path) == 2
    assert ".csv, .json, .parquet" in capsys.readouterr().err
    with pytest.raises(InputError):
        export(RecordStore(tmp_path).read(), "x.txt")
