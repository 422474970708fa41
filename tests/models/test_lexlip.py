"""The retrieval model: its towers against transformers, its vectors, its tied weights."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

from models import checkpoint
from models.config import HeadConfig, ImageConfig
from models.towers.transformer import ConvolutionalStem, image_tower, pixel_values


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(head=HeadConfig(text_bias=-0.5, image_bias=0.25)).eval()


def test_text_tower_equals_berts(model, make_batch, tokenizer):
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=14,
        type_vocab_size=1,
    )
    bert = BertModel(config, add_pooling_layer=False).eval()
    bert.load_state_dict(model.text.encoder.state_dict())
    tokens_BL = make_batch().tokens_BL
    mask_BL = tokens_BL != tokenizer.pad_id
    expected_BLD = bert(input_ids=tokens_BL, attention_mask=mask_BL.long()).last_hidden_state
    torch.testing.assert_close(model.text_states(tokens_BL)[0][mask_BL], expected_BLD[mask_BL], rtol=1e-5, atol=1e-5)


def test_image_tower_equals_vits(model, images):
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=16, patch_size=8
    )
    vit = ViTModel(config, add_pooling_layer=False).eval()
    vit.load_state_dict(model.image.encoder.state_dict())
    values_BCHW = (torch.from_numpy(images).double() / 255 - 0.5).div(0.5).permute(0, 3, 1, 2)
    states_BLD, (pooled_BV, _) = model.image_states(torch.from_numpy(images))
    assert states_BLD.shape == (8, 1 + 4, 16), "[CLS] and four patches"
    torch.testing.assert_close(states_BLD, vit(values_BCHW.float()).last_hidden_state, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pooled_BV, model.image.head(states_BLD).max(dim=1).values)


def test_pixel_values_by_hand():
    images_BHWC = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)
    assert pixel_values(images_BHWC).flatten().tolist() == pytest.approx([-1.0, -0.6, 1.0])
    assert pixel_values(images_BHWC).shape == (1, 3, 1, 1)


def test_a_convolutional_stem_makes_one_token_per_patch():
    tower = image_tower(ImageConfig(layers=1, width=16, heads=2, pixels=32, patch=16, stem_widths=(4, 8)))
    assert isinstance(tower.embeddings.patch_embeddings.projection, ConvolutionalStem)
    assert tower(torch.zeros(2, 3, 32, 32)).last_hidden_state.shape == (2, 1 + 4, 16)


def test_tied_and_copied_weights(make_model):
    model = make_model(head=HeadConfig(text_bias=-0.5, image_bias=0.25))
    embedding_VD = model.text.encoder.embeddings.word_embeddings.weight
    assert model.text.head.weight_VD is embedding_VD
    assert model.image.head.weight_VD is not embedding_VD
    assert torch.equal(model.image.head.weight_VD, embedding_VD)
    for mine, theirs in zip(
        model.image.head.transform.parameters(), model.text.head.transform.parameters(), strict=True
    ):
        assert mine is not theirs and mine.data_ptr() != theirs.data_ptr()
        assert torch.equal(mine, theirs)
    assert set(model.text.head.bias_V.tolist()) == {-0.5}
    assert set(model.image.head.bias_V.tolist()) == {0.25}
    with torch.no_grad():
        model.text.head.weight_VD += 1
    assert torch.equal(model.text.encoder.embeddings.word_embeddings.weight, model.image.head.weight_VD + 1)


def test_one_head_for_both_sides(make_model, images, tmp_path):
    model = make_model(head=HeadConfig(text_bias=-0.5, image_bias=0.25, shared=True))
    assert model.image.head is model.text.head
    copies = make_model(head=HeadConfig(text_bias=-0.5, image_bias=0.25))
    head = sum(parameter.numel() for parameter in copies.image.head.parameters())
    assert (
        sum(parameter.numel() for parameter in model.parameters())
        == sum(parameter.numel() for parameter in copies.parameters()) - head
    )
    checkpoint.save(model, tmp_path / "shared")
    again = checkpoint.load(tmp_path / "shared")
    assert again.image.head is again.text.head
    assert torch.equal(again.encode_image(images), model.eval().encode_image(images))


def test_special_tokens_are_not_pooled_with_content_tokens(make_model, make_batch, images, tokenizer):
    model = make_model(head=HeadConfig(tokens="content")).eval()
    hidden_BLD, pooled = model.image_states(torch.from_numpy(images))
    torch.testing.assert_close(pooled.logits_BV, model.image.head(hidden_BLD[:, 1:]).max(dim=1).values)
    tokens_BL = make_batch().tokens_BL
    hidden_BLD, pooled = model.text_states(tokens_BL)
    for row, tokens_L in enumerate(tokens_BL):
        words_L = ~torch.isin(tokens_L, torch.tensor([tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id]))
        torch.testing.assert_close(pooled.logits_BV[row], model.text.head(hidden_BLD[row, words_L]).max(dim=0).values)
    assert not model.encode_text([""]).any(), "a text without words has no active lexicons"


def test_every_real_token_is_pooled_and_padding_is_not(model, make_batch, tokenizer):
    tokens_BL = make_batch().tokens_BL
    states_BLD, (pooled_BV, _) = model.text_states(tokens_BL)
    for row, tokens_L in enumerate(tokens_BL):
        real_LV = model.text.head(states_BLD[row, tokens_L != tokenizer.pad_id])
        torch.testing.assert_close(pooled_BV[row], real_LV.max(dim=0).values)
    winners = model.text.head(states_BLD).masked_fill((tokens_BL == tokenizer.pad_id)[..., None], -1e9).argmax(dim=1)
    token_of_winner = tokens_BL.gather(1, winners)
    assert (token_of_winner == tokenizer.cls_id).any() and (token_of_winner == tokenizer.sep_id).any(), (
        "[CLS] and [SEP] win some lexicons"
    )


def test_padding_does_not_change_the_vectors(model, make_batch, tokenizer):
    tokens_BL = make_batch().tokens_BL
    longest = int((tokens_BL != tokenizer.pad_id).sum(dim=1).max())
    assert longest < tokens_BL.shape[1], "there is padding to trim"
    torch.testing.assert_close(
        model.text_states(tokens_BL)[1], model.text_states(tokens_BL[:, :longest])[1], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["lexlip", "clip"])
def test_vectors_are_normalised_and_independent_of_the_batch(kind, make_model, images, captions):
    model = make_model(kind).eval()
    captions = [
        *captions[:4],
        "apple",
        "",
        "a red green blue apple on the grass near a mountain under the clouds on the grass",
    ]
    text_BX, image_BX = model.encode_text(captions), model.encode_image(images)
    assert text_BX.shape == (7, model.dimension) and image_BX.shape == (8, model.dimension)
    for vectors_BX in (text_BX, image_BX):
        assert vectors_BX.dtype == torch.float32 and not vectors_BX.requires_grad
        torch.testing.assert_close(vectors_BX.norm(dim=-1), torch.ones(len(vectors_BX)))
        assert (vectors_BX >= 0).all() == (kind == "lexlip")
    for row, caption in enumerate(captions):
        torch.testing.assert_close(model.encode_text([caption])[0], text_BX[row], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.encode_image(images[2:3])[0], image_BX[2], rtol=1e-4, atol=1e-5)
    assert torch.equal(model.encode_image(torch.from_numpy(images)), image_BX), (
        "tensors give the same vectors as arrays"
    )
    assert np.ptp(image_BX.numpy(), axis=0).max() > 1e-3, "images have different vectors"


def test_a_vector_without_active_lexicons_is_zero(make_model, images, captions):
    model = make_model(head=HeadConfig(text_bias=-1e3, image_bias=-1e3)).eval()
    assert not model.encode_text(captions[:2]).any()
    assert not model.encode_image(images).any()


def test_properties_of_a_model(model, make_model, tokenizer):
    assert (model.kind, model.dimension, model.pixels) == ("lexicon", len(tokenizer), 16)
    assert model.vocabulary == tokenizer.vocabulary
    clip = make_model("clip")
    assert (clip.kind, clip.dimension, clip.pixels, clip.vocabulary) == ("dense", 8, 16, None)
