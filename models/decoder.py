"""The weakened decoder of phase 1: restores heavily masked captions with the help of the bottleneck vector."""

import torch
from torch import nn

from models.config import TextConfig
from models.towers.transformer import BertModel, bert_config


class WeakenedDecoder(nn.Module):
    """A few randomly initialised transformer layers on the text encoder's embeddings, which are shared, not copied.

    The bottleneck vector replaces the embedding at position 0 ([CLS]). One decoder serves texts and images.
    """

    def __init__(self, config: TextConfig, layers: int, text_encoder: BertModel):
        super().__init__()
        self.bert = BertModel(bert_config(config, layers), add_pooling_layer=False)
        self.bert.embeddings = text_encoder.embeddings

    def forward(self, bottleneck_BD: torch.Tensor, tokens_BL: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
        """Decoder states (B, L, D) of masked captions; `mask_BL` is False at padding."""
        words_BLD = self.bert.embeddings.word_embeddings(tokens_BL)
        inputs_BLD = torch.cat([bottleneck_BD[:, None].to(words_BLD.dtype), words_BLD[:, 1:]], dim=1)
        return self.bert(inputs_embeds=inputs_BLD, attention_mask=mask_BL).last_hidden_state
