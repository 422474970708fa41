"""Sparse encoders over dense vectors: formulas on hand-computed cases, absent faults of published code, checkpoints."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from models import sparsify
from models.errors import InputError
from models.losses import shrinking
from models.sparsify import checkpoint, heads, losses
from models.sparsify.config import OBJECTIVES, SparsifyConfig
from models.sparsify.heads import SIDES
from models.sparsify.objective import Batch, Objective, expansion_masked

DIMENSION, LEXICONS, PAIRS = 6, 10, 8


def made(objective: str = "d2s", **more) -> heads.SparseEncoder:
    config = SparsifyConfig(objective=objective, **{"image_top_k": 3, "text_top_k": 4} | more)
    encoder = heads.create(config, DIMENSION, [f"word{v}" for v in range(LEXICONS)])
    if objective != "csr":
        words_VD = torch.randn(LEXICONS, DIMENSION, generator=torch.Generator().manual_seed(1))
        encoder.start(torch.nn.functional.normalize(words_VD, dim=-1))
    return encoder


def batch(texts: int = PAIRS) -> Batch:
    generator = torch.Generator().manual_seed(2)
    image_BD = torch.randn(PAIRS, DIMENSION, generator=generator)
    text_TD = torch.randn(texts, DIMENSION, generator=generator)
    words = [(torch.rand(rows, LEXICONS, generator=generator) < 0.3).float() for rows in (PAIRS, texts)]
    return Batch(image_BD, text_TD, *words)


def step(objective: Objective, progress: float = 0.5, of: Batch | None = None) -> dict[str, torch.Tensor]:
    return objective(of or batch(), progress, torch.Generator().manual_seed(0))


# --- formulas ---------------------------------------------------------------------------------------------------------


def test_distillation_is_the_mean_cross_entropy_of_both_directions():
    sparse_IT, dense_IT = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    # rows of the teacher: (1/4, 3/4), (1/2, 1/2); its columns: (1/2, 1/2), (3/4, 1/4)
    log = math.log(1 + math.e)
    to_texts = ((-(1 - log) / 4 + 3 * log / 4) + math.log(2)) / 2
    to_images = ((-(1 - log) / 2 + log / 2) + math.log(2)) / 2
    assert float(losses.distillation(sparse_IT, dense_IT)) == pytest.approx((to_texts + to_images) / 2, rel=1e-6)


def test_texts_without_images_are_negatives_of_images_only():
    scores_IT = torch.tensor([[2.0, 0.0, 1.0], [0.0, 2.0, 0.0]])
    rows = -2 * 2 + math.log(math.e**2 + 1 + math.e) + math.log(math.e**2 + 2)
    columns = -2 * 2 + 2 * math.log(math.e**2 + 1)
    assert float(losses.pair_loss(scores_IT)) == pytest.approx((rows / 2 + columns / 2) / 2, rel=1e-6)


def test_the_caption_loss_is_the_weighted_log_sigmoid():
    logits_BV = torch.tensor([[0.0, math.log(3), -5.0]])
    loss = losses.caption_loss(logits_BV, torch.tensor([[1.0, 3.0, 0.0]]))
    assert float(loss) == pytest.approx(-(0.25 * math.log(1 / 2) + 0.75 * math.log(3 / 4)), rel=1e-6)
    assert float(losses.caption_loss(logits_BV, torch.zeros(1, 3))) == 0


def test_the_joint_loss_sums_three_pair_losses_and_two_distillations():
    dense_IT, sparse_IT = torch.tensor([[2.0, 0.0], [1.0, 3.0]]), torch.tensor([[0.0, 1.0], [4.0, 0.0]])
    both_IT = (dense_IT + sparse_IT) / 2
    expected = sum(map(losses.pair_loss, (dense_IT, sparse_IT, both_IT)))
    expected += losses.distillation(dense_IT, both_IT) + losses.distillation(sparse_IT, both_IT)
    assert float(losses.joint_loss(dense_IT, sparse_IT, 0.5)) == pytest.approx(float(expected), rel=1e-6)


def test_the_word_head_is_log1p_relu_of_the_projected_and_normalised_vector():
    encoder, dense_BD = made(), batch().image_BD
    unit_BD = torch.nn.functional.normalize(dense_BD, dim=-1)
    hidden_BD = unit_BD - unit_BD.mean(dim=1, keepdim=True)  # W is the identity, so LayerNorm acts on the vector
    hidden_BD = hidden_BD / (hidden_BD.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
    expected_BV = torch.log1p(torch.relu(hidden_BD @ encoder.embedding_VD.T))
    torch.testing.assert_close(encoder.pooled(dense_BD, "image").weights_BV, expected_BV, rtol=1e-5, atol=1e-6)


def test_a_lasso_of_orthogonal_words_is_the_soft_threshold():
    words_VD = torch.eye(3)
    weights_BV = heads.lasso(words_VD, torch.tensor([[0.9, 0.3, -0.3]]), torch.tensor(0.2), heads.step_of(words_VD))
    torch.testing.assert_close(weights_BV, torch.tensor([[0.7, 0.1, 0.0]]))


def test_a_lasso_meets_its_optimality_conditions():
    encoder = made("splice", splice_penalty=0.1)
    vectors_BD = torch.nn.functional.normalize(batch().image_BD, dim=-1)
    settings = encoder.penalty, encoder.step, 3000
    weights_BV = heads.lasso(encoder.words_VD, vectors_BD, *settings)
    gradient_BV = (weights_BV @ encoder.words_VD - vectors_BD) @ encoder.words_VD.T + encoder.penalty
    assert (gradient_BV > -1e-4).all() and (gradient_BV[weights_BV > 0].abs() < 1e-4).all()
    assert 0 < (weights_BV > 0).float().mean() < 1


def test_the_penalty_is_fitted_to_the_lexicons_wanted():
    encoder = made("splice", image_top_k=2)
    vectors_BD = torch.randn(200, DIMENSION, generator=torch.Generator().manual_seed(3))
    encoder.fit(vectors_BD)
    active = (encoder.pooled(vectors_BD, "image").weights_BV > 0).sum(dim=1).float().mean()
    assert float(active) == pytest.approx(2, abs=0.1)


def test_a_penalty_fitted_to_no_number_of_lexicons_is_refused():
    with pytest.raises(InputError, match="splice_penalty: null is fitted to image_top_k; expected a number for one"):
        made("splice", image_top_k=None)
    made("splice", image_top_k=None, splice_penalty=0.1), made("d2s", image_top_k=None)


def test_csr_reconstructs_with_its_own_matrix_and_revives_dead_units():
    objective = Objective(made("csr"), 0.05)
    first = step(objective, 1.0)
    assert set(first) == {"reconstruction", "wider", "contrast"}
    assert int(objective.encoder.silent_V.max()) == 0  # each unit is active in some item
    objective.encoder.silent_V.fill_(objective.config.csr.dead_after)
    assert float(step(objective, 1.0)["dead"].detach()) > 0
    code_BV = torch.eye(LEXICONS)[:2]
    torch.testing.assert_close(objective.encoder.decode(code_BV), objective.encoder.matrix_VD[:2])


def test_reconstruction_is_the_share_of_the_squared_length_that_is_lost():
    loss = losses.reconstruction(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 2.0]]))
    assert float(loss) == pytest.approx((1 + 4) / 8)


def test_the_lexicons_kept_shrink_geometrically():
    kept = [shrinking(10, 1000, 0.5, progress) for progress in (0.0, 0.25, 0.5, 1.0)]
    assert kept == [1000, 100, 10, 10]
    assert shrinking(None, 1000, 0.5, 0.1) is None and shrinking(10, 1000, 0.0, 0.0) == 10


# --- faults of published code that are absent ----------------------------------------------------------------------


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "splice"])
def test_the_temperature_learns(objective):
    trained = Objective(made(objective), 0.05)
    sum(step(trained).values()).backward()
    assert trained.log_temperature.grad is not None and float(trained.log_temperature.grad) != 0


def test_every_weight_learns():
    for objective in ("d2s", "d2s_joint", "csr", "caption_words"):
        trained = Objective(made(objective), 0.05)
        sum(step(trained).values()).backward()
        still = [name for name, weight in trained.named_parameters() if weight.grad is None or not weight.grad.any()]
        assert not still, (objective, still)


@pytest.mark.parametrize("mask_anneal", [0.0, 0.9])
def test_a_texts_vector_comes_from_the_text(mask_anneal):
    """With and without mask: other images leave the texts' part of the regulariser as it is."""
    config = {"mask_anneal": mask_anneal, "regularisation": 1.0, "regulariser": "l1", "image_words": 0.0}
    trained, of = Objective(made(**config), 0.05), batch()
    texts = step(trained, 0.5, of)["text_words"]
    assert torch.equal(step(trained, 0.5, dataclasses.replace(of, image_BD=-of.image_BD))["text_words"], texts)
    text_BD = torch.randn(PAIRS, DIMENSION, requires_grad=True)
    step(trained, 0.5, dataclasses.replace(of, text_TD=text_BD))["regulariser"].backward()
    assert text_BD.grad.any()


def test_nothing_is_masked_in_evaluation():
    encoder, dense = made(mask_anneal=1.0).eval(), batch().image_BD
    vectors_BV = encoder.encode_image(dense)
    assert torch.equal(encoder.encode_image(dense), vectors_BV)
    weights_BV = encoder.pooled(dense, "image").weights_BV
    assert ((vectors_BV > 0).sum(dim=1) == torch.minimum((weights_BV > 0).sum(dim=1), torch.tensor(3))).all()


def test_own_words_are_never_masked_and_others_by_the_probability():
    weights_BV, words_BV = torch.ones(400, LEXICONS), torch.zeros(400, LEXICONS)
    words_BV[:, 0] = 1
    for probability in (1.0, 0.7, 0.0):
        masked_BV = expansion_masked(weights_BV, words_BV, probability, torch.Generator().manual_seed(0))
        assert (masked_BV[:, 0] == 1).all()
        assert float(masked_BV[:, 1:].mean()) == pytest.approx(1 - probability, abs=0.03)
    assert [losses.annealed(0.5, progress) for progress in (0.0, 0.25, 0.5, 1.0)] == [1.0, 0.5, 0.0, 0.0]


def test_the_joint_teacher_has_no_gradient_and_text_to_image_is_the_transpose():
    dense_IT = torch.randn(3, 3, generator=torch.Generator().manual_seed(4), requires_grad=True)
    sparse_IT = torch.randn(3, 3, generator=torch.Generator().manual_seed(5))
    losses.distillation(sparse_IT.requires_grad_(), dense_IT).backward()
    assert dense_IT.grad is None and sparse_IT.grad.any()
    swapped = losses.joint_loss(dense_IT.T, sparse_IT.T, 0.5)
    assert float(swapped.detach()) == pytest.approx(
        float(losses.joint_loss(dense_IT, sparse_IT, 0.5).detach()), rel=1e-6
    )


# --- encoders and checkpoints -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_checkpoint_encodes_as_the_model_that_was_saved(tmp_path, objective):
    encoder, dense = made(objective).eval(), batch().image_BD.numpy()
    checkpoint.save(encoder, tmp_path / "made", {"of": "a test"})
    loaded = sparsify.load(tmp_path / "made")
    assert loaded.vocabulary == encoder.vocabulary and loaded.config == encoder.config
    for side in SIDES:
        vectors_BV = loaded.encode(dense, side)
        assert torch.equal(vectors_BV, encoder.encode(dense, side))
        lengths_B = vectors_BV.norm(dim=1)
        torch.testing.assert_close(lengths_B[lengths_B > 0], torch.ones(int((lengths_B > 0).sum())))
        assert (vectors_BV > 0).sum(dim=1).max() <= {"image": 3, "text": 4}[side]
    assert checkpoint.fingerprint(tmp_path / "made") == checkpoint.fingerprint(tmp_path / "made")


def test_broken_checkpoints_are_refused_by_name(tmp_path):
    checkpoint.save(made(), tmp_path / "made", {})
    weights = tmp_path / "made" / checkpoint.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match="model.safetensors: missing, truncated or changed"):
        sparsify.load(tmp_path / "made")
    about = tmp_path / "made" / checkpoint.ABOUT
    about.write_text(about.read_text().replace('"d2s"', '"csr"'))
    with pytest.raises(InputError, match="its seal does not match"):
        sparsify.load(tmp_path / "made")
    with pytest.raises(InputError, match="no such file"):
        sparsify.load(tmp_path / "none")


def test_vectors_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 5\); expected \(N, 6\)"):
        made().encode_text(np.zeros((2, 5)))
