"""The corpus `scenes`: the same bytes for the same scene, true facts and captions, disjoint splits."""

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.corpora import Corpus, open_corpus
from bench.corpora.scenes import columns, layout
from models.errors import InputError

SPLITS = columns.SPLITS
# sha256 of the first pictures and captions of seed 0, 200 concepts, 64 pixels; a change requires a new layout.GENERATOR
PINNED = {
    "train": (
        "10b09bd2b2fa07438af615f4c8b0286f1dbd46d073945c0203b0141693dc8753",
        "7a1b53eafb573ffa1614cb8d7e9f170a657ea05c9a67c80d02e3d9152735fbd4",
    ),
    "test": (
        "f2691e995f02ad8cb295b633e0163b028328b7d9597998211d7e97a4edeee122",
        "5dff788f13b31f8600a8ebfbb0b16ee639ca07222d24db2af81ba97c28e06651",
    ),
    "compositional": (
        "5ac1842e285a465041b69e464a35e1e83cb68bdf99e7e218cee94e1930001fd1",
        "9fc7111fccb7af9e278ed085a81d2bf8aa28b7932c07ff5b271baf6f8da12ff9",
    ),
}
MANY = 1500


@pytest.fixture(scope="module")
def scenes():
    return open_corpus({"name": "scenes", "pixels": 64, "concepts": 200, "seed": 0})


@pytest.fixture(scope="module")
def all_concepts():
    return open_corpus("scenes")


def facts(corpus, split, n):
    return [corpus.facts(split, i) for i in range(n)]


def box(group):
    """Bounding box of the copies: x0, y0, x1, y1."""
    xs0, ys0, xs1, ys1 = zip(*group.positions, strict=True)
    return min(xs0), min(ys0), max(xs1), max(ys1)


@pytest.mark.parametrize("split", PINNED)
def test_scenes_have_the_pinned_bytes(scenes, split):
    pictures = hashlib.sha256(scenes.render(split, 0, 8).tobytes()).hexdigest()
    captions = hashlib.sha256("\n".join(itertools.chain(*scenes.describe(split, 0, 8))).encode()).hexdigest()
    assert (pictures, captions) == PINNED[split]


def test_a_corpus_conforms_to_the_protocol(scenes):
    assert isinstance(scenes, Corpus)


@given(split=st.sampled_from(SPLITS), i=st.integers(0, 10_000_000), before=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_scene_does_not_depend_on_its_batch(scenes, split, i, before):
    start = max(i - before, 0)
    assert np.array_equal(scenes.render(split, i, i + 1)[0], scenes.render(split, start, i + 3)[i - start])
    assert scenes.describe(split, i, i + 1)[0] == scenes.describe(split, start, i + 3)[i - start]


def test_streams_agree_with_batches(scenes):
    streamed = list(scenes.images("val", 250, 260))  # crosses a batch border of a stream from 0
    assert [name for name, _ in streamed] == [f"val-{i:06d}" for i in range(250, 260)]
    assert np.array_equal(np.stack([picture for _, picture in streamed]), scenes.render("val", 250, 260))
    from_start = list(itertools.islice(scenes.images("val"), 255, 258))
    assert all(np.array_equal(a, b) for (_, a), b in zip(from_start, scenes.render("val", 255, 258), strict=True))
    captions = list(scenes.captions("val", 7, 9))
    assert [(key, image) for key, _, image in captions] == [
        (f"val-{i:06d}-{k}", f"val-{i:06d}") for i in (7, 8) for k in range(5)
    ]
    assert [text for _, text, _ in captions] == list(itertools.chain(*scenes.describe("val", 7, 9)))


def test_seeds_and_splits_share_no_scene(scenes):
    drawn = [scenes._draw(split, 0, MANY)[0] for split in SPLITS]
    drawn.append(open_corpus({"name": "scenes", "concepts": 200, "seed": 1})._draw("train", 0, MANY)[0])
    rows = [row.tobytes() for scenes_of_split in drawn for row in scenes_of_split]
    assert len(set(rows)) == len(rows)


def test_a_scene_is_the_same_at_every_resolution(scenes):
    large = open_corpus({"name": "scenes", "pixels": 112, "concepts": 200})
    assert large.describe("test", 0, 50) == scenes.describe("test", 0, 50)
    assert large.render("test", 0, 2).shape == (2, 112, 112, 3)
    assert large.fingerprint != scenes.fingerprint


@pytest.mark.parametrize("pixels", [64, 112, 224])
def test_sprites_are_large_enough_inside_and_apart(pixels):
    corpus = open_corpus({"name": "scenes", "pixels": pixels, "concepts": 50})
    for scene in facts(corpus, "train", 400):
        positions = [position for group in scene.groups for position in group.positions]
        for x0, y0, x1, y1 in positions:
            assert x0 >= 0 and y0 >= 0 and x1 <= pixels and y1 <= pixels
            assert x1 - x0 == y1 - y0 >= 16
        for a, b in itertools.combinations(positions, 2):
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_sprites_fill_their_squares(all_concepts):
    """No picture of the pack is so thin that its long side would be under 16 pixels."""
    all_concepts.render("train", 0, 1)
    small = all_concepts._atlas.sprites[0][..., 3] > 24
    longest = np.maximum(small.any(1).sum(1), small.any(2).sum(1))
    assert longest.min() >= 15  # the outermost row may be fainter than a tenth


def test_relations_hold_with_a_margin(scenes):
    seen = set()
    for scene in facts(scenes, "train", 1500):
        for a, relation, b in scene.relations:
            seen.add(relation)
            first, second = box(scene.groups[a]), box(scene.groups[b])
            if relation == "left of":
                assert first[2] + 2 <= second[0]
            elif relation == "above":
                assert first[3] + 2 <= second[1]
            else:
                assert relation == "next to" and min(first[3], second[3]) > max(first[1], second[1])
                assert first[2] <= second[0] or second[2] <= first[0]
        pairs = {frozenset((a, b)) for a, relation, b in scene.relations if relation != "next to"}
        assert len(pairs) == len(scene.groups) * (len(scene.groups) - 1) // 2, (
            "every pair is clearly apart on some axis"
        )
        if scene.between is not None:
            seen.add("between")
            middle, *others = [box(scene.groups[(scene.between + k) % 3]) for k in range(3)]
            low, high = sorted(others)
            upper, lower = sorted(others, key=lambda b: b[1])
            assert (low[2] < middle[0] and middle[2] < high[0]) or (upper[3] < middle[1] and middle[3] < lower[1])
    assert seen == {"left of", "above", "next to", "between"}


def test_sprites_are_rendered_at_the_positions_of_the_facts(scenes):
    """Two scenes that differ in their groups only have different pixels at the sprites only."""
    rows, _ = scenes._draw("train", 0, 60)
    with_sprites = scenes.render("train", 0, 60)
    empty = rows.copy()
    empty[:, columns.N_GROUPS] = 0
    without = scenes._atlas.render(empty)
    for i in range(60):
        mask = np.zeros((64, 64), bool)
        for group in scenes.facts("train", i).groups:
            for x0, y0, x1, y1 in group.positions:
                mask[y0:y1, x0:x1] = True
                assert (with_sprites[i, y0:y1, x0:x1] != without[i, y0:y1, x0:x1]).any(-1).sum() > 20
        assert np.array_equal(with_sprites[i][~mask], without[i][~mask])


def held_out(scene):
    """The held-out combinations that are true of a scene."""
    found = []
    for group in scene.groups:
        key = np.uint64(layout.name_hash(group.concept))
        if group.colour and layout.held_out(key, columns.BY_COLOUR, columns.COLOURS.index(group.colour)):
            found.append((group.concept, group.colour))
        if group.size and layout.held_out(key, columns.BY_SIZE, columns.SIZES.index(group.size)):
            found.append((group.concept, group.size))
        if group.count > 1 and layout.held_out(key, columns.BY_COUNT, group.count):
            found.append((group.concept, group.count))
    for a, relation, b in scene.relations:
        kind = {"left of": columns.BY_LEFT, "above": columns.BY_ABOVE}.get(relation)
        first, second = scene.groups[a].concept, scene.groups[b].concept
        if kind and layout.held_out(np.uint64(layout.name_hash(first)), kind, np.uint64(layout.name_hash(second))):
            found.append((first, relation, second))
    return found


@pytest.mark.parametrize("split", ["train", "val", "test", "distractors"])
def test_held_out_combinations_never_occur_outside_compositional(scenes, split):
    assert not [i for i, scene in enumerate(facts(scenes, split, MANY)) if held_out(scene)]


def test_every_compositional_scene_has_a_held_out_combination(scenes):
    scenes_of = facts(scenes, "compositional", MANY)
    found = [held_out(scene) for scene in scenes_of]
    assert all(found)
    assert {len(combination) for combinations in found for combination in combinations} == {2, 3}
    assert {len(scene.groups) for scene in scenes_of} == {1, 2, 3}


def test_about_a_tenth_of_the_combinations_is_held_out(all_concepts):
    keys = [np.uint64(layout.name_hash(name)) for name in all_concepts.concepts]
    for kind, values in (
        (columns.BY_COLOUR, range(8)),
        (columns.BY_SIZE, (0, 2)),
        (columns.BY_COUNT, (2, 3, 4)),
        (columns.BY_LEFT, keys[:20]),
    ):
        share = np.mean([layout.held_out(key, kind, value) for key in keys for value in values])
        assert 0.07 < share < 0.13


def test_styles_and_times_all_occur(scenes):
    drawn = facts(scenes, "train", 600)
    assert {group.style for scene in drawn for group in scene.groups} == {"noto", "fluent"}
    assert {scene.time for scene in drawn} == set(columns.TIMES)
    assert {scene.place for scene in drawn} == set(scenes.pack.places)


def test_bad_parameters_are_refused(scenes):
    for spec, message in (
        (
            {"name": "scene"},
            "(nearest: scenes; known: coco, flickr30k, flickr8k, folder, parquet, pictures, scenes, webdataset)",
        ),
        ({"name": "scenes", "pixel": 64}, "(nearest: pixels; known: concepts, pixels, seed)"),
        ({"name": "scenes", "pixels": 63}, "between 64"),
        ({"name": "scenes", "concepts": 9}, "between 10"),
        ({"name": "scenes", "concepts": 100_000}, "between 10"),
        ({"name": "scenes", "seed": "x"}, "not an integer"),
        ({}, "unknown name None"),
    ):
        with pytest.raises(InputError, match=message):
            open_corpus(spec)
    with pytest.raises(InputError, match="unknown split 'dev'"):
        scenes.render("dev", 0, 1)
    with pytest.raises(InputError, match="expected 0 <= start <= stop"):
        scenes.describe("train", 3, 2)
    assert scenes.render("train", 3, 3).shape == (0, 64, 64, 3) and scenes.describe("train", 3, 3) == []


def test_ten_concepts_are_enough_for_every_split():
    small = open_corpus({"name": "scenes", "concepts": 10})
    for split in SPLITS:
        assert len(small.describe(split, 0, 300)) == 300
