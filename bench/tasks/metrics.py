"""The metrics: what each is called, which way is better, its unit, its definition, and the function of `bench.tasks.evaluation` that computes it.

`METRICS` is the one list that tables, figures, pages and `--help` read.
"""

import difflib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from bench.tasks.evaluation import (
    flops_per_pair,
    gini,
    mean_per_class,
    median_rank,
    overlap,
    percentile,
    success_at,
    trec_recall_at,
)
from bench.tasks.protocols.precision import map_at_r, r_precision


class Metric(NamedTuple):
    """`direction`: "higher" or "lower" is better, "" for neither. `function`: None where the value is measured, not computed."""

    label: str
    direction: str
    unit: str
    definition: str
    function: Callable[..., float] | None = None


class Registry(dict[str, Metric]):
    """Name -> Metric. `loss_<part>` and `vectors_<statistic>` are made on the fly; any other unknown name is a KeyError that says the nearest."""

    def __missing__(self, name: str) -> Metric:
        if name.startswith("loss_") and len(name) > len("loss_"):
            part = name.removeprefix("loss_").replace("_", " ")
            return Metric(
                f"Loss: {part}", "lower", "", f"The part '{part}' of the training loss, unweighted, at this step."
            )
        if name.startswith("vectors_") and len(name) > len("vectors_"):
            what = name.removeprefix("vectors_").replace("_", " ")
            return Metric(
                f"Vectors: {what}",
                "",
                "",
                f"The statistic '{what}' of lexicon vectors; `bench.vectors.statistics` defines it.",
            )
        nearest = difflib.get_close_matches(name, self, n=1, cutoff=0)
        raise KeyError(f"unknown metric '{name}': the nearest known one is '{nearest[0]}'")


def _retrieval() -> dict[str, Metric]:
    """Success@K and TREC recall at 1, 5 and 10."""
    made = {}
    for k in (1, 5, 10):
        success_text = f"Success@{k}, printed as R@{k} as the field does: share of queries with at least one relevant item in the top {k}."
        recall_text = (
            f"Share of a query's relevant items that are in the top {k}, averaged over queries; "
            f"with five captions per image, image to text cannot pass {min(k, 5) / 5:.2f}."
        )
        made[f"recall@{k}"] = Metric(f"R@{k}", "higher", "share", success_text, partial(success_at, k))
        made[f"trec_recall@{k}"] = Metric(
            f"recall@{k} (TREC)", "higher", "share", recall_text, partial(trec_recall_at, k)
        )
    return made


def _protocols() -> dict[str, Metric]:
    """COCO's folds and extra positives (`bench.tasks.protocols.protocols`)."""
    made = {}
    for k in (1, 5, 10):
        text = f"R@{k} among the 1,000 images of a query's fold of COCO's test split, averaged over the five folds."
        made[f"fold_recall@{k}"] = Metric(f"R@{k}, 1K folds", "higher", "share", text, partial(success_at, k))
    for name, label in (("cxc", "CxC"), ("eccv", "ECCV Caption")):
        those = f"by the judgements of {label}, averaged over the queries that it judges; R is how many right items a query has."
        for k in (1, 5, 10):
            text = f"Share of queries with at least one right item in the top {k}, {those.split(';')[0]}."
            made[f"{name}_recall@{k}"] = Metric(f"R@{k}, {label}", "higher", "share", text, partial(success_at, k))
        text = f"Share of the top R that is right, {those}"
        made[f"{name}_r_precision"] = Metric(f"R-Precision, {label}", "higher", "share", text, r_precision)
        text = f"Precision at the rank of each right item in the top R, summed, over R, {those}"
        made[f"{name}_map@r"] = Metric(f"mAP@R, {label}", "higher", "share", text, map_at_r)
    return made


def _latency() -> dict[str, Metric]:
    """Percentiles of the time of one query."""
    made = {}
    for share in (50, 95, 99):
        text = f"Time that {share}% of single queries do not exceed, each measured by itself, after warm-up; encoding the query not included."
        made[f"latency_p{share}_us"] = Metric(
            f"Latency p{share}", "lower", "us", text, partial(percentile, share=share)
        )
        text = f"Time that {share}% of single texts do not exceed from string to vector, tokenizer included, after warm-up."
        made[f"encode_text_latency_p{share}_us"] = Metric(
            f"Text encoding p{share}", "lower", "us", text, partial(percentile, share=share)
        )
    return made


def _hard_negatives() -> dict[str, Metric]:
    """Accuracy over all hard negatives and over each kind."""
    text = (
        "Share of images that score their caption strictly above the same caption with one {} swapped; ties are wrong."
    )
    made = {
        "hard_negative_accuracy": Metric(
            "Hard negatives", "higher", "share", text.format("attribute, count or relation")
        )
    }
    for kind in ("attribute", "count", "relation"):
        made[f"hard_negative_accuracy_{kind}"] = Metric(f"Hard negatives: {kind}", "higher", "share", text.format(kind))
    return made


def _satisfying() -> dict[str, Metric]:
    """False negatives of the protocol."""
    text = "Images of the gallery beside its own that make a caption true and count as wrong all the same: {} over captions."
    made = {
        f"satisfying_{name}": Metric(f"Also true, {name}", "lower", "images", text.format(name))
        for name in ("mean", "median")
    }
    share = "Share of captions that at least one image of the gallery beside their own makes true."
    return made | {"satisfied_share": Metric("Captions with another true image", "lower", "share", share)}


def _zero_shot() -> dict[str, Metric]:
    """Classification of pictures by prompts over class names."""
    made = {}
    for k, whose in ((1, "whose own class scores highest"), (5, "whose own class is among the 5 that score highest")):
        text = f"Share of pictures {whose}, by the cosine of picture and class; a class that ties with it counts as higher."
        made[f"zero_shot_top{k}"] = Metric(f"Zero-shot top-{k}", "higher", "share", text, partial(success_at, k))
    for name, label, direction, unit, text, function in (
        (
            "zero_shot_per_class",
            "Zero-shot per class",
            "higher",
            "share",
            "Top-1 accuracy of each class by itself, averaged over the classes that have pictures.",
            mean_per_class,
        ),
        ("zero_shot_classes", "Classes", "", "classes", "Classes that a picture could be given.", None),
        (
            "zero_shot_images",
            "Pictures classified",
            "",
            "images",
            "Pictures that were classified; broken files are not among them.",
            None,
        ),
        (
            "zero_shot_broken",
            "Broken pictures",
            "lower",
            "images",
            "Files that could not be decoded, and so were left out.",
            None,
        ),
        ("zero_shot_chance", "Chance", "", "share", "Top-1 accuracy of drawing a class at random: 1 / classes.", None),
        (
            "zero_shot_most_frequent",
            "Most frequent class",
            "",
            "share",
            "Top-1 accuracy of always giving the most frequent class of these pictures.",
            None,
        ),
    ):
        made[name] = Metric(label, direction, unit, text, function)
    return made


def _sparsity() -> dict[str, Metric]:
    """Diagnostics of lexicon vectors as an index and as words (`bench.tasks.sparsity`)."""
    made = {}
    for name, label, direction, unit, text, function in (
        ("empty_items", "Empty items", "lower", "items", "Images without any lexicon: no query can find them.", None),
        (
            "dead_lexicons",
            "Dead lexicons",
            "lower",
            "lexicons",
            "Lexicons of the whole vocabulary that no image has.",
            None,
        ),
        (
            "always_on_lexicons",
            "Always-on lexicons",
            "lower",
            "lexicons",
            "Lexicons that more than half of the images have.",
            None,
        ),
        ("lexicons_in_all", "Lexicons in all", "lower", "lexicons", "Lexicons that every image has.", None),
        (
            "postings_gini",
            "Skew of postings",
            "",
            "Gini",
            "Gini coefficient of the lengths of the posting lists that are not empty: 0 when all are equally long.",
            gini,
        ),
        (
            "postings_top_share",
            "Postings of the longest lists",
            "lower",
            "share",
            "Share of all postings that the longest 1% (at least one) of the posting lists that are not empty hold.",
            None,
        ),
        (
            "caption_precision",
            "Lexicons in the captions",
            "",
            "share",
            "Share of an image's lexicons that are word tokens of its captions, averaged over the images that have lexicons.",
            None,
        ),
        (
            "caption_precision_weighted",
            "Weight in the captions",
            "",
            "share",
            "Share of an image's weight that is on word tokens of its captions, averaged over the images that have lexicons.",
            None,
        ),
        (
            "caption_recall",
            "Caption words active",
            "",
            "share",
            "Share of the different word tokens of an image's captions that the image has as lexicons, averaged over the images.",
            None,
        ),
        (
            "caption_recall_weighted",
            "Caption weight active",
            "",
            "share",
            "As 'Caption words active', each token by its mean weight in the vectors of the captions; images whose captions give their own "
            "tokens no weight do not count.",
            None,
        ),
    ):
        made[name] = Metric(label, direction, unit, text, function)
    return made


def _distribution() -> dict[str, Metric]:
    """Statistics of vectors (`bench.vectors.statistics`), which stand beside a measured point and say what it was measured on."""
    made = {}
    for name, label, unit, text in (
        ("items", "Items", "items", "Vectors in the collection."),
        ("dimension", "Dimension", "", "Lexicons of the vocabulary, or components of a dense vector."),
        ("lexicons_used", "Lexicons used", "lexicons", "Lexicons that at least one item has."),
        (
            "zipf_exponent",
            "Zipf exponent",
            "",
            "a of popularity ~ rank^-a, by least squares of the logarithms over the ranks of the effective vocabulary.",
        ),
        (
            "effective_vocabulary",
            "Effective vocabulary",
            "lexicons",
            "exp of the entropy of the lexicons' occurrences: as many equally frequent lexicons have it.",
        ),
        (
            "top_lexicon_share",
            "Most frequent lexicon",
            "share",
            "Share of the items that have the most frequent lexicon.",
        ),
        ("pair_cosine_mean", "Cosine of two items", "cosine", "Mean cosine of two items drawn at random."),
        (
            "pair_cosine_p99",
            "Cosine of two items, p99",
            "cosine",
            "99th percentile of the cosine of two items drawn at random.",
        ),
        (
            "pair_shared_lexicons",
            "Lexicons shared",
            "lexicons",
            "Mean number of lexicons that two items drawn at random both have.",
        ),
        (
            "nearest_cosine",
            "Cosine of the nearest item",
            "cosine",
            "Mean cosine of an item to the nearest other one, among at most 20,000.",
        ),
        ("own_cosine", "Cosine of query and document", "cosine", "Mean cosine of a query to the item of its image."),
        (
            "query_document_overlap",
            "Overlap of query and document",
            "share",
            "Share of a query's lexicons that the item of its image has.",
        ),
        (
            "query_random_overlap",
            "Overlap of query and any item",
            "share",
            "Share of a query's lexicons that an item drawn at random has.",
        ),
    ):
        made[name] = Metric(label, "", unit, text)
    for what, whose in (("active", "an item"), ("query_active", "a query")):
        made[f"{what}_mean"] = Metric(
            f"Lexicons of {whose}, mean", "", "lexicons", f"Mean number of lexicons of {whose}."
        )
        for share in (1, 5, 25, 50, 75, 95, 99):
            text = f"{share}th percentile of the number of lexicons of {whose}."
            made[f"{what}_p{share}"] = Metric(f"Lexicons of {whose}, p{share}", "", "lexicons", text)
    for rank in (1, 2, 4, 8, 16, 32, 64, 128):
        text = f"Mean weight of an item's lexicon number {rank} by weight, 0 where it has fewer."
        made[f"weight_rank_{rank}"] = Metric(f"Weight of lexicon number {rank}", "", "weight", text)
    for place in (1, 10, 100, 1000):
        text = f"Mean cosine of a query to its nearest item number {place}, among at most 20,000."
        made[f"place_{place}_cosine"] = Metric(f"Cosine of result {place}", "", "cosine", text)
    return made


def _reliability() -> dict[str, Metric]:
    """Broken input, faults and long runs."""
    made = {}
    for name, label, direction, unit, text in (
        ("fuzz_executions", "Inputs tried", "higher", "inputs", "Broken files that a reader was given."),
        (
            "fuzz_mishandled",
            "Mishandled",
            "lower",
            "inputs",
            "Broken files that ended in a traceback, a hang or a crash instead of one clear line, or that were read as other values than were "
            "written where a change must be noticed.",
        ),
        ("faults_injected", "Faults injected", "higher", "faults", "Faults that a test injected."),
        (
            "faults_survived",
            "Faults survived",
            "higher",
            "faults",
            "Of those, the ones after which everything that the test asks held.",
        ),
        (
            "fault_bytes_lost",
            "Bytes lost",
            "lower",
            "bytes",
            "Bytes of finished work (records, vectors, checkpoints, indexes) that were there before the fault and not after it.",
        ),
        ("soak_minutes", "Soak", "higher", "min", "Minutes under full load, warm-up not included."),
        ("soak_queries", "Queries served", "higher", "queries", "Queries answered, those of the warm-up included."),
        (
            "soak_wrong",
            "Wrong answers",
            "lower",
            "queries",
            "Of those, the ones that were answered otherwise than at first.",
        ),
        (
            "soak_min_detectable",
            "Least growth told",
            "",
            "bytes/h",
            "The least growth of private memory per hour that could be told from noise in so short a soak.",
        ),
    ):
        made[name] = Metric(label, direction, unit, text)
    for name, label, unit in (
        ("memory", "Memory", "bytes/h"),
        ("private", "Private memory", "bytes/h"),
        ("handles", "File handles", "files/h"),
        ("threads", "Threads", "threads/h"),
    ):
        text = f"{label} of the serving process: median slope over all pairs of samples (Theil and Sen), per hour."
        made[f"soak_growth_{name}"] = Metric(f"{label}, growth", "lower", unit, text)
    return made


def _measured(name: str, label: str, direction: str, unit: str, definition: str) -> dict[str, Metric]:
    return {name: Metric(label, direction, unit, definition)}


METRICS = Registry(
    _retrieval()
    | _protocols()
    | {
        "median_rank": Metric(
            "Median rank",
            "lower",
            "rank",
            "Median rank of the first relevant item; one that was not retrieved counts as one beyond the retrieved depth.",
            median_rank,
        ),
        "overlap@10": Metric(
            "Overlap@10",
            "higher",
            "share",
            "Share of the top 10 of exact search over the un-pruned float vectors that was returned.",
            partial(overlap, k=10),
        ),
        "flops_per_pair": Metric(
            "FLOPS per pair",
            "lower",
            "multiply-adds",
            "Expected multiply-adds to score one query-document pair: sum over lexicons of P(in a query) x P(in a document); "
            "the dimension for dense vectors.",
            flops_per_pair,
        ),
    }
    | _measured(
        "active_lexicons_image",
        "Lexicons per image",
        "lower",
        "lexicons",
        "Mean number of positive weights per image, as searched.",
    )
    | _measured(
        "active_lexicons_text",
        "Lexicons per text",
        "lower",
        "lexicons",
        "Mean number of positive weights per caption, as searched.",
    )
    | _measured("index_bytes", "Index", "lower", "bytes", "Bytes on disk of the files that search opens.")
    | _measured(
        "bytes_per_image",
        "Bytes per item",
        "lower",
        "bytes",
        "Index bytes over indexed items (images; captions for image to text).",
    )
    | _measured(
        "vectors_bytes", "Vectors", "lower", "bytes", "Bytes on disk of the vectors that the index was built from."
    )
    | _measured(
        "build_seconds",
        "Build time",
        "lower",
        "s",
        "Wall time from vectors on disk to the index, pruning and quantising included.",
    )
    | _measured(
        "build_cpu_seconds",
        "Build CPU time",
        "lower",
        "s",
        "CPU time over all threads from vectors on disk to the index.",
    )
    | _measured(
        "build_peak_bytes",
        "Build memory",
        "lower",
        "bytes",
        "Peak resident memory of the process that built the index.",
    )
    | _measured(
        "resident_bytes",
        "Memory loaded",
        "lower",
        "bytes",
        "Growth of resident memory by opening the index and answering all queries.",
    )
    | _measured(
        "engine_recall@10",
        "Engine recall@10",
        "higher",
        "share",
        "Share of the exact top 10 over what the index was given that was returned; an item that ties with the 10th counts. A sample of queries.",
    )
    | _measured(
        "touched_bytes",
        "Postings read",
        "lower",
        "bytes",
        "Mean bytes of postings that exhaustive scoring of a query must read.",
    )
    | _measured(
        "limit_qps",
        "QPS limit",
        "higher",
        "queries/s",
        "Measured memory bandwidth at the stated threads over the postings read: what exhaustive scoring could not pass.",
    )
    | _satisfying()
    | _distribution()
    | _measured(
        "qps",
        "QPS",
        "higher",
        "queries/s",
        "Queries completed over wall time at the stated threads, after warm-up; never 1 / latency.",
    )
    | _measured("qps_min", "QPS, least", "higher", "queries/s", "QPS of the slowest round.")
    | _measured("qps_max", "QPS, most", "higher", "queries/s", "QPS of the fastest round.")
    | _measured(
        "network_share",
        "Network",
        "lower",
        "share",
        "Of the wall time of a search over shards, the share outside the slowest shard's own search: sending, waiting, receiving, merging.",
    )
    | _latency()
    | _measured(
        "encode_images_per_second",
        "Images encoded",
        "higher",
        "images/s",
        "Images over encoder wall time, rendering not included.",
    )
    | _measured(
        "encode_texts_per_second",
        "Texts encoded",
        "higher",
        "texts/s",
        "Captions over the wall time of tokenizer and encoder.",
    )
    | _hard_negatives()
    | _zero_shot()
    | _sparsity()
    | _measured(
        "sweep_build_seconds",
        "Sweep, building",
        "lower",
        "s",
        "Wall time to build all indexes of a gallery, one after the other.",
    )
    | _measured(
        "sweep_accuracy_seconds",
        "Sweep, judging",
        "lower",
        "s",
        "Wall time to search them for all judged queries, exact answers included.",
    )
    | _measured("sweep_rounds_seconds", "Sweep, timing", "lower", "s", "Wall time of all rounds of timed searches.")
    | _measured(
        "head_forward_seconds",
        "Head, forward",
        "lower",
        "s",
        "Wall time of one forward pass of the lexicon head and its pooling.",
    )
    | _measured("head_backward_seconds", "Head, backward", "lower", "s", "Wall time of the backward pass that follows.")
    | _measured(
        "head_peak_bytes",
        "Head, peak memory",
        "lower",
        "bytes",
        "Memory at the peak of both passes beside that of the inputs.",
    )
    | _measured(
        "head_active_share",
        "Head, active lexicons",
        "",
        "share",
        "Lexicons with a weight, of all; the others have no gradient.",
    )
    | _measured(
        "queue_push_seconds", "Queue, push", "lower", "s", "Wall time for the queue of momentum keys to take one batch."
    )
    | _measured(
        "queue_score_seconds",
        "Queue, score",
        "lower",
        "s",
        "Wall time to score a batch against the queue, loss and backward included.",
    )
    | _measured("queue_bytes", "Queue, memory", "lower", "bytes", "Memory of the keys.")
    | _measured(
        "queue_active",
        "Queue, active lexicons",
        "",
        "lexicons",
        "Lexicons with a weight in a key, before any is dropped; the mean.",
    )
    | _measured("queue_loss", "Queue, loss", "", "", "InfoNCE of the batch against its keys and the queue's.")
    | _measured(
        "train_seconds",
        "Training time",
        "lower",
        "s",
        "Wall time of training steps, validation and checkpoints not included.",
    )
    | _measured(
        "train_cpu_seconds",
        "Training CPU time",
        "lower",
        "s",
        "CPU time of training steps over all cores: a busy machine stretches it less.",
    )
    | _measured("train_samples", "Samples seen", "", "pairs", "Image-caption pairs seen in training.")
    | _measured(
        "train_samples_per_second", "Training rate", "higher", "pairs/s", "Image-caption pairs over training time."
    )
    | _measured(
        "parameters",
        "Parameters",
        "lower",
        "parameters",
        "Parameters that retrieval uses: both encoders and their heads.",
    )
    | _measured("steps", "Steps", "", "steps", "Optimiser steps taken.")
    | _measured("loss", "Loss", "lower", "", "The training loss at this step, weighted sum of its parts.")
    | _measured("lr", "Learning rate", "", "", "Learning rate at this step.")
    | _measured(
        "gradient_norm",
        "Gradient norm",
        "",
        "",
        "Norm of the gradient before clipping, mean over the steps since the last validation.",
    )
    | _measured("temperature", "Temperature", "", "", "The learned temperature of a dense model's contrastive loss.")
    | _measured(
        "chosen_step",
        "Chosen step",
        "",
        "steps",
        "Step of the checkpoint with the best val R@1, mean of both directions; it is the one measured on test.",
    )
    | _reliability()
)
