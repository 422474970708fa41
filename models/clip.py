"""The CLIP baseline: open_clip's own model and loss at the size, data and steps of LexLIP (Radford et al., 2021).

Differences from LexLIP's towers are CLIP's own: pre-norm text with CLIP's pooling, a linear projection to a dense vector, a
learned temperature. The pixels-to-tokens stem and the tokenizer are the same, so neither side sees more than the other.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from models import torchvision_ops
from models.backbones import ConvolutionalStem, as_images, pixel_values
from models.config import ModelConfig
from models.errors import InputError
from models.objective import Batch
from models.tokenizer import LexiconTokenizer

torchvision_ops.make_importable()
from open_clip import CLIP, ClipLoss  # noqa: E402
from open_clip.model import CLIPTextCfg, CLIPVisionCfg  # noqa: E402

MAX_LOGIT_SCALE = math.log(100)
"""The published clip of the learned temperature."""


class Clip(nn.Module):
    """The retrieval model: open_clip's CLIP behind the same two calls as LexLIP."""

    kind = "dense"
    vocabulary = None

    def __init__(self, config: ModelConfig, tokenizer: LexiconTokenizer):
        super().__init__()
        config.validate()
        self.config, self.tokenizer = config, tokenizer
        image, text, clip = config.image, config.text, config.clip
        self.clip = CLIP(
            clip.embedding,
            CLIPVisionCfg(
                layers=image.layers,
                width=image.width,
                head_width=image.width // image.heads,
                mlp_ratio=image.mlp_ratio,
                patch_size=image.patch,
                image_size=image.pixels,
                pool_type={"cls": "tok", "mean": "avg"}[clip.image_pool],
            ),
            CLIPTextCfg(
                context_length=text.max_tokens,
                vocab_size=text.vocabulary,
                width=text.width,
                heads=text.heads,
                layers=text.layers,
                mlp_ratio=text.mlp_ratio,
                pad_id=tokenizer.pad_id,
                eos_id=tokenizer.sep_id,
                pool_type="eos",
                no_causal_mask=not clip.causal,
            ),
            init_logit_scale=math.log(1 / clip.temperature),
        )
        if image.stem == "convolutional":
            self.clip.visual.conv1 = ConvolutionalStem(image.stem_widths, image.width)

    @property
    def dimension(self) -> int:
        """D, the width of the dense vectors."""
        return self.config.clip.embedding

    @property
    def pixels(self) -> int:
        return self.config.image.pixels

    @torch.inference_mode()
    def encode_image(self, images_BHWC) -> torch.Tensor:
        """uint8 (B, H, W, 3), tensor or array, to L2-normalised vectors, float32 (B, D) on the CPU."""
        images_BHWC = as_images(images_BHWC, self.pixels, self.clip.logit_scale.device)
        return F.normalize(self.clip.encode_image(pixel_values(images_BHWC)).float(), dim=-1).cpu()

    @torch.inference_mode()
    def encode_text(self, captions: list[str]) -> torch.Tensor:
        """Captions to L2-normalised vectors, float32 (B, D) on the CPU."""
        tokens_BL = torch.from_numpy(self.tokenizer.encode(captions)[0]).to(self.clip.logit_scale.device)
        return F.normalize(self.clip.encode_text(tokens_BL.long()).float(), dim=-1).cpu()


class ClipObjective(nn.Module):
    """In-batch symmetric InfoNCE with a learned temperature, by open_clip's own loss."""

    phases = ("contrastive",)

    def __init__(self, model: Clip):
        super().__init__()
        self.model = model
        self.loss = ClipLoss()

    def begin(self, phase: str) -> None:
        if phase not in self.phases:
            raise InputError(f"clip cannot train the phase {phase!r}; expected {', '.join(self.phases)}")

    def losses(self, batch: Batch, generator: torch.Generator) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        clip = self.model.clip
        missing = self.model.config.text.max_tokens - batch.tokens_BL.shape[1]
        tokens_BL = F.pad(batch.tokens_BL, (0, missing), value=self.model.tokenizer.pad_id)  # open_clip's text tower has one length
        image_BD = F.normalize(clip.encode_image(pixel_values(batch.images_BHWC)).float(), dim=-1)
        text_BD = F.normalize(clip.encode_text(tokens_BL.long()).float(), dim=-1)
        scale = clip.logit_scale.exp()
        return {"contrastive": self.loss(image_BD, text_BD, scale)}, {"temperature": 1 / scale.detach()}

    @torch.no_grad()
    def after_step(self) -> None:
        """Keep the learned temperature within the published bounds."""
        self.model.clip.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
