"""Synthetic vectors: the same bytes for any range of items, and the statistics of the vectors they were fitted to."""

import contextlib
import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.store import cli, metrics
from bench.vectors.read import DenseVectors, LexiconVectors, open_vectors
from bench.vectors.statistics import describe, evenly, normalised, occurrences
from bench.vectors.synthetic import command
from bench.vectors.synthetic.bootstrap import BootstrapModel, fit
from bench.vectors.synthetic.generate import SyntheticVectors
from bench.vectors.write import write_vectors
from models.errors import InputError

LEXICONS, TOPICS, DOCUMENTS, CAPTIONED = 240, 12, 1500, 120


def measured(kind: str):
    """Documents with two topics each; queries are noisy parts of the first documents."""
    rng = np.random.default_rng(5)
    popularity = np.arange(1, LEXICONS + 1) ** -0.6
    topics = popularity * rng.gamma(0.3, size=(TOPICS, LEXICONS))
    topics /= topics.max(axis=1, keepdims=True)
    mixed = topics[rng.integers(0, TOPICS, (DOCUMENTS, 2))].max(axis=1)
    weights = np.where(rng.random(mixed.shape) < mixed, 0.1 + rng.gamma(2, size=mixed.shape), 0)
    weights[:, 0] += 0.05
    documents = (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)
    own = np.repeat(np.arange(CAPTIONED), 2)[:-1]
    queries = documents[own] * (rng.random((len(own), LEXICONS)) < 0.5) + 0.05 * (
        rng.random((len(own), LEXICONS)) < 0.03
    )
    queries[:, 1] += 0.01
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    if kind == "dense":
        turn = rng.normal(size=(LEXICONS, 24)).astype(np.float32)
        documents, queries = (normalised(rows @ turn) for rows in (documents, queries))
    cls = LexiconVectors if kind == "lexicon" else DenseVectors
    ids = [f"image{i}" for i in range(DOCUMENTS)]
    return cls.of(documents, ids), cls.of(queries, [f"query{i}" for i in range(len(own))], [ids[i] for i in own])


@pytest.fixture(scope="module")
def vectors():
    return {kind: measured(kind) for kind in ("lexicon", "dense")}


@pytest.fixture(scope="module")
def models(vectors):
    return {kind: fit(*both, prototypes=500) for kind, both in vectors.items()}


def plain(rows) -> np.ndarray:
    return rows if isinstance(rows, np.ndarray) else rows.toarray()


def of(rows, items=None):
    cls = DenseVectors if isinstance(rows, np.ndarray) else LexiconVectors
    return cls.of(rows, None, items)


@pytest.mark.parametrize("kind", ["lexicon", "dense"])
@settings(max_examples=12)
@given(cuts=st.lists(st.integers(0, 400), min_size=2, max_size=6), seed=st.integers(0, 3))
def test_ranges_of_items_are_parts_of_one_collection(models, kind, cuts, seed):
    cuts = sorted(cuts)
    whole = plain(SyntheticVectors(models[kind], seed).documents(cuts[0], cuts[-1]))
    pieces = [
        plain(SyntheticVectors(models[kind], seed).documents(*pair)) for pair in zip(cuts[:-1], cuts[1:], strict=True)
    ]
    assert np.array_equal(np.concatenate(pieces), whole)


def test_items_have_the_pinned_bytes():
    """If they change, the same model and seed give different vectors."""
    weights = np.array([[0.6, 0.8, 0, 0], [0, 0.6, 0.8, 0], [0, 0, 0.6, 0.8], [0.8, 0, 0, 0.6]], np.float32)
    model = BootstrapModel(
        documents=LexiconVectors.of(weights).to_scipy(),
        queries=LexiconVectors.of(weights[:1]).to_scipy(),
        query_of=np.zeros(1, np.int32),
        nearest=np.array([[1, 3], [0, 2], [1, 3], [2, 0]], np.int32),
        ranks=np.arange(4, dtype=np.int32),
        neighbours=2,
        unit=False,
        zipf=0.5,
        measured={},
    )
    rows = SyntheticVectors(model, seed=1, vocabulary=9).documents(0, 500).toarray()
    assert (
        hashlib.sha256(rows.tobytes()).hexdigest() == "8792939197f8f4cfefe7948e34125edba99c186bf31905b3fc82b5df45639949"
    )
    assert not np.array_equal(rows, SyntheticVectors(model, seed=2, vocabulary=9).documents(0, 500).toarray())


@settings(max_examples=12)
@given(start=st.integers(0, 10**7), seed=st.integers(0, 2**31), vocabulary=st.sampled_from([None, LEXICONS + 1, 3001]))
def test_items_are_valid_lexicon_vectors(models, start, seed, vocabulary):
    rows = SyntheticVectors(models["lexicon"], seed, vocabulary).documents(start, start + 40)
    assert rows.shape == (40, vocabulary or LEXICONS) and rows.indptr[-1] == len(rows.indices) == len(rows.data)
    assert np.isfinite(rows.data).all() and (rows.data > 0).all() and rows.data.dtype == np.float32
    assert all((np.diff(rows.indices[a:b]) > 0).all() for a, b in zip(rows.indptr[:-1], rows.indptr[1:], strict=True))
    assert rows.indices.min() >= 0 and rows.indices.max() < rows.shape[1]
    np.testing.assert_allclose(np.square(rows.toarray()).sum(axis=1), 1, atol=1e-5)


def test_lexicon_statistics_match_the_measured_ones(vectors, models):
    documents, queries = vectors["lexicon"]
    made = SyntheticVectors(models["lexicon"])
    rows, own = made.queries()
    found = describe(of(made.documents(0, DOCUMENTS)), of(rows, own))
    wanted = describe(documents, queries)
    assert found.keys() == wanted.keys() and wanted == models["lexicon"].measured
    for name in (
        "active_mean",
        "active_p50",
        "effective_vocabulary",
        "flops_per_pair",
        "query_random_overlap",
        "weight_rank_1",
    ):
        assert found[name] == pytest.approx(wanted[name], rel=0.04), name
    assert found["pair_cosine_mean"] == pytest.approx(wanted["pair_cosine_mean"], rel=0.08)
    for name in ("zipf_exponent", "top_lexicon_share", "place_10_cosine", "pair_cosine_p99"):
        assert found[name] == pytest.approx(wanted[name], abs=0.05), name
    assert found["nearest_cosine"] == pytest.approx(wanted["nearest_cosine"], abs=0.1)  # 500 prototypes of 1,500 items
    for name in ("own_cosine", "query_document_overlap", "query_active_mean"):
        assert found[name] == pytest.approx(wanted[name], rel=1e-5), name
    shares = [occurrences(each)[0] / each.count for each in (documents, of(made.documents(0, 20_000)))]
    assert np.abs(shares[0] - shares[1]).max() < 0.06 and np.corrcoef(*shares)[0, 1] > 0.99


def test_correlated_lexicons_stay_correlated(vectors, models):
    """Correlations between lexicons are about half as strong as measured, because an item crosses two prototypes."""
    real, made = (
        plain(rows) > 0
        for rows in (vectors["lexicon"][0].to_scipy(), SyntheticVectors(models["lexicon"]).documents(0, 20_000))
    )
    common = np.flatnonzero((real.mean(axis=0) > 0.1) & (real.mean(axis=0) < 0.9))
    upper = np.triu_indices(len(common), 1)
    together = [np.corrcoef(rows[:, common].T)[upper] for rows in (real, made)]
    assert np.abs(together[0]).max() > 0.3
    slope = np.polyfit(together[0], together[1], 1)[0]
    assert np.corrcoef(*together)[0, 1] > 0.9 and 0.45 < slope < 1.1


def test_a_larger_vocabulary_keeps_lengths_weights_and_overlap(models):
    model = models["lexicon"]
    vocabulary = 10 * LEXICONS + 7
    narrow, wide = SyntheticVectors(model), SyntheticVectors(model, vocabulary=vocabulary)
    few, many = narrow.documents(0, 4000), wide.documents(0, 4000)
    assert np.array_equal(few.indptr, many.indptr) and np.array_equal(few.data, many.data)
    starts = np.arange(LEXICONS + 1) * vocabulary // LEXICONS
    assert np.array_equal(np.searchsorted(starts, many.indices, side="right") - 1, few.indices)
    descriptions = []
    for made, rows in ((narrow, few), (wide, many)):
        queries, own = made.queries()
        descriptions.append(describe(of(rows), of(queries, own)))
    before, after = descriptions
    assert after["query_document_overlap"] == pytest.approx(before["query_document_overlap"], abs=1e-6)
    assert after["query_random_overlap"] < 0.5 * before["query_random_overlap"]
    assert after["effective_vocabulary"] > 4 * before["effective_vocabulary"]


def test_the_popularity_of_a_larger_vocabulary_keeps_its_exponent():
    """Documents of one lexicon each, with popularity rank^-a: with five times the vocabulary, it is still rank^-a."""
    exponent, lexicons = 0.8, 50
    share = np.arange(1, lexicons + 1) ** -exponent
    counts = np.rint(20_000 * share / share.sum()).astype(int)
    rows = np.eye(lexicons, dtype=np.float32)[np.repeat(np.arange(lexicons), counts)]
    model = BootstrapModel(
        LexiconVectors.of(rows).to_scipy(),
        LexiconVectors.of(rows[:1]).to_scipy(),
        np.zeros(1, np.int32),
        np.arange(len(rows), dtype=np.int32)[:, None],
        np.arange(lexicons, dtype=np.int32),
        1,
        True,
        exponent,
        {},
    )
    made = SyntheticVectors(model, vocabulary=5 * lexicons).documents(1, 200_000)
    frequency = np.sort(np.bincount(made.indices, minlength=5 * lexicons))[::-1]
    slope = np.polyfit(np.log(np.arange(1, 5 * lexicons + 1)), np.log(frequency), 1)[0]
    assert -slope == pytest.approx(exponent, abs=0.1)


def test_dense_statistics_match_the_measured_ones(vectors, models):
    documents, queries = vectors["dense"]
    made = SyntheticVectors(models["dense"])
    rows, own = made.queries()
    many = made.documents(0, 20_000)
    np.testing.assert_allclose(np.linalg.norm(many, axis=1), 1, atol=1e-5)
    found, wanted = describe(of(many[:DOCUMENTS]), of(rows, own)), models["dense"].measured
    for name in ("pair_cosine_mean", "nearest_cosine", "place_10_cosine", "pair_cosine_p99"):
        assert found[name] == pytest.approx(wanted[name], abs=0.04), name
    assert found["own_cosine"] == pytest.approx(wanted["own_cosine"], rel=1e-5)
    spectra = [np.linalg.eigvalsh(np.cov(each.T))[::-1] for each in (documents.to_numpy(), many)]
    assert spectra[1].sum() == pytest.approx(spectra[0].sum(), rel=0.05)
    assert np.abs(spectra[1] - spectra[0]).max() < 0.1 * spectra[0][0]


@pytest.mark.parametrize("kind", ["lexicon", "dense"])
def test_a_saved_model_is_the_same_model(tmp_path, models, kind):
    models[kind].save(tmp_path / "model.npz")
    loaded = BootstrapModel.load(tmp_path / "model.npz")
    assert loaded.id == models[kind].id and loaded.measured == models[kind].measured
    assert np.array_equal(
        plain(SyntheticVectors(loaded).documents(0, 200)), plain(SyntheticVectors(models[kind]).documents(0, 200))
    )


def test_a_changed_byte_of_a_model_is_refused_or_harmless(tmp_path, models):
    """One inside the compressed data used to end in a traceback of zlib."""
    path = tmp_path / "model.npz"
    models["lexicon"].save(path)
    content = path.read_bytes()
    for place in evenly(len(content), 60):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        with contextlib.suppress(InputError):
            assert BootstrapModel.load(path).id == models["lexicon"].id


def test_vectors_on_disk_equal_the_generated_ones(tmp_path, models, monkeypatch):
    made = SyntheticVectors(models["lexicon"], seed=3)
    encoded = command.write_synthetic(tmp_path, models["lexicon"], 66_000, seed=3)
    assert [shard.shape[0] for shard in encoded.images.shards()] == [65_536, 464]
    encoded.images.verify()
    whole = made.documents(0, 66_000)
    assert (encoded.images.to_scipy() != whole).nnz == 0
    rows, own = made.queries()
    assert (encoded.captions.to_scipy() != rows).nnz == 0
    assert encoded.captions.groups == [encoded.images.ids[item] for item in own] and len(
        set(encoded.captions.ids)
    ) == len(own)
    monkeypatch.setattr(command, "_write_documents", None)  # what is there is not written again
    assert command.write_synthetic(tmp_path, models["lexicon"], 66_000, seed=3).images_id == encoded.images_id


def test_commands(tmp_path, vectors, capsys, monkeypatch):
    for part, each in zip(("documents", "queries"), vectors["lexicon"], strict=True):
        with write_vectors(tmp_path / part, "lexicon", LEXICONS) as writer:
            writer.append(each.to_scipy(), each.ids, each.groups)
    folders = ["--documents", str(tmp_path / "documents"), "--queries", str(tmp_path / "queries")]
    model = ["--model", str(tmp_path / "model.npz"), "--home", str(tmp_path / "home")]
    assert cli.run(command.main, command.parser(), ["fit", *folders, *model, "--prototypes", "300"]) == 0
    assert cli.run(command.main, command.parser(), ["make", *model, "--count", "2k", "--vocabulary", "999"]) == 0
    images, captions = capsys.readouterr().out.splitlines()[-2:]
    assert (open_vectors(images).count, open_vectors(images).dimension) == (2000, 999)
    assert (
        cli.run(command.main, command.parser(), ["describe", *model, "--documents", images, "--queries", captions]) == 0
    )
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["dimension", str(LEXICONS), "999"] in table
    assert {line[0] for line in table[1:]} == describe(*vectors["lexicon"]).keys()


def test_every_statistic_is_a_registered_metric(models):
    for model in models.values():
        assert all(name in metrics.METRICS for name in model.measured)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["make", "--count", "2k"], "no such file"),
        (["make", "--count", "many", "--model", "{model}"], "number of images"),
        (["make", "--count", "5", "--model", "{model}"], "at least the 120"),
        (["make", "--vocabulary", "100", "--model", "{model}"], "at least their 240"),
        (["fit"], "--documents"),
        (["describe", "--documents", "{nowhere}"], "no such folder"),
        (["make", "--model", "{broken}"], "not a model"),
    ],
)
def test_bad_input_is_one_line(tmp_path, models, capsys, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    models["lexicon"].save(tmp_path / "model.npz")
    (tmp_path / "broken.npz").write_bytes((tmp_path / "model.npz").read_bytes()[:1000])
    places = {"model": tmp_path / "model.npz", "broken": tmp_path / "broken.npz", "nowhere": tmp_path / "nowhere"}
    assert cli.run(command.main, command.parser(), [each.format(**places) for each in arguments]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


def test_vectors_of_different_models_are_refused(vectors):
    documents, queries = vectors["lexicon"]
    with pytest.raises(InputError, match="the same model"):
        fit(documents, vectors["dense"][1])
    with pytest.raises(InputError, match="groups"):
        fit(documents, LexiconVectors.of(queries.to_scipy(), queries.ids))
    with pytest.raises(InputError, match="at least their 24 lexicons"):
        SyntheticVectors(fit(*vectors["dense"], prototypes=130), vocabulary=999)
