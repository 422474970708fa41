"""What Luo et al. (2023) state of large-scale retrieval: arXiv 2302.02908 v1, and the version of ICCV 2023."""

LARGE_SCALE = 1_000_000  # distractor images of the published task
# (what, v1, ICCV version)
SPEED = ("Large-scale retrieval against CLIP: speed", "5.5× to 221.3× faster", "5.8× faster")
SIZE = ("Large-scale retrieval against CLIP: index storage", "13.2× to 48.8× smaller", "19.1× smaller")
V1_SPEED, V1_SIZE = (5.5, 221.3), (13.2, 48.8)
ICCV_SPEED, ICCV_SIZE = "5.8×", "19.1×"
