"""The validation that chooses a checkpoint: recall on val, by brute force over unpruned vectors in memory."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from ablations.config import DataConfig
from ablations.data import TokenStates
from bench.corpora import open_corpus
from bench.tasks.retrieval.settings import MAIN_TOP_K as TOP_K
from bench.tasks.words import agreement, caption_tokens

ENCODE_BATCH = 250


@dataclass(frozen=True)
class ValidationSet:
    """Images of val, uint8 (N, H, W, 3), and their captions; `image_of_Q` is the row of each caption's image.

    `image_states_NLX`, and `text_states` with `tokens_QL`: states of frozen encoders, which are then used instead.
    """

    images_NHWC: np.ndarray
    captions: list[str]
    image_of_Q: np.ndarray
    image_states_NLX: np.ndarray | None = None
    tokens_QL: np.ndarray | None = None
    text_states: TokenStates | None = None

    @classmethod
    def of(cls, data: DataConfig) -> "ValidationSet":
        """Reads the first `val_images` images of val."""
        corpus = open_corpus(data.corpus)
        images = list(corpus.images("val", 0, data.val_images))
        row = {image_id: index for index, (image_id, _) in enumerate(images)}
        captions = [(text, row[image_id]) for _, text, image_id in corpus.captions("val", 0, data.val_images)]
        return cls(
            np.stack([image for _, image in images]),
            [text for text, _ in captions],
            np.array([image for _, image in captions]),
        )


def validate(model: torch.nn.Module, held: ValidationSet) -> dict[str, float]:
    """R@1 and R@10 in both directions, and the active lexicons of a lexicon model. Leaves the model in train mode.

    Text to image: the share of captions whose image is among the top k. Image to text: the share of images with at
    least one of their captions among the top k.
    """
    model.eval()
    image_NX, text_QX = _image_vectors(model, held), _text_vectors(model, held)
    model.train()
    scores_QN = (text_QX @ image_NX.T).numpy()
    rank_Q = rank_of_target(scores_QN, held.image_of_Q)
    caption_rank_Q = rank_of_target(scores_QN.T[held.image_of_Q], np.arange(len(rank_Q)))
    best_caption_rank_N = np.full(len(image_NX), scores_QN.shape[0] + 1)
    np.minimum.at(best_caption_rank_N, held.image_of_Q, caption_rank_Q)
    values = {}
    for direction, ranks in (("text_to_image", rank_Q), ("image_to_text", best_caption_rank_N)):
        for k in (1, 10):
            values[f"{direction}/recall@{k}"] = float((ranks <= k).mean())
    if model.kind == "lexicon":
        values |= _words(model, held, image_NX, text_QX)
        values["active_lexicons_image"] = float((image_NX > 0).sum(dim=1).float().mean())
        values["active_lexicons_text"] = float((text_QX > 0).sum(dim=1).float().mean())
    return values


def _words(model, held: ValidationSet, image_NV: torch.Tensor, text_QV: torch.Tensor) -> dict[str, float]:
    """Measures on images pruned to `TOP_K` lexicons: recall of captions and of their typed words, weight on words."""
    weights_NK, places_NK = image_NV.topk(min(TOP_K, image_NV.shape[1]), dim=1)
    pruned_NV = torch.zeros_like(image_NV).scatter_(1, places_NK, weights_NK)
    recall = {}
    for name, query_QV, k in (("pruned", text_QV, 1), ("typed", model.encode_words(held.captions), 10)):
        rank_Q = rank_of_target((query_QV @ pruned_NV.T).numpy(), held.image_of_Q)
        recall[f"text_to_image/{name}_recall@{k}"] = float((rank_Q <= k).mean())
    tokens = caption_tokens(model.tokenizer, zip(held.image_of_Q.tolist(), held.captions, strict=True), len(image_NV))
    return recall | agreement(sp.csr_array(pruned_NV.numpy()), tokens)


def rank_of_target(scores_QN: np.ndarray, target_Q: np.ndarray) -> np.ndarray:
    """1-based rank of each query's target, int64 (Q,); ties are ordered by column, as engines order them by id."""
    target_Q1 = np.take_along_axis(scores_QN, target_Q[:, None], axis=1)
    earlier_QN = np.arange(scores_QN.shape[1])[None] < target_Q[:, None]
    return 1 + ((scores_QN > target_Q1) | ((scores_QN == target_Q1) & earlier_QN)).sum(axis=1)


@torch.inference_mode()
def _image_vectors(model, held: ValidationSet) -> torch.Tensor:
    if held.image_states_NLX is None:
        return _in_batches(model.encode_image, held.images_NHWC)
    device = next(model.parameters()).device

    def encode(states_BLX: np.ndarray) -> torch.Tensor:
        return model.image_vectors(None, torch.from_numpy(np.array(states_BLX)).to(device)).cpu()

    return _in_batches(encode, held.image_states_NLX)


@torch.inference_mode()
def _text_vectors(model, held: ValidationSet) -> torch.Tensor:
    if held.text_states is None:
        return _in_batches(model.encode_text, held.captions)
    device = next(model.parameters()).device

    def encode(rows_B: np.ndarray) -> torch.Tensor:
        tokens_BL = torch.from_numpy(held.tokens_QL[rows_B].astype(np.int64))
        longest = int((tokens_BL != model.tokenizer.pad_id).sum(dim=1).max())
        states_BLX = torch.from_numpy(held.text_states.of(rows_B, longest))
        return model.text_vectors(tokens_BL[:, :longest].to(device), states_BLX.to(device)).cpu()

    return _in_batches(encode, np.arange(len(held.captions)))


def _in_batches(encode, items) -> torch.Tensor:
    return torch.cat([encode(items[at : at + ENCODE_BATCH]) for at in range(0, len(items), ENCODE_BATCH)])
