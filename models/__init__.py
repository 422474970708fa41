"""LexLIP and the CLIP baseline. Knows torch; knows no data, and no files but checkpoints.

Tensor names carry their shape as a suffix:

    B batch        L tokens       V vocabulary (lexicons)      D width or embedding
    N documents    Q queries      K kept lexicons              H hidden (queue length)
"""


def load(folder, device: str = "cpu"):
    """The retrieval model of a checkpoint folder: `encode_image`, `encode_text`, `vocabulary`. Raises InputError; see `models.checkpoint.load`."""
    from models.checkpoint import load  # torch and transformers come with it: only who loads a model pays for them

    return load(folder, device)
