"""Sparse vectors from dense ones: heads over frozen vectors of any dual encoder (CLIP, SigLIP, your own).

config      one dataclass: the objective, its weights, the training
heads       the models: words of captions (d2s), an autoencoder (CSR), a lasso without training (SpLiCE)
losses      the formulas of the papers
objective   the losses of a training step
checkpoint  a folder with the weights, the configuration and the lexicons
"""


def load(folder):
    """The sparse encoder of a checkpoint folder; see `models.sparsify.checkpoint.load`.

    `encode_image` and `encode_text` turn dense vectors (N, D) into lexicon vectors (N, V); `vocabulary` names them.
    """
    from models.sparsify import checkpoint  # here, so that importing the package stays light

    return checkpoint.load(folder)
