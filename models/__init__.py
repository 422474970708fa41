"""LexLIP and the CLIP baseline. The package knows neither data sets nor files other than checkpoints.

Tensor names carry their shape as a suffix:

    B batch        L tokens       V vocabulary (lexicons)      D width or embedding
    N documents    Q queries      K top-k lexicons             H queue length
    X any width    M masked tokens

A lower-case letter is a part of that dimension (`tokens_bL`: some rows of a batch).
"""


def load(folder, device: str = "cpu"):
    """Loads the retrieval model of a checkpoint folder; see `models.checkpoint.load`.

    The model has `encode_image`, `encode_text`, `kind`, `dimension`, `pixels` and `vocabulary`.
    """
    from models import checkpoint  # here, so that `import models` stays light

    return checkpoint.load(folder, device)
