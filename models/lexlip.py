"""LexLIP: images and texts as sparse weights over one vocabulary (Luo et al., 2023, arXiv 2302.02908).

Notable choices
- The lexicon head of the text is tied to its word embeddings. That of the image is a copy, trained separately, or the
  same head (`shared`).
- All tokens except padding are pooled, [CLS] and [SEP] included (unless `tokens` is "content").
- The vocabulary is the tokenizer's, or the part of it that occurs in captions, so the lexicons of a match are readable.
- A checkpoint holds the idf of its lexicons in the training captions, for the search by typed words (`encode_words`).
"""

import torch
from torch import nn
from torch.nn import functional as F

from models.config import ModelConfig
from models.lexicon.head import LexiconHead, Pooled, bag_of_tokens, rows_of, strongest
from models.tokenizer import LexiconTokenizer
from models.towers.frozen import encoder_of
from models.towers.transformer import as_images, image_tower, states_of_images, text_tokens, text_tower

OWN_START = 0.0
"""Initial value of the parameter of a text's minimum weights, of which the softplus is taken: a minimum of 0.69."""


class LexiconTower(nn.Module):
    """An encoder with a lexicon head on its tokens."""

    def __init__(self, encoder: nn.Module, head: LexiconHead):
        super().__init__()
        self.encoder = encoder
        self.head = head


class LexLIP(nn.Module):
    """The retrieval model, which a checkpoint holds. The objective has the decoder and the momentum copies.

    Args:
        config: its `text.vocabulary` equals the number of tokens of the tokenizer.
        tokenizer: says which of its tokens are lexicons.

    Raises InputError if values of the configuration do not fit together.
    """

    kind = "lexicon"

    def __init__(self, config: ModelConfig, tokenizer: LexiconTokenizer):
        super().__init__()
        config.validate()
        self.config, self.tokenizer = config, tokenizer
        text, head = text_tower(config.text), config.lexlip.head
        bert = encoder_of(text)
        embedding_TD = bert.embeddings.word_embeddings.weight
        lexicon_V = torch.from_numpy(tokenizer.lexicon_V) if tokenizer.is_part else None
        of_both = (bert.config, embedding_TD, lexicon_V)
        start = {"identity_start": head.identity_start, "pooling": head.pooling}
        self.text = LexiconTower(text, LexiconHead(*of_both, tie=not config.text.top, bias=head.text_bias, **start))
        image_head = self.text.head
        if not head.shared:  # starts as a copy
            image_head = LexiconHead(*of_both, tie=False, bias=head.image_bias, **start)
            image_head.transform.load_state_dict(self.text.head.transform.state_dict())
        self.image = LexiconTower(image_tower(config.image), image_head)
        self.register_buffer("lexicon_of_T", torch.from_numpy(tokenizer.lexicon_of_T), persistent=False)
        self.register_buffer("word_of_T", self.lexicon_of_T.clone(), persistent=False)
        self.word_of_T[[tokenizer.pad_id, tokenizer.unknown_id, tokenizer.cls_id, tokenizer.sep_id]] = -1
        self.register_buffer("idf_V", torch.ones(self.dimension))
        if head.own_words:
            self.own_V = nn.Parameter(torch.full((self.dimension,), OWN_START))

    @torch.no_grad()
    def copy_head(self) -> None:
        """Copies the text's head to the image's, except the configured biases; for weights loaded after `__init__`.

        Of a frozen text encoder, copies the word embeddings to the text's head first.
        """
        text, image, start = self.text.head, self.image.head, self.config.lexlip.head
        if self.config.text.top:
            text.weight_VD.copy_(self.word_embeddings_VD)
        if image is not text:
            image.transform.load_state_dict(text.transform.state_dict())
            image.weight_VD.copy_(text.matrix_VD)
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
    def word_embeddings_VD(self) -> torch.Tensor:
        """The word embeddings of the lexicons."""
        return rows_of(encoder_of(self.text.encoder).embeddings.word_embeddings.weight, self.text.head.lexicon_V)

    @property
    def vocabulary(self) -> list[str]:
        """The text of each lexicon, by id."""
        return self.tokenizer.vocabulary

    @property
    def dimension(self) -> int:
        """V, the number of lexicons."""
        return len(self.tokenizer.lexicon_V)

    @property
    def content_only(self) -> bool:
        """Whether [CLS] and [SEP] are excluded from the pooling."""
        return self.config.lexlip.head.tokens == "content"

    @property
    def pixels(self) -> int:
        """Side of the images, in pixels."""
        return self.config.image.pixels

    def image_states(
        self, images_BHWC: torch.Tensor | None, states_BLX: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Pooled]:
        """Token states (B, L, D) and pooled vectors of uint8 images (B, H, W, 3), of `pixels` or another size.

        states_BLX: in place of the images, their states of the frozen encoder.
        """
        hidden_BLD = states_of_images(self.image.encoder, images_BHWC, self.config.image.statistics, states_BLX)
        return hidden_BLD, self.image.head.pooled(hidden_BLD[:, 1:] if self.content_only else hidden_BLD)

    def text_states(
        self, tokens_BL: torch.Tensor, states_BLX: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Pooled]:
        """Token states (B, L, D) and pooled vectors of padded token ids (B, L).

        states_BLX: the states of the frozen encoder, if they are known.
        """
        mask_BL = tokens_BL != self.tokenizer.pad_id
        hidden_BLD = text_tokens(self.text.encoder, tokens_BL, mask_BL, states_BLX)
        if self.content_only:
            mask_BL = mask_BL & (tokens_BL != self.tokenizer.cls_id) & (tokens_BL != self.tokenizer.sep_id)
        pooled = self.text.head.pooled(hidden_BLD, mask_BL)
        if self.config.lexlip.head.own_words:
            own_BV = bag_of_tokens(self.lexicons(tokens_BL), self.dimension, "once") * F.softplus(self.own_V)
            pooled = pooled._replace(weights_BV=torch.maximum(pooled.weights_BV, own_BV))
        return hidden_BLD, pooled

    def image_vectors(self, images_BHWC: torch.Tensor | None, states_BLX: torch.Tensor | None = None) -> torch.Tensor:
        """L2-normalised weights of the `image_top_k` highest lexicons, float32 (B, V); as `image_states` otherwise."""
        weights_BV = self.image_states(images_BHWC, states_BLX)[1].weights_BV
        return F.normalize(strongest(weights_BV, self.config.lexlip.head.image_top_k), dim=-1)

    def text_vectors(self, tokens_BL: torch.Tensor, states_BLX: torch.Tensor | None = None) -> torch.Tensor:
        """L2-normalised weights of the `text_top_k` highest lexicons, float32 (B, V); as `text_states` otherwise."""
        weights_BV = self.text_states(tokens_BL, states_BLX)[1].weights_BV
        return F.normalize(strongest(weights_BV, self.config.lexlip.head.text_top_k), dim=-1)

    def lexicons(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        """The lexicon of each token, (B, L) int64; -1 for a special token or one that is no lexicon."""
        return self.word_of_T[tokens_BL]

    @torch.inference_mode()
    def encode_image(self, images_BHWC) -> torch.Tensor:
        """L2-normalised lexicon weights, float32 (B, V) on the CPU, of images, uint8 (B, pixels, pixels, 3).

        Raises InputError for another dtype or shape.
        """
        return self.image_vectors(as_images(images_BHWC, self.pixels, self.text.head.bias_V.device)).cpu()

    @torch.inference_mode()
    def encode_text(self, captions: list[str]) -> torch.Tensor:
        """L2-normalised lexicon weights, float32 (B, V) on the CPU, of captions; zero without an active lexicon."""
        tokens_BL = torch.from_numpy(self.tokenizer.encode(captions)[0]).to(self.text.head.bias_V.device)
        return self.text_vectors(trim_padding(tokens_BL, self.tokenizer.pad_id)).cpu()

    @torch.inference_mode()
    def encode_words(self, captions: list[str]) -> torch.Tensor:
        """Search by typed words, without the text encoder: the tokens of each caption times their idf, L2-normalised,
        float32 (B, V) on the CPU."""
        tokens_BL = torch.from_numpy(self.tokenizer.encode(captions)[0]).to(self.idf_V.device)
        words_BV = bag_of_tokens(self.lexicons(tokens_BL), self.dimension, "once") * self.idf_V
        return F.normalize(words_BV, dim=-1).cpu()


def trim_padding(tokens_BL: torch.Tensor, pad_id: int) -> torch.Tensor:
    """Drops the columns that are padding in every row."""
    return tokens_BL[:, : max(int((tokens_BL != pad_id).sum(dim=1).max()), 1)]
