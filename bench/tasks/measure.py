"""All tasks of a trained variant, over one opened model and one encoding of each slice."""

from dataclasses import dataclass, replace
from pathlib import Path

from bench.corpora import counts
from bench.tasks.classification.zero_shot import ZeroShotOptions, measure_zero_shot
from bench.tasks.judgements import read as judgements
from bench.tasks.judgements.measure import measure_judgements
from bench.tasks.recall import measure_recall
from bench.tasks.retrieval.settings import RecallOptions, main_setting
from bench.tasks.sparsity import measure_sparsity
from bench.tasks.subject import Measurement, Slice, Subject


@dataclass(frozen=True)
class Plan:
    """What `measure_variant` measures.

    images: gallery size of each slice. slices: splits beside test on which recall alone is measured, if the corpus
    has them. zero_shot: images per kind of class, 0 leaves the task out.
    """

    images: int = 1000
    slices: tuple[str, ...] = ()
    zero_shot: int = 500
    recall: RecallOptions = RecallOptions()


def measure_variant(home: Path, subject: Subject, spec, plan: Plan, force: bool = False) -> Measurement:
    """Measures a model on a corpus; returns the measurement of test.

    On test: recall, index, speed, hard negatives and examples; zero-shot classification if the corpus states what
    its images show; graded judgements, on the whole of test, if the corpus has them; sparsity and words if the vectors
    are lexicon vectors, un-pruned and at the top-k of the main setting. On `plan.slices`: recall.
    """
    from bench import corpora

    corpus = corpora.open_corpus(spec)
    test = Measurement(home, subject, Slice(corpus, "test", plan.images), force)
    measure_recall(test, plan.recall)
    accuracy = replace(plan.recall, examples=0, timing=None, hard_negatives=False)
    for split in plan.slices:
        if split in corpus.splits:
            measure_recall(replace(test, slice=Slice(corpus, split, plan.images)), accuracy)
    if plan.zero_shot and hasattr(corpus, "facts"):
        options = ZeroShotOptions(images=plan.zero_shot, known=test.encoded.images)
        measure_zero_shot(home, subject, corpus, "test", options, force)
    if judgements.find(corpus):
        images = counts.count(corpus, "test", counts.ALL)
        whole = test if images == plan.images else replace(test, slice=Slice(corpus, "test", images))
        measure_judgements(whole, plan.recall)
    if test.encoded.kind == "lexicon":
        main = main_setting(test.encoded.kind, plan.recall.top_k, plan.recall.bits)
        for top_k in dict.fromkeys((None, main.top_k)):
            measure_sparsity(test, top_k, plan.recall.examples if top_k == main.top_k else 0)
    return test
