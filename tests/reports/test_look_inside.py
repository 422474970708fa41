"""The page Look inside: failures with their pictures, heat maps, and what it says of records that have neither."""

import base64
import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.store.records import RecordStore
from bench.tasks.lexicon_views.heat import HOT
from bench.tasks.rank_gap import RANK_GAP
from reports.pages import site
from reports.pages.inside import failures, retrieved
from reports.pages.site import PAGES
from reports.records import bundle
from reports.records.evidence import Evidence
from reports.render import pictures

COMMANDS = "<code>python -m ablations.run</code> measures them at its end, and <code>lexlip-bench disagreement</code> adds them"
MATCHED = [["<b>cat", 36.0, 40.0, 0.75], ["night", 0.125, 0.5, 0.25]]
# [CLS] and 2 x 2 patches: the highest is in row 2, column 1; then a lexicon whose highest is [CLS].
MAPS = [["<b>cat", 0, [0.5, -1.0, 1.0, 4.0, 2.0]], ["night", 0, [3.0, 1.0, -2.0, -1.0, 0.0]]]
(LOOK,) = (page for page in PAGES if page.name == "look")


def row(query_id, text, rank, relevant, matched=(), heat_maps=None) -> dict:
    """A picture of a query furthest apart: the right one is that of the query's image, another is image 0059."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 0, 0) if relevant else (0, 0, 200)).save(stream, "WEBP")
    return {
        "query_id": query_id, "query": text, "rank": rank, "image_id": query_id[:4] if relevant else "0059", "relevant": relevant, "score": 1.5,
        "lexicons": json.dumps(list(matched)), "image": stream.getvalue(), "chosen": RANK_GAP, "heat_maps": heat_maps,
    }  # fmt: skip


def worst_by_pandas(store, points) -> pd.DataFrame:
    """The five queries furthest apart each way, from the stored ranks alone: query_id, gap, and the rank by each model."""
    ranks = {
        name: store.queries(point_id).set_index("query_id").ranks.str[0].astype(int)
        for name, point_id in points.items()
    }
    first = pd.DataFrame(ranks).assign(gap=lambda both: both["lexlip"] - both["clip"]).reset_index()
    lower = first[first.gap > 0].sort_values(["gap", "query_id"], ascending=[False, True])
    higher = first[first.gap < 0].sort_values(["gap", "query_id"])
    return pd.concat([lower.head(5), higher.head(5)], ignore_index=True)


@pytest.fixture
def without(made):
    """Two measured models, with examples as earlier versions wrote them; the ids of their points."""
    made.points = {
        name: made.retrieval(made.point(name), skill, made.examples(name))
        for name, skill in (("lexlip", 0.4), ("clip", 0.5))
    }
    for point_id in made.points.values():
        path = made.store.folder / f"{point_id}.examples.parquet"
        pd.read_parquet(path).drop(columns=["chosen", "heat_maps"]).to_parquet(path)
    return made


@pytest.fixture
def looked_into(without):
    """And now the queries furthest apart, the first with a hostile caption and heat maps, as one of those evenly spaced."""
    store, worst = without.store, worst_by_pandas(without.store, without.points)
    for name, point_id in without.points.items():
        rows = store.examples(point_id).to_dict("records")
        lexicon = name == "lexlip"
        if lexicon:
            rows[0]["heat_maps"] = json.dumps(MAPS)
        for at, query in enumerate(worst.itertuples()):
            text, rank = without.hostile if at == 0 else f"a failure, number {at}", int(getattr(query, name))
            matched, heat = (MATCHED, json.dumps(MAPS) if at == 0 else None) if lexicon else ((), None)
            if rank > 1:
                rows.append(row(query.query_id, text, 1, False, matched, heat))
            rows.append(row(query.query_id, text, rank, True, matched))
        store.replace_examples(point_id, rows)
    return without


def html_of(store) -> str:
    evidence = Evidence(store)
    sections = [part.section(evidence) for part in LOOK.parts]
    return site.render(evidence, LOOK, sections, files=[], all_tables=[], places={"downloads": "method.html"})


# --- failures


def test_each_failure_has_its_caption_its_picture_and_what_each_model_put_first(looked_into):
    evidence = Evidence(looked_into.store)
    section = failures.section(evidence)
    cases = [case for way in section.data["ways"] for case in way["cases"]]
    worst = worst_by_pandas(looked_into.store, looked_into.points)
    assert [case["id"] for case in cases] == worst.query_id.tolist() and len(cases) == 10
    stored = {
        name: looked_into.store.examples(point_id).query("chosen == @RANK_GAP")
        for name, point_id in looked_into.points.items()
    }
    for case, query in zip(cases, worst.itertuples(), strict=True):
        assert case["text"] == stored["clip"].query("query_id == @case['id']")["query"].iloc[0]
        right, ours, theirs = case["pictures"]
        assert right["name"] == case["id"][:4] and right["relevant"]
        assert right["ranks"] == [("lexlip", f"rank {query.lexlip}"), ("clip", f"rank {query.clip}")]
        for name, first in (("lexlip", ours), ("clip", theirs)):
            assert first["label"] == f"{name} puts first" and first["relevant"] == (getattr(query, name) == 1)
            image = stored[name].query("query_id == @case['id'] and rank == 1").image.item()
            assert first["image"] == f"data:image/webp;base64,{base64.b64encode(image).decode()}"
        assert [lexicon["name"] for lexicon in ours["lexicons"]] == ["<b>cat", "night"] and not theirs["lexicons"]
    for table, way in zip(section.tables, section.data["ways"], strict=True):
        assert [line["text"].value for line in table.rows] == [case["text"] for case in way["cases"]]
    assert section.data["without"] == 0


def test_the_page_says_the_rule_how_many_and_shows_them(looked_into):
    html = html_of(looked_into.store)
    assert "of 300 test captions, the 5 whose right picture the two models rank furthest apart, each way" in html
    assert "With each: its right picture, and what each model put first in the whole gallery" in html
    assert html.count('alt="The right picture, id ') == 10 and html.count('alt="clip puts first, id ') == 10
    assert "75%, 36×40" in html and "25%, 0.125×0.500" in html
    assert COMMANDS not in html


def test_a_hostile_caption_and_lexicon_are_text(looked_into):
    html = html_of(looked_into.store)
    assert "<script>alert" not in html and "<b>cat" not in html and "\u202e" not in html
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &#34;quoted&#34; | a &amp; b second line" in html
    assert (
        'aria-label="Heat map of the lexicon &lt;b&gt;cat over the picture 0059: highest in row 2, column 1 of 2 by 2 patches"'
        in html
    )


def test_records_of_earlier_versions_make_a_page_that_says_what_is_missing(without):
    html = html_of(without.store)
    assert f"The pictures of these queries, and heat maps of them, were not kept with the records: {COMMANDS}" in html
    assert f"Heat maps were not kept with the records of lexlip: {COMMANDS}" in html
    assert "<svg" not in html and "“a cat of number 0”" in html
    assert html.count("not kept with the records") >= 10, "captions"


def test_a_bundle_shows_the_same(looked_into, tmp_path):
    bundle.write([looked_into.store], tmp_path / "bundle")
    assert html_of(bundle.Bundle(tmp_path / "bundle")) == html_of(looked_into.store)


def test_failures_of_one_model_that_were_kept_are_shown(looked_into):
    """The other model's results are of an earlier version: its right picture, and what this one put first."""
    path = looked_into.store.folder / f"{looked_into.points['clip']}.examples.parquet"
    pd.read_parquet(path).query("chosen != @RANK_GAP").drop(columns=["chosen", "heat_maps"]).to_parquet(path)
    html = html_of(looked_into.store)
    assert html.count('alt="The right picture, id ') == html.count('alt="lexlip puts first, id ') == 10
    assert "clip puts first" not in html


# --- heat maps


def test_a_heat_map_is_red_where_the_logit_is_high(looked_into):
    data = retrieved.section(Evidence(looked_into.store)).data
    assert data["with_heat"] == 1
    shown = [picture for query in data["queries"] for side in query["sides"] for picture in side["pictures"]]
    first, second = next(picture["heat_maps"] for picture in shown if picture["heat_maps"])
    red = np.asarray(Image.open(io.BytesIO(base64.b64decode(first["image"].removeprefix("data:image/png;base64,")))))
    assert red.shape == (2, 2, 4) and (red[..., :3] == HOT).all()
    assert red[..., 3].tolist() == [[0, round(255 * 0.6 / 4)], [round(255 * 0.6), round(255 * 0.6 / 2)]], (
        "a negative logit is no heat"
    )
    assert (first["row"], first["column"]) == (2, 1)
    assert first["match"] == {"name": "<b>cat", "query": "0.500", "picture": "0.400", "share": "61"}
    assert (second["row"], second["column"], second["token"]) == (None, None, 1)


def test_the_page_frames_the_winning_patch_and_names_cls(looked_into):
    html = html_of(looked_into.store)
    assert html.count("<svg") == 4, "two lexicons of the first picture, two of what lexlip put first"
    assert html.count('<rect x="0" y="1" width="1" height="1"/>') == html.count("<rect") == 2
    assert html.count("highest at token 1, which is no patch") == html.count("<small>[CLS], no patch</small>") == 2
    assert "Heat maps of 1 query, of those kept evenly spaced" in html


@pytest.mark.parametrize(
    "stored",
    [
        None, float("nan"), "", "no json", "7", "[[]]", '["cat"]', '[["cat", 0, []]]', '[["cat", 0, ["1"]]]', '[["cat", 0, [NaN]]]', '[["cat", 3, [1, 2]]]',
        '[["cat", -1, [1, 2]]]', '[["cat", true, [1, 2]]]', '[["cat", 0, null]]', json.dumps([["cat", 0, [1.0] * 5000]]), '{"cat": 1}',
    ],
)  # fmt: skip
def test_what_is_no_heat_map_is_left_out(stored):
    assert pictures.heat_maps(stored, {}) == []


@pytest.mark.parametrize(
    "stored", [None, "no json", "3", "[3]", '[["cat", 1, 2]]', '[["cat", "1", 2, 0.5]]', '[["cat", 1, 2, NaN]]']
)
def test_what_is_no_match_is_left_out(stored):
    assert pictures.lexicons_of(stored) == []


def test_a_heat_map_without_its_picture_is_not_drawn(looked_into):
    store = looked_into.store
    rows = store.examples(looked_into.points["lexlip"]).assign(image=b"<svg onload=alert(1)>")
    store.replace_examples(looked_into.points["lexlip"], rows)
    assert "<svg" not in html_of(store)


def test_a_store_reads_examples_without_the_younger_columns(without):
    examples, _ = pictures.examples_of(Evidence(RecordStore(without.store.folder.parent)), "lexlip")
    assert examples.chosen.isna().all() and examples.heat_maps.isna().all() and len(examples) == 72
