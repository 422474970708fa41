"""Vectors drawn from statistics: like the vectors that were measured, without any of them."""

import contextlib

import numpy as np
import pytest
import scipy

from bench.store import cli
from bench.vectors.read import DenseVectors, LexiconVectors
from bench.vectors.statistics import describe, evenly, normalised, occurrences
from bench.vectors.synthetic import command, moments
from bench.vectors.synthetic.moments import Moments, measure
from bench.vectors.write import write_vectors
from models.errors import InputError

LEXICONS, DOCUMENTS, TOPICS, EACH = 200, 1200, 6, 2


def pairs(kind: str):
    """Documents of six topics, and two queries of each, which are noisy copies."""
    rng = np.random.default_rng(3)
    levels = np.log(np.arange(1, LEXICONS + 1) ** -0.5)
    topics = rng.normal(size=(TOPICS, LEXICONS))
    latent = rng.normal(size=(DOCUMENTS, TOPICS)) @ topics * 0.6 + rng.normal(size=(DOCUMENTS, LEXICONS))
    own = np.repeat(np.arange(DOCUMENTS), EACH)
    both = latent, latent[own] + rng.normal(size=(len(own), LEXICONS))
    if kind == "dense":
        turn = rng.normal(size=(LEXICONS, 24))
        rows = [normalised((side @ turn + 1).astype(np.float32)) for side in both]
    else:
        rows = [normalised(np.maximum(side + levels - 0.5, 0).astype(np.float32)) for side in both]
    of = LexiconVectors.of if kind == "lexicon" else DenseVectors.of
    ids = [f"image{row}" for row in range(DOCUMENTS)]
    return of(rows[0], ids), of(rows[1], [f"query{row}" for row in range(len(own))], [ids[row] for row in own])


@pytest.fixture(scope="module")
def measured():
    return {kind: pairs(kind) for kind in ("lexicon", "dense")}


@pytest.fixture(scope="module")
def known(measured):
    return {kind: measure(*both) for kind, both in measured.items()}


def test_the_tobit_model_has_the_measured_share_and_mean():
    share, weight = np.array([0.9, 0.5, 0.1, 0.0]), np.array([2.0, 1.0, 0.3, 0.0])
    a, deviation = moments._tobit(share, weight)
    z = np.random.default_rng(0).normal(size=(200_000, 1))
    rows = deviation * np.maximum(z + np.where(np.isfinite(a), a, -99), 0)
    np.testing.assert_allclose((rows > 0).mean(axis=0), share, atol=5e-3)
    np.testing.assert_allclose(rows.sum(axis=0)[:3] / (rows > 0).sum(axis=0)[:3], weight[:3], rtol=0.02)


def test_drawn_lexicon_vectors_are_like_the_measured_ones(measured, known):
    drawn = known["lexicon"].sample(DOCUMENTS, DOCUMENTS, EACH, seed=1)
    found, wanted = describe(*drawn), known["lexicon"].measured
    for name in ("active_mean", "active_p50", "query_active_mean", "effective_vocabulary", "weight_rank_1"):
        assert found[name] == pytest.approx(wanted[name], rel=0.08), name
    for name in ("nearest_cosine", "own_cosine", "place_10_cosine", "pair_cosine_mean", "query_document_overlap"):
        assert found[name] == pytest.approx(wanted[name], abs=0.06), name
    shares = [occurrences(side)[0] / side.count for side in (measured["lexicon"][0], drawn[0])]
    assert np.corrcoef(*shares)[0, 1] > 0.98
    together = [np.corrcoef((side.to_scipy().toarray() > 0)[:, :40].T) for side in (measured["lexicon"][0], drawn[0])]
    upper = np.triu_indices(40, 1)
    assert np.corrcoef(together[0][upper], together[1][upper])[0, 1] > 0.8, "lexicons that occur together still do"
    np.testing.assert_allclose(scipy.sparse.linalg.norm(drawn[0].to_scipy(), axis=1), 1, atol=1e-5)


def test_drawn_dense_vectors_are_like_the_measured_ones(measured, known):
    drawn = known["dense"].sample(DOCUMENTS, DOCUMENTS, EACH, seed=1)
    found, wanted = describe(*drawn), known["dense"].measured
    for name in ("nearest_cosine", "own_cosine", "place_10_cosine", "pair_cosine_mean"):
        assert found[name] == pytest.approx(wanted[name], abs=0.06), name


def test_draws_depend_on_the_seed_alone(known):
    first, same, other = (known["lexicon"].sample(50, 10, 3, seed=seed) for seed in (1, 1, 2))
    assert [(a.to_scipy() != b.to_scipy()).nnz for a, b in zip(first, same, strict=True)] == [0, 0]
    assert (first[0].to_scipy() != other[0].to_scipy()).nnz
    assert first[1].groups == np.repeat(first[0].ids[:10], 3).tolist()


def test_without_own_a_query_knows_nothing_of_its_document(known):
    from dataclasses import replace

    strangers = describe(*replace(known["lexicon"], own=0.0).sample(400, 400, 1))
    assert strangers["own_cosine"] < 0.75 * known["lexicon"].measured["own_cosine"]


@pytest.mark.parametrize("kind", ["lexicon", "dense"])
def test_saved_statistics_are_the_same_and_hold_no_vector(tmp_path, measured, known, kind):
    known[kind].save(tmp_path / "known.npz")
    loaded = Moments.load(tmp_path / "known.npz")
    assert loaded.id == known[kind].id and loaded.measured == known[kind].measured
    with np.load(tmp_path / "known.npz") as file:
        assert all(DOCUMENTS not in array.shape and DOCUMENTS * EACH not in array.shape for array in file.values())


def test_the_command_writes_them(tmp_path, measured, capsys):
    for part, each in zip(("documents", "queries"), measured["lexicon"], strict=True):
        with write_vectors(tmp_path / part, "lexicon", LEXICONS) as writer:
            writer.append(each.to_scipy(), each.ids, each.groups)
    flags = ["--documents", str(tmp_path / "documents"), "--queries", str(tmp_path / "queries")]
    flags += ["--model", str(tmp_path / "known.npz"), "--home", str(tmp_path / "home")]
    assert cli.run(command.main, command.parser(), ["statistics", *flags]) == 0
    assert "without any of the vectors" in capsys.readouterr().out
    assert Moments.load(tmp_path / "known.npz").dimension == LEXICONS


def test_a_changed_byte_is_refused_or_harmless(tmp_path, known):
    """One inside the compressed data used to end in a traceback of zlib."""
    path = tmp_path / "known.npz"
    known["lexicon"].save(path)
    content = path.read_bytes()
    for place in evenly(len(content), 60):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        with contextlib.suppress(InputError):
            assert Moments.load(path).id == known["lexicon"].id


def test_a_broken_file_and_vectors_that_do_not_fit_are_refused(tmp_path, measured):
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="broken.npz: not statistics"):
        Moments.load(tmp_path / "broken.npz")
    with pytest.raises(InputError, match="no such file"):
        Moments.load(tmp_path / "nowhere.npz")
    documents, queries = measured["lexicon"]
    with pytest.raises(InputError, match="the same model"):
        measure(documents, measured["dense"][1])
    with pytest.raises(InputError, match="more than 32 queries"):
        measure(documents, LexiconVectors.of(queries.to_scipy(), queries.ids))
