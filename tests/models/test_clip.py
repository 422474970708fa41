"""The loss of the CLIP baseline against open_clip, our InfoNCE, and the formula in float64."""

import math
from dataclasses import replace

import pytest
import torch
from open_clip import ClipLoss
from torch.nn.functional import normalize

from models.clip import MAX_LOGIT_SCALE, ClipObjective
from models.config import ClipConfig
from models.errors import InputError
from models.losses import symmetric_info_nce


@pytest.fixture
def trained(make_model, make_batch):
    model = make_model("clip").train()
    return model, ClipObjective(model), make_batch()


def captions_of(batch, tokenizer) -> list[str]:
    rows = ([tokenizer.vocabulary[token] for token in row if token > tokenizer.mask_id] for row in batch.tokens_BL)
    return [" ".join(row).replace(" ##", "") for row in rows]


def test_the_loss_equals_open_clip_info_nce_and_the_formula(trained, tokenizer):
    model, objective, batch = trained
    losses, beside = objective.losses(batch, torch.Generator())
    image_BD, text_BD = model.encode_image(batch.images_BHWC.numpy()), model.encode_text(captions_of(batch, tokenizer))
    image_BD, text_BD = image_BD.clone(), text_BD.clone()
    loss = losses["contrastive"].item()
    assert loss == pytest.approx(ClipLoss()(image_BD, text_BD, torch.tensor(1 / 0.07)).item(), rel=1e-4)
    assert loss == pytest.approx(symmetric_info_nce(image_BD, text_BD, 0.07).item(), rel=1e-4)
    scores = (image_BD.double() @ text_BD.double().T / 0.07).tolist()
    size, expected = len(scores), 0.0
    for i in range(size):
        row, column = scores[i], [scores[j][i] for j in range(size)]
        expected += sum(math.log(sum(map(math.exp, line))) - scores[i][i] for line in (row, column)) / (2 * size)
    assert loss == pytest.approx(expected, rel=1e-4)
    assert beside["temperature"].item() == pytest.approx(0.07)


def test_prefixes_share_the_loss(make_model, make_batch):
    """The mean of the losses of the first half, cut and normalised again, and of the whole vectors."""
    batch = make_batch()
    model = make_model("clip", clip=ClipConfig(embedding=16, prefixes=(0.5,))).train()
    losses, _ = ClipObjective(model).losses(batch, torch.Generator())
    sides_BD = model.image_vectors(batch.images_BHWC), model.text_vectors(batch.tokens_BL)
    whole, half = (
        symmetric_info_nce(*(normalize(side_BD[:, :width], dim=-1) for side_BD in sides_BD), 0.07) for width in (16, 8)
    )
    assert losses["contrastive"].item() == pytest.approx((whole + half).item() / 2, rel=1e-4)
    assert whole.item() != pytest.approx(half.item(), rel=1e-3)


def test_padding_does_not_change_the_loss(trained, tokenizer):
    """Batches are trimmed; open_clip's text tower has a fixed length."""
    _, objective, batch = trained
    longest = int((batch.tokens_BL != tokenizer.pad_id).sum(dim=1).max())
    trimmed = replace(batch, tokens_BL=batch.tokens_BL[:, :longest], words_BL=batch.words_BL[:, :longest])
    assert longest < batch.tokens_BL.shape[1]
    whole, short = (objective.losses(one, torch.Generator())[0]["contrastive"].item() for one in (batch, trimmed))
    assert whole == pytest.approx(short, rel=1e-6)


def test_every_parameter_has_a_gradient(trained):
    model, objective, batch = trained
    objective.losses(batch, torch.Generator())[0]["contrastive"].backward()
    without = [
        name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []


def test_the_temperature_stays_within_the_published_bounds(trained):
    model, objective, _ = trained
    for value, expected in ((10.0, MAX_LOGIT_SCALE), (-3.0, 0.0), (2.0, 2.0)):
        with torch.no_grad():
            model.clip.logit_scale.fill_(value)
        objective.after_step()
        assert model.clip.logit_scale.item() == pytest.approx(expected)
    assert math.exp(MAX_LOGIT_SCALE) == pytest.approx(100)


def test_phases_of_lexlip_are_refused(trained):
    trained[1].begin("contrastive")
    with pytest.raises(InputError, match="'bottleneck'"):
        trained[1].begin("bottleneck")
