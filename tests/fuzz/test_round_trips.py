"""Written values are read back; in files of this project, a changed bit is refused or changes nothing."""

import csv
import io
import math
import re
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ablations import config as run_config
from bench.corpora.readers import table
from bench.corpora.readers.decode import decode
from bench.corpora.readers.webdataset import read_shard
from bench.store import config
from bench.store.records import Point, RecordStore
from models.errors import InputError

FEW = settings(max_examples=25)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=12)


@FEW
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_csv_and_parquet_hold_any_text(pairs, end):
    """Written by the csv module, fully quoted: it cannot tell an unquoted carriage return from an end of line."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "t.csv"
        with open(file, "w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([("path", "caption"), *pairs])
        assert [values for _, values in table.rows(file, ("path", "caption"))] == pairs
        file = Path(folder) / "t.parquet"
        columns = dict(zip(("path", "caption"), map(list, zip(*pairs, strict=True)), strict=True))
        pyarrow.parquet.write_table(pyarrow.table(columns), file)
        assert [values for _, values in table.rows(file, ("caption", "path"))] == [(b, a) for a, b in pairs]


@FEW
@given(st.lists(st.tuples(LINE, LINE), min_size=1, max_size=5))
def test_tsv_without_quotes_holds_any_line(pairs):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "t.tsv"
        file.write_text("path\tcaption\n" + "".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8", newline="")
        assert [values for _, values in table.rows(file, ("path", "caption"), table.Dialect(quoted=False))] == pairs


@FEW
@given(
    st.dictionaries(
        st.text("abc/-é ", min_size=1, max_size=8).filter(lambda key: key.strip("/ ")),
        TEXT.filter(str.strip),
        min_size=1,
        max_size=4,
    )
)
def test_shards_hold_any_caption(captions):
    captions = {re.sub("/+", "/", key.strip("/")): text for key, text in captions.items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "s.tar"
        with tarfile.open(file, "w") as archive:
            for key, text in captions.items():
                for extension, content in (("jpg", b"picture"), ("txt", text.encode())):
                    member = tarfile.TarInfo(f"{key}.{extension}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        found = list(read_shard(file, "s"))
        lines = {key: [line for line in re.split("[\r\n]", text) if line.strip()] for key, text in captions.items()}
        read = {item.image_id.removeprefix("s/"): [caption for _, caption in item.captions] for item in found}
        assert read == lines
        assert {item.location.read() for item in found} == {b"picture"}


@pytest.mark.parametrize(
    ("form", "options"),
    [("PNG", {}), ("BMP", {}), ("PPM", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})],
)
@settings(max_examples=5)
@given(seed=st.integers(0, 1 << 30))
def test_lossless_images_are_read_bit_for_bit(form, options, seed):
    values = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, form, **options)
    assert np.array_equal(decode(buffer.getvalue(), "it", 16), values)


VALUES = st.floats(allow_nan=True, allow_infinity=True)
RANKS = st.lists(st.integers(1, 1 << 31 - 1), max_size=3)


@settings(max_examples=10)
@given(
    VALUES,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.lists(RANKS, min_size=1, max_size=4),
    st.data(),
)
def test_records_are_read_as_written_and_a_changed_bit_is_refused(value, note, ranks, data):
    point = Point("retrieval", machine_id="m", command=note)
    queries = [{"query_id": note, "group": "g", "ranks": found, "relevant": 1, "latency_us": value} for found in ranks]
    with tempfile.TemporaryDirectory() as folder:
        store = RecordStore(folder)
        store.write(point, {"recall@1": value}, queries=queries, note=note)
        row, per_query = store.read().iloc[0], store.queries(point.id)
        assert (row.value == value or math.isnan(value)) and (row.note, row.command) == (note, note)
        assert [list(found) for found in per_query.ranks] == ranks
        file = data.draw(st.sampled_from(sorted(store.folder.iterdir())))
        before, content = (store.read().to_json(), per_query.to_json()), bytearray(file.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        file.write_bytes(content)
        try:
            after = store.read().to_json(), store.queries(point.id).to_json()
        except InputError as error:
            assert file.name in str(error)
        else:
            assert after == before


@pytest.mark.parametrize("variant", ["lexlip", "clip"])
def test_a_resolved_configuration_is_read_as_it_was_written(variant, tmp_path):
    resolved = run_config.resolve("smoke", variant)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.as_tree(resolved)), encoding="utf-8")
    assert config.build(run_config.RunConfig, config.read_yaml(tmp_path / "config.yaml"), "it") == resolved
