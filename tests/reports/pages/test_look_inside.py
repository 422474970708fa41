"""The page Look inside: disagreements with their images, heat maps, and records that have neither."""

import base64
import dataclasses
import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.tasks.rank_gap import RANK_GAP
from bench.tasks.views.heat import HOT
from reports.pages import look, site
from reports.pages.site import PAGES
from reports.records import bundle
from reports.records.evidence import Evidence
from reports.records.rows import parsed
from reports.render import images

COMMANDS = "Images of these queries were not kept with the records; <code>lexlip-bench disagreement</code> adds them."
MATCHED = [["<b>cat", 36.0, 40.0, 0.75], ["night", 0.125, 0.5, 0.25]]
# [CLS] and 2 x 2 patches: the highest is in row 2, column 1; then a lexicon whose highest is [CLS].
MAPS = [["<b>cat", 0, [0.5, -1.0, 1.0, 4.0, 2.0]], ["night", 0, [3.0, 1.0, -2.0, -1.0, 0.0]]]
(LOOK,) = (page for page in PAGES if page.name == "look")


def row(query_id, text, rank, relevant, matched=(), heat_maps=None) -> dict:
    """A result of a query selected by rank gap; an irrelevant one is image 0059."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 0, 0) if relevant else (0, 0, 200)).save(stream, "WEBP")
    return {
        "query_id": query_id, "query": text, "rank": rank, "image_id": query_id[:4] if relevant else "0059",
        "relevant": relevant, "score": 1.5, "lexicons": json.dumps(list(matched)), "image": stream.getvalue(),
        "chosen": RANK_GAP, "heat_maps": heat_maps,
    }  # fmt: skip


def worst_by_pandas(store, points) -> pd.DataFrame:
    """The five queries with the largest rank gap in each direction, from the stored ranks: query_id, gap, ranks."""
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
    made.disagreements = {}
    made.points = {
        name: made.retrieval(made.point(name), skill, made.examples(name))
        for name, skill in (("lexlip", 0.4), ("clip", 0.5))
    }
    for point_id in made.points.values():
        path = made.store.folder / f"{point_id}.examples.parquet"
        pd.read_parquet(path).drop(columns=["chosen", "heat_maps", "captions", "words"]).to_parquet(path)
    return made


@pytest.fixture
def looked_into(without):
    """`without`, and disagreement points; the first query has a hostile caption and heat maps."""
    store, worst = without.store, worst_by_pandas(without.store, without.points)
    for name, point_id in without.points.items():
        lexicon, evenly, rows = name == "lexlip", store.examples(point_id).to_dict("records"), []
        if lexicon:
            evenly[0]["heat_maps"] = json.dumps(MAPS)
            store.replace_examples(point_id, evenly)
        for at, query in enumerate(worst.itertuples()):
            text, rank = without.hostile if at == 0 else f"a failure, number {at}", int(getattr(query, name))
            matched, heat = (MATCHED, json.dumps(MAPS) if at == 0 else None) if lexicon else ((), None)
            if rank > 1:
                rows.append(row(query.query_id, text, 1, False, matched, heat))
            rows.append(row(query.query_id, text, rank, True, matched))
        point = dataclasses.replace(without.point(name), task="disagreement", knobs={"recall": point_id})
        without.disagreements[name] = point.id
        store.write(point, {"median_rank": 1.0}, examples=rows)
    return without


def html_of(store) -> str:
    evidence = Evidence(store)
    return site.render(evidence, LOOK, look.sections(evidence), files=[], all_tables=[], root="", switch=())


# --- failures


def test_each_failure_has_its_caption_its_picture_and_what_each_model_put_first(looked_into):
    section = look.failures(Evidence(looked_into.store))
    cases = [case for direction in section.data["directions"] for case in direction["cases"]]
    worst = worst_by_pandas(looked_into.store, looked_into.points)
    stored = {
        name: looked_into.store.examples(point_id).query("chosen == @RANK_GAP")
        for name, point_id in looked_into.disagreements.items()
    }
    assert len(cases) == 10
    for case, query in zip(cases, worst.itertuples(), strict=True):
        right, ours, theirs = case["images"]
        assert right["name"] == query.query_id[:4] and right["relevant"]
        assert right["ranks"] == [f"lexlip: rank {query.lexlip}", f"clip: rank {query.clip}"]
        for name, first in (("lexlip", ours), ("clip", theirs)):
            assert first["label"] == f"First result of {name}" and first["relevant"] == (getattr(query, name) == 1)
            image = stored[name].query("query_id == @query.query_id and rank == 1").image.item()
            assert first["image"] == f"data:image/webp;base64,{base64.b64encode(image).decode()}"
        assert [word["name"] for word in ours["words"]] == ["<b>cat", "night"] and not theirs["words"]
    gaps = [row["gap"].value for table in section.folded for row in table.rows]
    assert gaps == worst.gap.abs().tolist()
    assert sum(section.data["counts"].values()) == 300


def test_the_page_says_the_rule_how_many_and_shows_them(looked_into):
    html = html_of(looked_into.store)
    assert "Of 300 test captions, the 5 with the largest rank gap in each direction" in html
    assert html.count('alt="Relevant image, id ') == 10 and html.count('alt="First result of clip, id ') == 10
    assert '<rect width="100" height="1"/>' in html and '<rect width="33" height="1"/>' in html  # 0.75 and 0.25
    assert COMMANDS not in html and "75%" not in html


def test_a_hostile_caption_and_lexicon_are_text(looked_into):
    html = html_of(looked_into.store)
    assert "<script>alert" not in html and "<b>cat" not in html and "\u202e" not in html
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &#34;quoted&#34; | a &amp; b second line" in html
    where = "highest in row 2, column 1 of 2 by 2 patches"
    assert f'aria-label="Heat map of the lexicon &lt;b&gt;cat over image 0059: {where}"' in html


def test_records_of_earlier_versions_make_a_page_that_says_what_is_missing(without):
    html = html_of(without.store)
    assert html.count(COMMANDS) == 2 and "Heat map" not in html and "“a cat of number 0”" in html


def test_a_bundle_shows_the_same(looked_into, tmp_path):
    bundle.write([looked_into.store], tmp_path / "bundle")
    assert html_of(bundle.Bundle(tmp_path / "bundle")) == html_of(looked_into.store)


def test_failures_without_ranks_are_left_out(sweep):
    assert look.failures(sweep.evidence) is None


# --- heat maps


def test_a_heat_map_is_red_where_the_logit_is_high(looked_into):
    data = look.retrieved(Evidence(looked_into.store)).data
    shown = [image for query in data["queries"] for side in query["sides"] for image in side["images"]]
    first, second = next(image["heat_maps"] for image in shown if image["heat_maps"])
    red = np.asarray(Image.open(io.BytesIO(base64.b64decode(first["image"].removeprefix("data:image/png;base64,")))))
    assert red.shape == (2, 2, 4) and (red[..., :3] == HOT).all()
    shades = [[0, round(255 * 0.6 / 4)], [round(255 * 0.6), round(255 * 0.6 / 2)]]
    assert red[..., 3].tolist() == shades, "a negative logit is no heat"
    assert (first["row"], first["column"]) == (2, 1)
    assert (second["row"], second["column"], second["token"]) == (None, None, 1)


def test_the_page_frames_the_winning_patch_and_names_cls(looked_into):
    html = html_of(looked_into.store)
    assert html.count('<rect x="0" y="1" width="1" height="1"/>') == 2, "of the first image, and the first result"
    assert html.count("highest at token 1, which is not a patch") == 2
    assert html.count("<small>[CLS], not a patch</small>") == 2


@pytest.mark.parametrize(
    "stored",
    [
        None, float("nan"), "", "no json", "7", "[[]]", '["cat"]', '[["cat", 0, []]]', '[["cat", 0, ["1"]]]',
        '[["cat", 0, [NaN]]]', '[["cat", 3, [1, 2]]]', '[["cat", -1, [1, 2]]]', '[["cat", true, [1, 2]]]',
        '[["cat", 0, null]]', json.dumps([["cat", 0, [1.0] * 5000]]), '{"cat": 1}',
    ],
)  # fmt: skip
def test_what_is_no_heat_map_is_left_out(stored):
    assert images.heat_maps(parsed(stored), {}) == []


@pytest.mark.parametrize(
    "stored", [None, "no json", "3", "[3]", '[["cat", 1, 2]]', '[["cat", "1", 2, 0.5]]', '[["cat", 1, 2, NaN]]']
)
def test_what_is_no_match_is_left_out(stored):
    assert images.lexicons(parsed(stored)) == []


def test_a_heat_map_without_its_picture_is_not_drawn(looked_into):
    store = looked_into.store
    for point_id in (looked_into.points["lexlip"], looked_into.disagreements["lexlip"]):
        store.replace_examples(point_id, store.examples(point_id).assign(image=b"<svg onload=alert(1)>"))
    html = html_of(store)
    assert "Heat map" not in html and "onload" not in html and "image not kept" in html


def test_results_of_each_model_are_those_of_the_records(without):
    data = look.retrieved(Evidence(without.store)).data
    assert (len(data["queries"]), data["of"]) == (10, 12)
    for query in data["queries"]:
        ours, theirs = query["sides"]
        assert [image["rank"] for image in ours["images"]] == [1, 2, 3, 4, 5] and ours["images"][1]["relevant"]
        assert ours["rank"] in ("rank 1", "rank 2") and [side["variant"] for side in query["sides"]] == [
            "lexlip",
            "clip",
        ]
        assert [word["name"] for word in ours["images"][0]["words"]] == ["<b>cat", "night"]
        assert not theirs["images"][0]["words"]


# --- images as words

SAID = [["red", 0.6, 1, 1], ["<b>of", 0.3, 0, 0], ["cat", 0.15, 1, 0]]


def own_words(query_id, text, rank, relevant, **own) -> dict:
    """A typed-word result, with `own` for the image itself."""
    return row(query_id, text, rank, relevant, [["red", 0.5, 0.6, 0.8], ["<b>of", 0.1, 0.3, 0.2]]) | own


@pytest.fixture
def as_words(made):
    """Two images of the reference and of the variant of words; the first is found second, the other is not found."""
    return with_words(made, ("lexlip", "lexlip_words"))


def with_words(made, variants):
    for variant in (variants[0], "clip"):
        made.retrieval(made.point(variant), 0.5)
    own = {"captions": json.dumps(["a red cat", made.hostile]), "words": json.dumps(SAID)}
    rows = [own_words("0001-0", "a red cat", 1, False), own_words("0001-0", "a red cat", 2, True, **own)]
    rows += [
        own_words("0002-0", "a dog", None, True, captions="[]", words='[["night", 0.5, 0, null], ["x", NaN, 1, 1], 7]')
    ]
    values = {"active_mean": 3.0, "caption_precision_weighted": 0.7, "strongest_is_word": 0.9}
    for variant in variants:
        at = dataclasses.replace(made.point(variant, task="sparsity"), engine="", bits=None, direction="", depth=None)
        made.store.write(at, values, examples=rows)
        made.store.write(dataclasses.replace(at, top_k=None), values)
    return made


def test_each_image_has_its_words_and_captions(as_words):
    first, second = look.images(Evidence(as_words.store))
    assert (first["name"], second["name"]) == ("0001", "0002") and first["captions"][0] == "a red cat"
    assert [side["variant"] for side in first["sides"]] == ["lexlip", "lexlip_words"]
    side, other = first["sides"][0], second["sides"][0]
    assert [(word["name"], word["width"], word["is_said"], word["is_shown"]) for word in side["words"]] == [
        ("red", "100", True, True), ("<b>of", "50", False, False), ("cat", "25", True, False)
    ]  # fmt: skip
    assert (side["query"], side["rank"], other["rank"]) == ("a red cat", 2, None)
    assert len(other["words"]) == 1, "malformed words are left out"


def test_a_home_without_the_reference_shows_its_words_once(made):
    first, _ = look.images(Evidence(with_words(made, ("lexlip_words",)).store))
    assert [side["variant"] for side in first["sides"]] == ["lexlip_words"]


def test_the_page_shows_images_as_words(as_words):
    html = html_of(as_words.store)
    assert 'rect width="50" height="1"' in html
    assert "this image at rank 2" in html and "this image is not found" in html
    assert "&lt;b&gt;of" in html and "<b>of" not in html and "<script>alert" not in html


def test_without_words_the_lexicons_that_a_caption_shares_stand_in(without):
    shown = look.images(Evidence(without.store))
    assert len(shown) == 10 and not shown[0]["sides"][0]["is_whole"]
    assert [word["width"] for word in shown[0]["sides"][0]["words"]] == ["100", "64"]  # 0.61 and 0.39 of the score


def test_a_compact_bundle_keeps_the_words(as_words, tmp_path):
    bundle.write([bundle.Compact(as_words.store)], tmp_path / "bundle")
    assert html_of(bundle.Bundle(tmp_path / "bundle")) == html_of(as_words.store)
