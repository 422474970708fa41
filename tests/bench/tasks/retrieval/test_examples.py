"""Heat maps of examples against the model's own head, token by token."""

import json

import numpy as np
import torch

from bench.store.records import RecordStore
from bench.tasks.retrieval.examples import HEAT_MAPS, HEATED_QUERIES, heat_maps
from bench.tasks.subject import Measurement


def examples_of(measured, variant):
    store = RecordStore(measured.home)
    rows = store.read().query("task == 'retrieval' and variant == @variant").drop_duplicates("point_id")
    (found,) = [table for table in map(store.examples, rows.point_id) if table is not None]
    return found


def test_heat_maps_are_of_the_first_result_of_evenly_spaced_queries(measured):
    rows = examples_of(measured, "lexlip")
    heated, queries = rows[rows.heat_maps.notna()], list(dict.fromkeys(rows.query_id))
    assert len(queries) == 6 and len(heated) == HEATED_QUERIES and rows.chosen.isna().all()
    assert heated.query_id.tolist() == [queries[i] for i in (0, 2, 3, 5)] and set(heated["rank"]) == {1}
    assert examples_of(measured, "clip").heat_maps.isna().all(), "dense vectors have no lexicons"


def test_heat_maps_are_the_logits_of_each_token(measured, scenes):
    """Each against the head run on one token state at a time; the maximum against the pooled logit."""
    model, rows = measured.subjects[0].encoder.model, examples_of(measured, "lexlip")
    images = dict(scenes.images("test", 0, measured.slice.images))
    for row in rows.dropna(subset="heat_maps").itertuples():
        with torch.inference_mode():
            hidden_BLD, pooled = model.image_states(torch.from_numpy(images[row.image_id][None]))
            by_token_LV = np.stack([model.image.head(state_D).numpy() for state_D in hidden_BLD[0]])
        maps, matched = json.loads(row.heat_maps), json.loads(row.lexicons)
        assert maps and [name for name, *_ in maps] == [name for name, *_ in matched[:HEAT_MAPS]]
        for name, first_pooled, logits in maps:
            v = model.vocabulary.index(name)
            np.testing.assert_allclose(logits, by_token_LV[:, v], atol=1e-4)
            assert first_pooled == 0 and abs(max(logits) - float(pooled.logits_BV[0, v])) < 1e-4


def test_a_model_without_token_states_has_no_heat_maps(measured):
    measurement = Measurement(measured.home, measured.subjects[1], measured.slice)
    rows = [{"query_id": "q", "image_id": measurement.encoded.images.ids[0], "lexicons": "[]"}]
    assert not hasattr(measured.subjects[1].encoder.model, "image_states") and heat_maps(measurement, rows) == {}
