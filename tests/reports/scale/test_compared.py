"""What is compared with what: machines, checkpoints, indexes, settings."""

from reports.findings.ratios import lexicon_side, speedup
from reports.records.sweep import chosen, sweeps
from tests.reports.scale.records import LEXICON, ONE


def test_machines_never_mix(small):
    small.impact(32, 0.40, 7000.0, 7000.0, 64.0, machine_id="two")
    one, two = sorted(sweeps(small.evidence), key=lambda sweep: sweep.machine_id)
    (alone,) = lexicon_side(two, "impact", "lexlip")
    assert alone.rate(ONE) == 7000.0 and speedup(two, alone, ONE).missing == "not measured"
    assert 7000.0 not in {search.rate(ONE) for search in lexicon_side(one, "impact", "lexlip")}


def test_an_earlier_checkpoint_of_another_machine_stays(small):
    small.impact(32, 0.40, 7000.0, 7000.0, 64.0, machine_id="two", checkpoint_id="other")
    assert {sweep.machine_id for sweep in sweeps(small.evidence)} == {"one", "two"}


def test_of_two_codes_of_an_engine_the_newest_index_stands(made):
    made.impact(32, 0.40, 600.0, 3000.0, 64.0, index_id="old")
    point = made.point("lexicon", engine="impact", top_k=32, bits=8, index_id="new", exact=True, knobs=LEXICON)
    made.write(point, {"recall@1": 0.45, "bytes_per_image": 60.0}, started="2026-02-01T00:00:00+00:00")
    (search,) = sweeps(made.evidence)[0].searches
    assert (search.recall, search.calls) == (0.45, {})


def test_chosen_is_the_setting_of_most_sizes(small):
    small.impact(32, 0.45, 900.0, 3000.0, 64.0, images=1_000)
    settings = {
        (search.engine, search.top_k, search.images)
        for search in chosen(sweeps(small.evidence)[0])
        if search.engine == "impact"
    }
    assert settings == {("impact", 32, 10_000), ("impact", 32, 1_000)}
