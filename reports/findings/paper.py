"""Published claims on large-scale retrieval: arXiv 2302.02908 v1 and ICCV 2023 (Luo et al.)."""

LARGE_SCALE = 1_000_000  # distractor images of the published task
# (claim, v1, ICCV version)
SPEED = ("Large-scale retrieval against CLIP: speed", "5.5× to 221.3× faster", "5.8× faster")
SIZE = ("Large-scale retrieval against CLIP: index storage", "13.2× to 48.8× smaller", "19.1× smaller")
OTHERS = (
    ("COCO and Flickr30k recall", "best of same-scale pre-training", "best of same-scale pre-training"),
    ("Zero-shot image classification", "–", "better than CLIP on 8 of 10 sets"),
)
