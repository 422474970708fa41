"""LexLIP: an image and a text as sparse weights over one vocabulary (Luo et al., 2023, arXiv 2302.02908).

Notable choices
- The text's lexicon head is tied to its word embeddings; the image's head is a copy of it that trains on its own, or the same (`shared`).
- All tokens are pooled, [CLS] and [SEP] with the words and patches (unless `tokens` is "content"); padding is not.
- The vocabulary is the tokenizer's, so a matched lexicon can be read.
"""

import torch
from torch import nn
from torch.nn import functional as F

from models.config import ModelConfig
from models.lexicon.head import LexiconHead, Pooled
from models.tokenizer import LexiconTokenizer
from models.towers.transformer import as_images, image_tokens, image_tower, pixel_values, text_tower


class LexiconTower(nn.Module):
    """A transformer with a lexicon head over its tokens."""

    def __init__(self, encoder: nn.Module, head: LexiconHead):
        super().__init__()
        self.encoder = encoder
        self.head = head


class LexLIP(nn.Module):
    """The retrieval model: what a checkpoint holds. Decoder and momentum copies live with the objective, not here.

    Args:
        config: with `text.vocabulary` equal to the tokenizer's size.
        tokenizer: its vocabulary is the lexicon.
    """

    kind = "lexicon"

    def __init__(self, config: ModelConfig, tokenizer: LexiconTokenizer):
        super().__init__()
        config.validate()
        self.config, self.tokenizer = config, tokenizer
        text, head = text_tower(config.text), config.lexlip.head
        embedding_VD = text.embeddings.word_embeddings.weight
        start = {"identity_start": head.identity_start, "pooling": head.pooling}
        self.text = LexiconTower(text, LexiconHead(text.config, embedding_VD, tie=True, bias=head.text_bias, **start))
        image_head = self.text.head
        if not head.shared:  # a copy of the text's head, separate from then on
            image_head = LexiconHead(text.config, embedding_VD, tie=False, bias=head.image_bias, **start)
            image_head.transform.load_state_dict(self.text.head.transform.state_dict())
        self.image = LexiconTower(image_tower(config.image), image_head)

    @torch.no_grad()
    def copy_head(self) -> None:
        """Make the image's head a copy of the text's again, each side's configured bias apart. For weights that came after `__init__`."""
        text, image, start = self.text.head, self.image.head, self.config.lexlip.head
        if image is not text:
            image.transform.load_state_dict(text.transform.state_dict())
            image.weight_VD.copy_(text.weight_VD)
            image.bias_V.copy_(text.bias_V - start.text_bias + start.image_bias)

    @property
    def image_encoder(self) -> nn.Module:
        return self.image.encoder

    @property
    def text_encoder(self) -> nn.Module:
        return self.text.encoder

    @property
    def vocabulary(self) -> list[str]:
        return self.tokenizer.vocabulary

    @property
    def dimension(self) -> int:
        """V, the number of lexicons."""
        return self.config.text.vocabulary

    @property
    def content_only(self) -> bool:
        """Whether [CLS] and [SEP] are left out of the pooling."""
        return self.config.lexlip.head.tokens == "content"

    @property
    def pixels(self) -> int:
        return self.config.image.pixels

    def image_states(self, images_BHWC: torch.Tensor) -> tuple[torch.Tensor, Pooled]:
        """uint8 images, of `pixels` or another size, to token states (B, L, D), and what the head makes of them."""
        hidden_BLD = image_tokens(self.image.encoder, pixel_values(images_BHWC, self.config.image.statistics))
        return hidden_BLD, self.image.head.pooled(hidden_BLD[:, 1:] if self.content_only else hidden_BLD)

    def text_states(self, tokens_BL: torch.Tensor) -> tuple[torch.Tensor, Pooled]:
        """Padded token ids to token states (B, L, D), and what the head makes of the real ones."""
        mask_BL = tokens_BL != self.tokenizer.pad_id
        hidden_BLD = self.text.encoder(input_ids=tokens_BL, attention_mask=mask_BL).last_hidden_state
        if self.content_only:
            mask_BL = mask_BL & (tokens_BL != self.tokenizer.cls_id) & (tokens_BL != self.tokenizer.sep_id)
        return hidden_BLD, self.text.head.pooled(hidden_BLD, mask_BL)

    @torch.inference_mode()
    def encode_image(self, images_BHWC) -> torch.Tensor:
        """uint8 (B, H, W, 3), tensor or array, to L2-normalised lexicon weights, float32 (B, V) on the CPU."""
        images_BHWC = as_images(images_BHWC, self.pixels, self.text.head.bias_V.device)
        return F.normalize(self.image_states(images_BHWC)[1].weights_BV, dim=-1).cpu()

    @torch.inference_mode()
    def encode_text(self, captions: list[str]) -> torch.Tensor:
        """Captions to L2-normalised lexicon weights, float32 (B, V) on the CPU."""
        tokens_BL = torch.from_numpy(self.tokenizer.encode(captions)[0]).to(self.text.head.bias_V.device)
        return F.normalize(self.text_states(trim_padding(tokens_BL, self.tokenizer.pad_id))[1].weights_BV, dim=-1).cpu()


def trim_padding(tokens_BL: torch.Tensor, pad_id: int) -> torch.Tensor:
    """Drop the columns that are padding in every row."""
    return tokens_BL[:, : max(int((tokens_BL != pad_id).sum(dim=1).max()), 1)]
