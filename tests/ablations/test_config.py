"""Profiles and variants: how they resolve, what each changes, what is refused."""

import functools

import pytest
import yaml

from ablations import config as configs
from ablations.config import PhaseConfig, RunConfig, TrainConfig
from ablations.step import learning_rate
from bench.store.config import as_tree
from models.errors import InputError

resolved = functools.cache(configs.resolve)


def flat(tree: dict, prefix: str = "") -> dict:
    leaves = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


BOTTLENECK, MOMENTUM, HEAD, FLOPS = (
    f"model.lexlip.{section}." for section in ("bottleneck", "momentum", "head", "flops")
)
ANY = object()  # a value that depends on the profile
INTENDED = {
    "lexlip": {},
    "clip": {"model.kind": ("lexlip", "clip"), "train.phase2.objective": ("momentum", "contrastive")},
    "clip_mrl": {
        "model.kind": ("lexlip", "clip"),
        "model.clip.prefixes": ([], [0.125, 0.25, 0.5]),
        "train.phase2.objective": ("momentum", "contrastive"),
    },
    "no_bottleneck": {BOTTLENECK + "source": ("lexicon", "cls")},
    "bottleneck_log1p": {BOTTLENECK + "source": ("lexicon", "log1p")},
    "strong_decoder": {BOTTLENECK + "decoder_layers": (2, 6), BOTTLENECK + "decoder_mask": (0.5, 0.15)},
    "no_self_mlm": {BOTTLENECK + "self_mlm": (1.0, 0.0)},
    "no_text_bottleneck": {BOTTLENECK + "text_mlm": (1.0, 0.0)},
    "no_image_bottleneck": {BOTTLENECK + "image_mlm": (1.0, 0.0)},
    "no_phase1_contrastive": {BOTTLENECK + "contrastive": (ANY, 0.0)},
    "no_momentum": {"train.phase2.objective": ("momentum", "contrastive")},
    "no_queue": {MOMENTUM + "queue": (ANY, 0)},
    "no_phase1": {"train.phase1_share": (ANY, 0.0)},
    "no_phase2": {"train.phase1_share": (ANY, 1.0)},
    "no_flops": {FLOPS + "weight": (0.002, 0.0)},
    "flops_x10": {FLOPS + "weight": (0.002, 0.02)},
    "flops_raw": {FLOPS + "acts_on": ("normalised", "raw")},
    "shared_head": {HEAD + "shared": (False, True)},
    "lexlip_words": {"model.lexlip.words.weight": (0.0, ANY)},
    "content_tokens_only": {HEAD + "tokens": ("all", "content")},
    "sum_pooling": {HEAD + "pooling": ("max", "sum")},
    "official_ema": {MOMENTUM + "updates": (1, 4)},
    "official_momentum_start": {MOMENTUM + "start": ("trained", "untrained")},
    "official_queue": {MOMENTUM + "queue_start": ("empty", "noise")},
}
SPARSE = {"weak": (0.2, 1.0, 0.0012, 64, 40), "medium": (2.0, 10.0, 0.012, 32, 20), "strong": (8.0, 40.0, 0.05, 16, 10)}
for strength, (flops, df_flops, l1, images, texts) in SPARSE.items():
    grown = {FLOPS + "ramp": (0.0, 0.5)}  # over the half of the run in which top_k shrinks
    INTENDED[f"flops_{strength}"] = {FLOPS + "weight": (ANY, flops)} | grown
    for form, weight in (("df_flops", df_flops), ("l1", l1)):
        INTENDED[f"{form}_{strength}"] = {FLOPS + "weight": (ANY, weight), FLOPS + "form": ("flops", form)} | grown
    top_k = {"image_top_k": images, "text_top_k": texts, "top_k_anneal": 0.5}
    INTENDED[f"top_k_{strength}"] = {HEAD + key: (ANY, value) for key, value in top_k.items()}
    INTENDED[f"top_k_{strength}"] |= {FLOPS + "weight": (ANY, 0.0)}


def test_every_variant_has_its_intended_difference():
    assert set(INTENDED) == set(configs.names("variants"))
    assert set(configs.CORE) <= set(INTENDED)


RESOLVING = [
    (profile, variant)
    for profile in configs.names("profiles")
    for variant in configs.names("variants")
    if (profile, variant) != ("finetune", "official_momentum_start")  # it has no phase 1: refused, see below
]


@pytest.mark.parametrize(("profile", "variant"), RESOLVING)
def test_a_variant_differs_from_lexlip_in_the_intended_keys_only(profile, variant):
    lexlip, other = (flat(as_tree(resolved(profile, name))) for name in ("lexlip", variant))
    changed = {key: (lexlip[key], other[key]) for key in lexlip if lexlip[key] != other[key]}
    learning_rates = {key for key in changed if key.startswith("train.phase") and key.endswith(".lr")}
    if variant in ("clip", "clip_mrl"):  # all steps are contrastive; each kind of model has a tuned learning rate
        assert other["train.phase1_share"] == 0.0
        changed.pop("train.phase1_share", None)
        changed = {key: value for key, value in changed.items() if key not in learning_rates}
    intended = INTENDED[variant]
    if variant == "lexlip_words":  # a profile may tune how its vectors become sparse, and keep a text's own words
        tuned = {f"{HEAD}{key}" for key in ("image_top_k", "text_top_k", "top_k_anneal", "own_words")}
        changed = {key: value for key, value in changed.items() if not key.startswith(FLOPS) and key not in tuned}
    if variant == "no_phase1" and not lexlip["train.phase1_share"]:  # fine-tuning has no phase 1
        intended = {}
    if variant == "shared_head":  # images start with the bias of texts, whatever theirs is
        assert other[f"{HEAD}image_bias"] == other[f"{HEAD}text_bias"] == lexlip[f"{HEAD}text_bias"]
        changed.pop(f"{HEAD}image_bias", None)
    assert changed.keys() == intended.keys()
    for key, (before, after) in intended.items():
        if key == "model.lexlip.flops.weight" and before is not ANY:  # a profile may have a weight of its own
            before, after = changed[key][0], changed[key][0] * after / before
        if after is not ANY:
            assert changed[key][1] == pytest.approx(after) if isinstance(after, float) else changed[key][1] == after
        assert before in (changed[key][0], ANY)


@pytest.mark.parametrize(("profile", "variant"), RESOLVING)
def test_every_variant_resolves_and_sees_the_same_pairs(profile, variant):
    """Also if the phases have batch sizes of their own, however the variant divides its steps between them."""
    lexlip, run = resolved(profile, "lexlip"), resolved(profile, variant)
    assert run.data == lexlip.data and run.measure == lexlip.measure
    for name in ("steps", "batch", "augment", "start"):
        assert getattr(run.train, name) == getattr(lexlip.train, name)
    assert (run.model.image, run.model.text) == (lexlip.model.image, lexlip.model.text)
    assert run.train.pairs_before(run.train.schedule()[-1][2]) == run.train.steps * run.train.batch


@pytest.mark.parametrize(
    ("profile", "overrides"),
    [("finetune", []), ("quick", ["train.phase1_share=0"]), ("quick", ["train.start=FOLDER"])],
)
def test_untrained_momentum_copies_need_a_phase_before_them(profile, overrides):
    with pytest.raises(InputError, match=r"momentum.start: untrained: expected phase 1 .* and train.start: null"):
        configs.resolve(profile, "official_momentum_start", overrides)


def test_every_variant_says_why():
    for name in configs.names("variants"):
        assert configs.named_file("variants", name).read_text().startswith("# ")


@pytest.mark.parametrize(
    ("folder", "asked", "message"),
    [
        ("variants", "lexlipp", "unknown variant 'lexlipp' .nearest: lexlip;"),
        ("profiles", "quik", "unknown profile 'quik' .nearest: quick;"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(folder, asked, message):
    with pytest.raises(InputError, match=message):
        configs.named_file(folder, asked)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.step=3", r"unknown key train.step \(nearest: steps;"),
        ("model.lexlip.momentum.decai=0.5", r"unknown key model.lexlip.momentum.decai \(nearest: decay;"),
        ("modell.kind=clip", r"unknown key modell \(nearest: model;"),
        ("train.steps=many", r"train.steps: .*got 'many'"),
        ("train.steps=0", r"train.steps: .*greater than 0"),
        ("train.phase1_share=1.5", r"train.phase1_share: .*less than or equal to 1"),
        ("train.phase2.objective=bottelneck", r"train.phase2.objective: .*'bottleneck'"),
        ("train=3", r"train: .*got 3"),
        ("measure.bits=12", r"measure.bits: .*8 or 16"),
        ("train.steps", "expected key=value"),
        ("train.steps=[", "not readable as YAML"),
        ("model.text.heads=3", r"model.text: heads \(3\) must divide width"),
        ("data.corpus.pixels=128", r"data.corpus.pixels \(128\) and model.image.pixels"),
        ("train.betas=[1.0,0.999]", r"train.betas.0: .*less than 1"),
        ("model.lexlip.head={shared: true, image_bias: 1}", r"model.lexlip.head.shared: .*image_bias \(1\)"),
        ("model.kind=clip", "train.phase..objective: clip has no phase 'bottleneck'; expected contrastive"),
        ("model={kind: clip, lexlip: {head: {shared: true, image_bias: 1}}}", "clip has no phase"),
        (
            "model.lexlip={bottleneck: {self_mlm: 0, text_mlm: 0, image_mlm: 0, contrastive: 0}, flops: {weight: 0}}",
            "model.lexlip: every loss of the bottleneck phase has weight 0; expected",
        ),
    ],
)
def test_bad_overrides_are_refused_by_name(resolve, override, message):
    with pytest.raises(InputError, match=message) as refused:
        resolve("lexlip", override)
    assert "\n" not in str(refused.value)


def test_defaults_profile_variant_overrides_in_this_order(resolve):
    assert RunConfig().train.phase2.objective == "momentum"
    assert resolve("lexlip").train.steps == 100, "the profile over the default"
    assert resolve("no_momentum").train.phase2 == PhaseConfig("contrastive", 1e-3), (
        "the variant over the profile, key by key"
    )
    run = resolve("no_momentum", "train.steps=5", "train.phase2.lr=0.5", "data.corpus.seed=3")
    assert run.train.phase2 == PhaseConfig("contrastive", 0.5)
    assert run.data.corpus == {"name": "scenes", "pixels": 64, "concepts": 12, "seed": 3}
    assert (run.train.steps, run.train.batch) == (5, 8)


def test_a_profile_given_by_its_path(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("train: {steps: 7}\n")
    assert configs.resolve(str(file), "lexlip").train.steps == 7
    file.write_text("train: {steps: many}\n")
    with pytest.raises(InputError, match="own.yaml.*train.steps.*'many'"):
        configs.resolve(str(file), "lexlip")
    for broken in ("train: [", "- 1\n", "train: {stepz: 7}\n"):
        file.write_text(broken)
        with pytest.raises(InputError, match="own.yaml"):
            configs.resolve(str(file), "lexlip")
    with pytest.raises(InputError, match="nowhere.yaml: no such file"):
        configs.resolve("nowhere.yaml", "lexlip")


def test_a_resolved_configuration_reads_back_as_itself(resolve):
    """The run folder's configuration is enough to train again."""
    from bench.store import config

    run = resolve("strong_decoder")
    assert config.build(RunConfig, yaml.safe_load(yaml.safe_dump(as_tree(run))), where="test") == run


def test_the_schedule_splits_the_steps():
    one, two = PhaseConfig("bottleneck", 1.0), PhaseConfig("momentum", 2.0)

    def schedule(steps, share):
        return [
            (phase.objective, start, end)
            for phase, start, end in TrainConfig(steps=steps, phase1_share=share, phase1=one, phase2=two).schedule()
        ]

    assert schedule(10, 0.3) == [("bottleneck", 0, 3), ("momentum", 3, 10)]
    assert schedule(10, 0.0) == [("momentum", 0, 10)]
    assert schedule(10, 1.0) == [("bottleneck", 0, 10)]
    assert schedule(1, 0.4) == [("momentum", 0, 1)]


def test_the_learning_rate_by_hand():
    """20 steps in two halves, 20% warm-up: two steps up, eight down to (almost) 0, in each phase again."""
    train = TrainConfig(
        steps=20,
        phase1_share=0.5,
        warmup=0.2,
        phase1=PhaseConfig("bottleneck", 1.0),
        phase2=PhaseConfig("momentum", 4.0),
    )
    half = [1 / 2, 1, 8 / 8, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    assert [learning_rate(step, train) for step in range(20)] == pytest.approx(half + [4 * rate for rate in half])


def test_the_learning_rate_of_the_shortest_phases():
    train = TrainConfig(
        steps=2, phase1_share=0.5, phase1=PhaseConfig("bottleneck", 1.0), phase2=PhaseConfig("momentum", 3.0)
    )
    assert [learning_rate(step, train) for step in range(2)] == [1.0, 3.0]
    none = TrainConfig(steps=4, phase1_share=0.0, warmup=0.0, phase2=PhaseConfig("momentum", 3.0))
    assert [learning_rate(step, none) for step in range(4)] == [3.0, 3.0, 2.0, 1.0]


def test_another_corpus_drops_the_parameters_of_the_first():
    """`concepts` and `seed` of scenes do not apply to a folder; its images have the model's size."""
    run = configs.resolve("quick", "lexlip", ["data.corpus.name=folder", "data.corpus.annotations=mine.csv"])
    assert run.data.corpus == {"name": "folder", "annotations": "mine.csv", "pixels": 64}
    whole = configs.resolve("quick", "lexlip", ["data.corpus={name: folder, annotations: mine.csv}"])
    assert whole.data.corpus == run.data.corpus
    same = configs.resolve("quick", "lexlip", ["data.corpus.name=scenes", "data.corpus.seed=3"])
    assert same.data.corpus == configs.resolve("quick", "lexlip").data.corpus | {"seed": 3}
