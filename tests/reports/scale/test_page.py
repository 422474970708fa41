"""The pages of a sweep: what they say where something is missing, strange or hostile."""

import re

import numpy as np
import pandas as pd
import pytest

from bench.store.records import RecordStore
from reports.build import build
from reports.findings.ratios import comparisons
from reports.pages.scale import growth as scale_growth
from reports.pages.site import STATIC
from reports.records.evidence import Evidence
from reports.records.sweep import sweeps
from tests.reports.scale.records import FLAT, HOSTILE, MANY, ONE


def test_page(small, tmp_path, undrawn, whole):
    index = build(small.home, tmp_path / "site")
    html, first = whole(index), index.read_text(encoding="utf-8")
    csv = pd.read_csv(tmp_path / "site" / "tables" / "scale_speed.csv").set_index(["top_k", "called"])
    assert float(csv.loc[(32, ONE.label), "flat single"]) == pytest.approx(60.0)
    assert "python -m bench.scale --corpus 10k" in html
    assert ">loses<" in first
    assert "Absent: clip" not in html  # no line for each setting that did not run


def test_a_page_without_a_sweep_says_what_to_run(home, site, whole):
    html = whole(site / "index.html")
    assert "Not measured; run <code>python -m bench.scale --corpus 1M</code>" in html
    assert 'id="scale_engines"' not in html
    assert scale_growth.section(Evidence(RecordStore(home))) is None


@pytest.mark.parametrize("only", ["lexicon", "dense"])
def test_one_side_only(made, tmp_path, undrawn, whole, only):
    if only == "lexicon":
        made.impact(32, 0.4, 100.0, 200.0, 64.0)
    else:
        made.search("dense", 0.5, {ONE: 10.0}, 2048.0, **FLAT)
    html = whole(build(made.home, tmp_path / "site"))
    assert ("Only dense engines were measured" in html) == (only == "dense")


def test_names_are_text(small, tmp_path, undrawn, whole):
    small.search("dense", 0.5, {ONE: 10.0}, engine=HOSTILE, knobs={HOSTILE: HOSTILE}, variant=HOSTILE)
    small.impact(8, 0.3, 100.0, 100.0, 10.0, corpus=f"vectors:{HOSTILE}", profile="")
    small.ended("dense", "failed", HOSTILE, engine="scann", knobs={"leaves_to_search": 99}, images=1_000)
    small.write(small.point("dense", engine="faiss-flat", command=HOSTILE, images=1_000), {"recall@1": 0.5})
    html = whole(build(small.home, tmp_path / "site"))
    scripts = re.findall(r"<script[^>]*>", html)
    assert all(
        'type="application/json"' in one or one in [f'<script src="static/{name}" defer>' for name in STATIC]
        for one in scripts
    )
    assert "&lt;script&gt;" in html


def test_strange_numbers_do_not_stop_it(small, tmp_path, undrawn):
    small.search("dense", 0.55, {ONE: 0.0, MANY: float("inf")}, 0.0, engine="usearch")
    small.search("dense", float("nan"), {ONE: float("nan")}, float("nan"), engine="hnswlib")
    build(small.home, tmp_path / "site")
    found = [row.speedup[name] for row in comparisons(sweeps(small.evidence)[0]) for name in row.speedup]
    assert all(cell.missing or np.isfinite(cell.value) for cell in found)
