"""LexLIP: images and texts as sparse weights over one vocabulary (Luo et al., 2023, arXiv 2302.02908).

Notable choices
- The lexicon head of the text is tied to its word embeddings. That of the image is a copy, trained separately, or the
  same head (`shared`).
- All tokens except padding are pooled, [CLS] and [SEP] included (unless `tokens` is "content").
- The vocabulary is the tokenizer's, so the lexicons of a match are readable.
"""

import torch
from torch import nn
from torch.nn import functional as F

from models.config import ModelConfig
from models.lexicon.head import LexiconHead, Pooled
from models.tokenizer import LexiconTokenizer
from models.towers.transformer import as_images, image_tokens, image_tower, pixel_values, text_tower


class LexiconTower(nn.Module):
    """An encoder with a lexicon head on its tokens."""

    def __init__(self, encoder: nn.Module, head: LexiconHead):
        super().__init__()
        self.encoder = encoder
        self.head = head


class LexLIP(nn.Module):
    """The retrieval model, which a checkpoint holds. The objective has the decoder and the momentum copies.

    Args:
        config: its `text.vocabulary` equals the size of the tokenizer.
        tokenizer: its vocabulary is the lexicon.

    Raises InputError if values of the configuration do not fit together.
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
        if not head.shared:  # starts as a copy
            image_head = LexiconHead(text.config, embedding_VD, tie=False, bias=head.image_bias, **start)
            image_head.transform.load_state_dict(self.text.head.transform.state_dict())
        self.image = LexiconTower(image_tower(config.image), image_head)

    @torch.no_grad()
    def copy_head(self) -> None:
        """Copies the text's head to the image's, except the configured biases; for weights loaded after `__init__`."""
        text, image, start = self.text.head, self.image.head, self.config.lexlip.head
        if image is not text:
            image.transform.load_state_dict(text.transform.state_dict())
            image.weight_VD.copy_(text.weight_VD)
            image.bias_V.copy_(text.bias_V - start.text_bias + start.image_bias)

    @property
    def image_encoder(self) -> nn.Module:
        """The image tower without its head."""
        return self.image.encoder

    @property
    def text_encoder(self) -> nn.Module:
        """The text tower without its head."""
        return self.text.encoder

    @property
    def vocabulary(self) -> list[str]:
        """The text of each lexicon, by id."""
        return self.tokenizer.vocabulary

    @property
    def dimension(self) -> int:
        """V, the number of lexicons."""
        return self.config.text.vocabulary

    @property
    def content_only(self) -> bool:
        """Whether [CLS] and [SEP] are excluded from the pooling."""
        return self.config.lexlip.head.tokens == "content"

    @property
    def pixels(self) -> int:
        """Side of the images, in pixels."""
        return self.config.image.pixels

    def image_states(self, images_BHWC: torch.Tensor) -> tuple[torch.Tensor, Pooled]:
        """Token states (B, L, D) and pooled vectors of uint8 images (B, H, W, 3), of `pixels` or another size."""
        hidden_BLD = image_tokens(self.image.encoder, pixel_values(images_BHWC, self.config.image.statistics))
        return hidden_BLD, self.image.head.pooled(hidden_BLD[:, 1:] if self.content_only else hidden_BLD)

    def text_states(self, tokens_BL: torch.Tensor) -> tuple[torch.Tensor, Pooled]:
        """Token states (B, L, D) and pooled vectors of padded token ids (B, L)."""
        mask_BL = tokens_BL != self.tokenizer.pad_id
        hidden_BLD = self.text.encoder(input_ids=tokens_BL, attention_mask=mask_BL).last_hidden_state
        if self.content_only:
            mask_BL = mask_BL & (tokens_BL != self.tokenizer.cls_id) & (tokens_BL != self.tokenizer.sep_id)
        return hidden_BLD, self.text.head.pooled(hidden_BLD, mask_BL)

    @torch.inference_mode()
    def encode_image(self, images_BHWC) -> torch.Tensor:
        """L2-normalised lexicon weights, float32 (B, V) on the CPU, of images, uint8 (B, pixels, pixels, 3).

        Raises InputError for another dtype or shape.
        """
        images_BHWC = as_images(images_BHWC, self.pixels, self.text.head.bias_V.device)
        return F.normalize(self.image_states(images_BHWC)[1].weights_BV, dim=-1).cpu()

    @torch.inference_mode()
    def encode_text(self, captions: list[str]) -> torch.Tensor:
        """L2-normalised lexicon weights, float32 (B, V) on the CPU, of captions; zero without an active lexicon."""
        tokens_BL = torch.from_numpy(self.tokenizer.encode(captions)[0]).to(self.text.head.bias_V.device)
        return F.normalize(self.text_states(trim_padding(tokens_BL, self.tokenizer.pad_id))[1].weights_BV, dim=-1).cpu()


def trim_padding(tokens_BL: torch.Tensor, pad_id: int) -> torch.Tensor:
    """Drops the columns that are padding in every row."""
    return tokens_BL[:, : max(int((tokens_BL != pad_id).sum(dim=1).max()), 1)]
