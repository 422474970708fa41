"""The weakened decoder of phase 1: it can fill in heavily masked captions only by what the bottleneck tells it."""

import torch
from torch import nn

from models.config import TextConfig
from models.towers.transformer import BertModel, bert_config


class WeakenedDecoder(nn.Module):
    """A few randomly initialised transformer layers over the text encoder's own embeddings (shared, not copied).

    Position 0 ([CLS]) of the input gives way to the bottleneck vector. One decoder serves text and image.
    """

    def __init__(self, config: TextConfig, layers: int, text_encoder: BertModel):
        super().__init__()
        self.bert = BertModel(bert_config(config, layers), add_pooling_layer=False)
        self.bert.embeddings = text_encoder.embeddings

    def forward(self, bottleneck_BD: torch.Tensor, tokens_BL: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
        """Decoder states (B, L, D) of captions `tokens_BL` headed by `bottleneck_BD`; `mask_BL` is False at padding."""
        words_BLD = self.bert.embeddings.word_embeddings(tokens_BL)
        inputs_BLD = torch.cat([bottleneck_BD[:, None].to(words_BLD.dtype), words_BLD[:, 1:]], dim=1)
        return self.bert(inputs_embeds=inputs_BLD, attention_mask=mask_BL).last_hidden_state
