"""The CLIP baseline (Radford et al., 2021): model and loss of open_clip with the size, data and steps of LexLIP.

Its towers differ from LexLIP's as CLIP does: pre-norm text with CLIP's pooling, a linear projection to a dense vector,
a learned temperature. The stem and the tokenizer are the same, so both models see the same input.

With `towers: lexlip` CLIP has the encoders of LexLIP instead, for kinds that open_clip lacks and for pre-trained ones:
both models then start from the same weights.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from models.batch import Batch
from models.config import PHASES, ModelConfig
from models.distributed import rank, world
from models.lexlip import trim_padding
from models.objective import Losses, Objective, Sides
from models.tokenizer import LexiconTokenizer
from models.towers import torchvision_ops
from models.towers.frozen import trained_part
from models.towers.transformer import (
    ConvolutionalStem,
    as_images,
    image_tower,
    pixel_values,
    states_of_images,
    text_tokens,
    text_tower,
)

torchvision_ops.make_importable()
from open_clip import CLIP, ClipLoss  # noqa: E402
from open_clip.model import CLIPTextCfg, CLIPVisionCfg  # noqa: E402

MAX_LOGIT_SCALE = math.log(100)
"""Upper bound of the log of the inverse temperature, as published."""


class Clip(nn.Module):
    """The retrieval model: open_clip's CLIP with the interface of LexLIP. Raises InputError as LexLIP."""

    kind = "dense"
    vocabulary = None

    def __init__(self, config: ModelConfig, tokenizer: LexiconTokenizer):
        super().__init__()
        config.validate()
        self.config, self.tokenizer = config, tokenizer
        self.clip = (
            DualEncoder(config, tokenizer.pad_id)
            if config.clip.towers == "lexlip"
            else self._open_clip_model(config, tokenizer)
        )

    @staticmethod
    def _open_clip_model(config: ModelConfig, tokenizer: LexiconTokenizer) -> CLIP:
        image, text, clip = config.image, config.text, config.clip
        model = CLIP(
            clip.embedding,
            CLIPVisionCfg(
                layers=image.layers,
                width=image.width,
                head_width=image.width // image.heads,
                mlp_ratio=image.mlp_ratio,
                patch_size=image.patch,
                image_size=image.table,
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
            model.visual.conv1 = ConvolutionalStem(image.stem_widths, image.width)
        return model

    @property
    def image_encoder(self) -> nn.Module:
        """The image encoder without projection; with `towers: lexlip` only."""
        return self.clip.image

    @property
    def text_encoder(self) -> nn.Module:
        """The text encoder without projection; with `towers: lexlip` only."""
        return self.clip.text

    @property
    def dimension(self) -> int:
        """D, the width of the dense vectors."""
        return self.config.clip.embedding

    @property
    def pixels(self) -> int:
        """Side of the images, in pixels."""
        return self.config.image.pixels

    def image_vectors(self, images_BHWC: torch.Tensor | None, states_BLX: torch.Tensor | None = None) -> torch.Tensor:
        """L2-normalised vectors, float32 (B, D), of uint8 images (B, H, W, 3), of `pixels` or another size.

        states_BLX: in place of the images, their states of the frozen encoder.
        """
        if isinstance(self.clip, DualEncoder):
            return F.normalize(self.clip.encode_image(images_BHWC, states_BLX).float(), dim=-1)
        values_BCHW = pixel_values(images_BHWC, self.config.image.statistics)
        if values_BCHW.shape[-1] == self.config.image.table:
            return F.normalize(self.clip.encode_image(values_BCHW).float(), dim=-1)
        visual, side = self.clip.visual, values_BCHW.shape[-1] // self.config.image.patch
        resized = {"positional_embedding": resized_positions(visual.positional_embedding, side)}
        return F.normalize(torch.func.functional_call(visual, resized, values_BCHW).float(), dim=-1)

    def text_vectors(self, tokens_BL: torch.Tensor, states_BLX: torch.Tensor | None = None) -> torch.Tensor:
        """L2-normalised vectors, float32 (B, D), of padded token ids (B, L).

        states_BLX: the states of the frozen encoder, if they are known.
        """
        pad_id = self.tokenizer.pad_id
        if isinstance(self.clip, DualEncoder):
            if states_BLX is None:
                tokens_BL = trim_padding(tokens_BL, pad_id)
            return F.normalize(self.clip.encode_text(tokens_BL, states_BLX).float(), dim=-1)
        # open_clip's text tower has a fixed length
        tokens_BL = F.pad(tokens_BL, (0, self.config.text.max_tokens - tokens_BL.shape[1]), value=pad_id)
        return F.normalize(self.clip.encode_text(tokens_BL.long()).float(), dim=-1)

    @torch.inference_mode()
    def encode_image(self, images_BHWC) -> torch.Tensor:
        """L2-normalised vectors, float32 (B, D) on the CPU, of images, uint8 (B, pixels, pixels, 3).

        Raises InputError for another dtype or shape.
        """
        return self.image_vectors(as_images(images_BHWC, self.pixels, self.clip.logit_scale.device)).cpu()

    @torch.inference_mode()
    def encode_text(self, captions: list[str]) -> torch.Tensor:
        """L2-normalised vectors, float32 (B, D) on the CPU, of captions."""
        tokens_BL = torch.from_numpy(self.tokenizer.encode(captions)[0])
        return self.text_vectors(tokens_BL.to(self.clip.logit_scale.device)).cpu()


class DualEncoder(nn.Module):
    """LexLIP's encoders, each with a linear projection, with the interface of open_clip's CLIP.

    A text is represented by its [CLS], an image by its [CLS] or the mean of its patches (`image_pool`).
    """

    def __init__(self, config: ModelConfig, pad_id: int):
        super().__init__()
        self.pad_id, self.image_pool, self.statistics = pad_id, config.clip.image_pool, config.image.statistics
        self.image, self.text = image_tower(config.image), text_tower(config.text)
        self.image_projection = nn.Linear(config.image.states_width, config.clip.embedding, bias=False)
        self.text_projection = nn.Linear(config.text.width, config.clip.embedding, bias=False)
        for projection in (self.image_projection, self.text_projection):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)  # as published
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / config.clip.temperature)))

    def encode_image(self, images_BHWC: torch.Tensor | None, states_BLX: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors (B, D), not normalised, of uint8 images, or of their states of the frozen encoder."""
        hidden_BLD = states_of_images(self.image, images_BHWC, self.statistics, states_BLX)
        return self.image_projection(hidden_BLD[:, 0] if self.image_pool == "cls" else hidden_BLD[:, 1:].mean(dim=1))

    def encode_text(self, tokens_BL: torch.Tensor, states_BLX: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors (B, D), not normalised, of padded token ids, whose states of the frozen encoder may be known."""
        hidden_BLD = text_tokens(self.text, tokens_BL, tokens_BL != self.pad_id, states_BLX)
        return self.text_projection(hidden_BLD[:, 0])


def resized_positions(positions_LD: torch.Tensor, side: int) -> torch.Tensor:
    """Interpolates a position table ([CLS], then a square of patches) to side x side patches, as open_clip does."""
    cls_1D, square_LD = positions_LD[:1], positions_LD[1:]
    square_1DHW = square_LD.unflatten(0, (math.isqrt(len(square_LD)), -1)).permute(2, 0, 1)[None]
    resized_1DHW = F.interpolate(square_1DHW, size=(side, side), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([cls_1D, resized_1DHW[0].flatten(1).T])


class ClipObjective(Objective):
    """Symmetric InfoNCE with a learned temperature, by open_clip's loss; negatives of all processes.

    With `prefixes`, its mean over the prefixes and the whole vectors, each L2-normalised.
    """

    phases = PHASES["clip"]

    def __init__(self, model: Clip):
        super().__init__()
        self.model = model
        self.loss = ClipLoss(local_loss=True, gather_with_grad=True, rank=rank(), world_size=world())

    def vectors(self, batch: Batch) -> Sides:
        image_BD = self.model.image_vectors(batch.images_BHWC, batch.image_states_BLX)
        return image_BD, self.model.text_vectors(batch.tokens_BL, batch.text_states_BLX)

    def contrast(self, sides: Sides, keys: tuple[torch.Tensor, ...]) -> tuple[Losses, Losses]:
        scale = self.model.clip.logit_scale.exp()
        losses = [self.loss(*sides, scale)]
        for share in self.model.config.clip.prefixes:
            prefix = math.ceil(share * self.model.dimension)
            losses.append(self.loss(*(F.normalize(side_BD[:, :prefix], dim=-1) for side_BD in sides), scale))
        return {"contrastive": sum(losses) / len(losses)}, {"temperature": 1 / scale.detach()}

    def towers(self) -> list[nn.Module]:
        clip = self.model.clip
        if isinstance(clip, DualEncoder):
            return [trained_part(clip.image), trained_part(clip.text)]
        return [clip.visual, clip.transformer]

    def recompute_activations(self) -> None:
        if isinstance(self.model.clip, DualEncoder):
            super().recompute_activations()
        else:
            self.model.clip.set_grad_checkpointing()

    @torch.no_grad()
    def after_step(self) -> None:
        """Clips the learned temperature to the published bounds."""
        self.model.clip.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
