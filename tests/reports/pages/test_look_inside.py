"""The page Look inside: disagreements with their images, heat maps, and records that have neither."""

import base64
import dataclasses
import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.store.records import RecordStore
from bench.tasks.rank_gap import RANK_GAP
from bench.tasks.views.heat import HOT
from reports.pages import site
from reports.pages.inside import examples as inside
from reports.pages.inside import failures, retrieved, words
from reports.pages.site import PAGES
from reports.records import bundle
from reports.records.evidence import Evidence
from reports.records.rows import parsed
from reports.render import images

COMMANDS = "were not kept with the records; <code>lexlip-bench disagreement</code> adds them"
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
        point = dataclasses.replace(without.point(name), task=inside.DISAGREEMENT, knobs={"recall": point_id})
        without.disagreements[name] = point.id
        store.write(point, {"median_rank": 1.0}, examples=rows)
    return without


def html_of(store) -> str:
    evidence = Evidence(store)
    sections = [part.section(evidence) for part in LOOK.parts]
    return site.render(evidence, LOOK, sections, files=[], all_tables=[], places={"downloads": "method.html"})


# --- failures


def test_each_failure_has_its_caption_its_picture_and_what_each_model_put_first(looked_into):
    evidence = Evidence(looked_into.store)
    section = failures.section(evidence)
    cases = [case for direction in section.data["directions"] for case in direction["cases"]]
    worst = worst_by_pandas(looked_into.store, looked_into.points)
    assert [case["id"] for case in cases] == worst.query_id.tolist() and len(cases) == 10
    stored = {
        name: looked_into.store.examples(point_id).query("chosen == @RANK_GAP")
        for name, point_id in looked_into.disagreements.items()
    }
    for case, query in zip(cases, worst.itertuples(), strict=True):
        assert case["text"] == stored["clip"].query("query_id == @case['id']")["query"].iloc[0]
        right, ours, theirs = case["images"]
        assert right["name"] == case["id"][:4] and right["relevant"]
        assert right["ranks"] == [("lexlip", f"rank {query.lexlip}"), ("clip", f"rank {query.clip}")]
        for name, first in (("lexlip", ours), ("clip", theirs)):
            assert first["label"] == f"First result of {name}" and first["relevant"] == (getattr(query, name) == 1)
            image = stored[name].query("query_id == @case['id'] and rank == 1").image.item()
            assert first["image"] == f"data:image/webp;base64,{base64.b64encode(image).decode()}"
        assert [lexicon["name"] for lexicon in ours["lexicons"]] == ["<b>cat", "night"] and not theirs["lexicons"]
    for table, direction in zip(section.tables, section.data["directions"], strict=True):
        assert [line["text"].value for line in table.rows] == [case["text"] for case in direction["cases"]]
    assert section.data["without"] == 0


def test_the_page_says_the_rule_how_many_and_shows_them(looked_into):
    html = html_of(looked_into.store)
    assert "of 300 test captions, the 5 with the largest gap in each direction" in html
    assert html.count('alt="Relevant image, id ') == 10 and html.count('alt="First result of clip, id ') == 10
    assert "75%, 36×40" in html and "25%, 0.125×0.500" in html
    assert COMMANDS not in html


def test_a_hostile_caption_and_lexicon_are_text(looked_into):
    html = html_of(looked_into.store)
    assert "<script>alert" not in html and "<b>cat" not in html and "\u202e" not in html
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &#34;quoted&#34; | a &amp; b second line" in html
    assert (
        'aria-label="Heat map of the lexicon &lt;b&gt;cat over image 0059: '
        'highest in row 2, column 1 of 2 by 2 patches"' in html
    )


def test_records_of_earlier_versions_make_a_page_that_says_what_is_missing(without):
    html = html_of(without.store)
    assert f"Images and heat maps of 10 of 10 queries {COMMANDS}" in html
    assert f"Heat maps of lexlip {COMMANDS}" in html
    assert "<svg" not in html and "“a cat of number 0”" in html
    assert html.count("not kept with the records") >= 10, "captions"


def test_a_bundle_shows_the_same(looked_into, tmp_path):
    bundle.write([looked_into.store], tmp_path / "bundle")
    assert html_of(bundle.Bundle(tmp_path / "bundle")) == html_of(looked_into.store)


def test_failures_of_one_model_that_were_kept_are_shown(looked_into):
    """The other model's results are of an earlier version: its relevant image, and the first result of this one."""
    for suffix in ("parquet", "examples.parquet"):
        (looked_into.store.folder / f"{looked_into.disagreements['clip']}.{suffix}").unlink(missing_ok=True)
    html = html_of(looked_into.store)
    assert html.count('alt="Relevant image, id ') == html.count('alt="First result of lexlip, id ') == 10
    assert "First result of clip" not in html


# --- heat maps


def test_a_heat_map_is_red_where_the_logit_is_high(looked_into):
    data = retrieved.section(Evidence(looked_into.store)).data
    assert data["with_heat"] == 1
    shown = [image for query in data["queries"] for side in query["sides"] for image in side["images"]]
    first, second = next(image["heat_maps"] for image in shown if image["heat_maps"])
    red = np.asarray(Image.open(io.BytesIO(base64.b64decode(first["image"].removeprefix("data:image/png;base64,")))))
    assert red.shape == (2, 2, 4) and (red[..., :3] == HOT).all()
    assert red[..., 3].tolist() == [[0, round(255 * 0.6 / 4)], [round(255 * 0.6), round(255 * 0.6 / 2)]], (
        "a negative logit is no heat"
    )
    assert (first["row"], first["column"]) == (2, 1)
    assert first["match"] == {"name": "<b>cat", "query": "0.500", "image": "0.400", "share": "61"}
    assert (second["row"], second["column"], second["token"]) == (None, None, 1)


def test_the_page_frames_the_winning_patch_and_names_cls(looked_into):
    html = html_of(looked_into.store)
    assert html.count("<svg") == 4, "two lexicons of the first image, two of the first result of lexlip"
    assert html.count('<rect x="0" y="1" width="1" height="1"/>') == html.count("<rect") == 2
    assert (
        html.count("highest at token 1, which is not a patch") == html.count("<small>[CLS], not a patch</small>") == 2
    )
    assert "Heat maps (1 query)" in html


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
        rows = store.examples(point_id).assign(image=b"<svg onload=alert(1)>")
        store.replace_examples(point_id, rows)
    assert "<svg" not in html_of(store)


def test_a_store_reads_examples_without_the_younger_columns(without):
    examples, _ = inside.recall_examples(Evidence(RecordStore(without.store.folder.parent)), "lexlip")
    assert examples.chosen.isna().all() and examples.heat_maps.isna().all() and len(examples) == 72


# --- images as words

SAID = [["red", 0.6, 1, 1], ["<b>of", 0.3, 0, 0], ["cat", 0.15, 1, 0]]


def own_words(query_id, text, rank, relevant, **own) -> dict:
    """A typed-word result, with `own` for the image itself."""
    return row(query_id, text, rank, relevant, [["red", 0.5, 0.6, 0.8], ["<b>of", 0.1, 0.3, 0.2]]) | own


@pytest.fixture
def as_words(made):
    """Two images of the reference and of the variant of words; the first is found second, the other is not found."""
    made.retrieval(made.point("lexlip"), 0.5)
    made.retrieval(made.point("clip"), 0.5)
    own = {"captions": json.dumps(["a red cat", made.hostile]), "words": json.dumps(SAID)}
    rows = [own_words("0001-0", "a red cat", 1, False), own_words("0001-0", "a red cat", 2, True, **own)]
    rows += [
        own_words("0002-0", "a dog", None, True, captions="[]", words='[["night", 0.5, 0, null], ["x", NaN, 1, 1], 7]')
    ]
    values = {"active_mean": 3.0, "caption_precision_weighted": 0.7, "strongest_is_word": 0.9}
    for variant in ("lexlip", "lexlip_words"):
        at = dataclasses.replace(made.point(variant, task="sparsity"), engine="", bits=None, direction="", depth=None)
        made.store.write(at, values, examples=rows)
        made.store.write(dataclasses.replace(at, top_k=None), values)
    return made


def test_each_image_has_its_words_captions_and_typed_results(as_words):
    first, second = words.section(Evidence(as_words.store)).data["images"]
    assert (first["name"], second["name"]) == ("0001", "0002") and first["captions"][0] == "a red cat"
    assert [side["variant"] for side in first["sides"]] == ["lexlip", "lexlip_words"]
    side = first["sides"][0]
    assert [(word["name"], word["width"], word["is_said"], word["is_shown"]) for word in side["words"]] == [
        ("red", "100", True, True), ("<b>of", "50", False, False), ("cat", "25", True, False)
    ]  # fmt: skip
    other = second["sides"][0]
    assert (side["said"], side["shown"], other["shown"]) == (2, 1, None)
    assert (side["rank"], [result["rank"] for result in side["results"]]) == (2, [1, 2])
    assert side["results"][1]["relevant"] and side["results"][0]["matched"] == ["red", "<b>of"]
    assert (other["rank"], other["results"], len(other["words"])) == (None, [], 1), "malformed words are left out"


def test_the_page_shows_images_as_words(as_words):
    html = html_of(as_words.store)
    assert "2 of the 3 strongest are caption words, 1 name what it shows" in html
    assert 'rect width="50" height="1"' in html
    assert "this image at rank 2" in html and "this image is not found" in html
    assert "70.0 % of the weight on caption words" in html and "strongest lexicon is one for 90.0 %" in html
    assert "&lt;b&gt;of" in html and "<b>of" not in html and "<script>alert" not in html


def test_records_without_words_say_how_to_add_them(without):
    assert "<code>lexlip-bench sparsity --top-k 32</code>" in html_of(without.store)


def test_a_compact_bundle_keeps_the_words(as_words, tmp_path):
    bundle.write([bundle.Compact(as_words.store)], tmp_path / "bundle")
    assert html_of(bundle.Bundle(tmp_path / "bundle")) == html_of(as_words.store)
