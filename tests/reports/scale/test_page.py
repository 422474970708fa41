"""The pages of a sweep: what they say where something is missing, strange or hostile."""

import re

import numpy as np
import pandas as pd
import pytest

from bench.store.records import RecordStore
from reports.build import build
from reports.findings import answer
from reports.pages import method, scale
from reports.pages.site import STATIC
from reports.records.evidence import Evidence
from tests.reports.scale.records import FLAT, HOSTILE, MANY, ONE


def test_page(small, tmp_path, whole):
    html = whole(build(small.home, tmp_path / "site"))
    csv = pd.read_csv(tmp_path / "site" / "tables" / "explore.csv")
    flat = csv[(csv.engine == "faiss-flat") & (csv.call == "single, 1 thread")].iloc[0]
    assert [float(flat[name]) for name in ("qps", "recall@1", "bytes_per_image")] == [10.0, 0.5, 2048.0]
    assert "python -m bench.scale --corpus 10k" in html
    assert "dummy" not in set(csv.engine), "the ceiling of the harness is no engine"
    assert set(csv[csv.engine == "scann"].qps) == {"absent"}


def test_a_page_without_a_sweep_says_what_to_run(home, site):
    html = (site / "scale.html").read_text(encoding="utf-8")
    assert "Nothing was measured for this page; run <code>python -m bench.scale --corpus 1M</code>" in html
    assert scale.sections(Evidence(RecordStore(home))) == []


@pytest.mark.parametrize("only", ["lexicon", "dense"])
def test_one_side_only(made, tmp_path, whole, only):
    if only == "lexicon":
        made.impact(32, 0.4, 100.0, 200.0, 64.0)
    else:
        made.search("dense", 0.5, {ONE: 10.0}, 2048.0, **FLAT)
    html = whole(build(made.home, tmp_path / "site"))
    assert "No chart: lexlip and clip were not timed over one gallery" in html
    assert answer.TEMPLATES["speed missing"] in html and 'id="figure-explore_1"' in html


def test_names_are_text(small, tmp_path, whole):
    small.search("dense", 0.5, {ONE: 10.0}, engine=HOSTILE, knobs={HOSTILE: HOSTILE}, variant=HOSTILE)
    small.impact(8, 0.3, 100.0, 100.0, 10.0, corpus=f"vectors:{HOSTILE}", profile="")
    small.ended("dense", "failed", HOSTILE, engine="scann", knobs={"leaves_to_search": 99}, images=1_000)
    small.write(small.point("dense", engine="faiss-flat", command=HOSTILE, images=1_000), {"recall@1": 0.5})
    html = whole(build(small.home, tmp_path / "site"))
    scripts = re.findall(r"<script[^>]*>", html)
    assert all(one in [f'<script src="static/{name}" defer>' for name in STATIC] for one in scripts)
    assert "&lt;script&gt;" in html


def test_strange_numbers_do_not_stop_it(small, tmp_path):
    small.search("dense", 0.55, {ONE: 0.0, MANY: float("inf")}, 0.0, engine="usearch")
    small.search("dense", float("nan"), {ONE: float("nan")}, float("nan"), engine="hnswlib")
    build(small.home, tmp_path / "site")
    rows = method.claims(small.evidence).rows
    found = [row[end] for row in rows for end in ("least", "most")]
    assert all(cell.missing or np.isfinite(cell.value) for cell in found) and not all(cell.missing for cell in found)
