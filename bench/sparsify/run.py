"""One run of `lexlip-bench sparsify`: dense vectors, training, vectors, exports, report, each kept when it is whole."""

import contextlib
import logging
import shutil
import time
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from bench.sparsify import data, encode, exports, measure, report, train
from bench.store import config as store_config
from bench.vectors.read import LexiconVectors
from models.errors import InputError
from models.files import atomic_file, atomic_folder, read_json, sha256, write_json
from models.sparsify import checkpoint, heads
from models.sparsify.config import WORDLESS, SparsifyConfig, recipe
from models.sparsify.objective import Objective

log = logging.getLogger(__name__)
SETTINGS, STATE, CHECKPOINT, ABOUT, PAGE = "settings.json", "training.pt", "checkpoint", "report.json", "report.md"
MADE = (SETTINGS, STATE, CHECKPOINT, ABOUT, PAGE, "images", "images.parts", "texts", "texts.parts", "exports", "dense")
WORK = (STATE, CHECKPOINT, "images", "texts")
ONNX, LOCK, FLAG = "onnx", ".lock", "--tokenizer"
SPLICE_SAMPLE = 256  # images to which the penalty of the lasso is fitted
CODE = (*checkpoint.CODE, "models.losses", "models.sparsify.losses", "models.sparsify.objective")
CODE = (*CODE, "bench.sparsify.data", "bench.sparsify.train")


def run(arguments) -> None:
    """Does what is missing in the folder `arguments.out` and prints its files."""
    config = configuration(arguments)
    wanted = formats(arguments.export)
    torch.set_num_threads(arguments.threads)
    out = arguments.out
    with _locked(out):
        others = [path.name for path in out.iterdir() if path.name not in (*MADE, LOCK)]
        if others:
            raise InputError(f"--out {out}: holds other files ({others[0]}); expected an empty or new folder")
        files = _dense_files(arguments, out)
        made_from = {
            "config": store_config.as_tree(config),
            "captions": sha256(arguments.captions),
            "dense": [sha256(file) for file in files],
            "tokenizer": arguments.tokenizer,
            "min_count": arguments.min_count,
            "code": store_config.code_fingerprint(*CODE),
        }
        names = tuple(map(str, files))
        pairs = data.read_pairs(*map(data.open_dense, files), arguments.captions, names)
        data.check_finite(pairs, names)
        _settle(out, made_from, arguments.force)
        encoder, words, about = _encoder(out, arguments, config, pairs, made_from)
        origin = {"checkpoint": checkpoint.fingerprint(out / CHECKPOINT)}
        sides = {"image": (pairs.images_ND, pairs.image_ids, None), "text": (pairs.texts_MD, *_of_texts(pairs))}
        vectors = {
            side: encode.write(
                encoder,
                side,
                dense,
                out / f"{side}s",
                origin | {"side": side, "dense": sha256(file)},
                ids,
                groups,
                str(file),
            )
            for (side, (dense, ids, groups)), file in zip(sides.items(), files, strict=True)
        }
        made = write_exports(wanted, encoder, vectors, out, arguments.export_top_k)
        if not (out / PAGE).exists():
            about |= {"objective": config.objective, "seed": config.seed, "threads": arguments.threads}
            about["measured"] = measure.measure(pairs, words, vectors["image"], vectors["text"], arguments.threads)
            write_json(out / ABOUT, about, seal=True)
            with atomic_file(out / PAGE) as partial:
                partial.write_text(report.page(about), encoding="utf-8")
    print(report.verdict(read_json(out / ABOUT)["measured"]))
    for path in (out / CHECKPOINT, *(out / f"{side}s" for side in heads.SIDES), *made, out / PAGE):
        print(path)


def configuration(arguments) -> SparsifyConfig:
    """The recipe of the objective with the overrides of the command. Raises InputError."""
    tree = recipe(arguments.objective)
    for override in arguments.overrides:
        tree = store_config.merge(tree, store_config.parse_override(override))
    tree |= {"objective": arguments.objective, "seed": arguments.seed}
    return store_config.build(SparsifyConfig, tree, "configuration")


def formats(text: str) -> list[str]:
    """The formats of `--export`. Raises InputError."""
    wanted = [form for form in text.split(",") if form]
    for form in wanted:
        if form not in (*exports.FORMATS, ONNX):
            raise InputError(f"--export {form}: expected {', '.join((*exports.FORMATS, ONNX))}")
    return wanted


def write_exports(wanted, encoder, vectors: dict[str, LexiconVectors], out: Path, top_k: int) -> list[Path]:
    """Writes the exports to `out`/exports, unless they exist; returns their paths."""
    wanted = formats(wanted) if isinstance(wanted, str) else wanted
    made = []
    for form in wanted:
        if form == ONNX:
            from models.export import sparse_head

            folder = out / "exports" / ONNX
            if not folder.is_dir():
                with atomic_folder(folder) as partial:
                    sparse_head.write(encoder, partial)
            made.append(folder)
            continue
        for side, of_side in vectors.items():
            file = out / "exports" / f"{side}s.{form}"
            exports.export(of_side, form, file, top_k)  # even if there is one: it may be of another top_k
            made.append(file)
    return made


@contextlib.contextmanager
def _locked(out: Path):
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"{out}: another run writes here; wait until it ends") from None
    try:
        yield
    finally:
        lock.release()


def _settle(out: Path, made_from: dict, force: bool) -> None:
    """Records what the folder is made from. Raises InputError for work in it that is made from something else."""
    if (out / SETTINGS).exists() and not force:
        before = read_json(out / SETTINGS, "another --out, or --force")
        if before != made_from and any((out / name).exists() for name in WORK):
            changed = ", ".join(key for key in made_from if before.get(key) != made_from[key])
            raise InputError(f"{out}: made with other inputs ({changed}); expected another --out, or --force")
        if before == made_from:
            return
    for name in MADE:
        if name != "dense":
            shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink(missing_ok=True)
    write_json(out / SETTINGS, made_from, seal=True)


def _dense_files(arguments, out: Path) -> tuple[Path, Path]:
    if not arguments.model:
        for file in (arguments.dense_images, arguments.dense_texts):
            data.open_dense(file)
        return arguments.dense_images, arguments.dense_texts
    from bench.sparsify.open_clip import dense_vectors

    return dense_vectors(arguments.model, arguments.captions, out / "dense", arguments.force)


def _of_texts(pairs: data.Pairs) -> tuple[list[str], list[str]]:
    """Ids and groups of the texts; the group of a text without an image is its own id."""
    owners = zip(pairs.text_ids, pairs.image_of_M.tolist(), strict=True)
    return pairs.text_ids, [name if row == data.NONE else pairs.image_ids[row] for name, row in owners]


def _encoder(out: Path, arguments, config: SparsifyConfig, pairs: data.Pairs, made_from: dict):
    """The trained encoder, the words of the captions (None for units) and what the training cost."""
    has_words = config.objective not in WORDLESS
    if (out / CHECKPOINT).is_dir():
        encoder = checkpoint.load(out / CHECKPOINT)
        about = checkpoint.read_about(out / CHECKPOINT)["made_from"]
        tokenizer = checkpoint.tokenizer(out / CHECKPOINT, data.LONGEST) if has_words else None
        return encoder, tokenizer and data.read_words(pairs, tokenizer), about["training"]
    began = time.process_time()
    words, lexicons = None, [f"unit{unit}" for unit in range(config.csr.units or 4 * pairs.dimension)]
    if has_words:
        words = data.read_words(pairs, data.lexicon_tokenizer(pairs, _tokenizer(arguments), arguments.min_count))
        lexicons = words.tokenizer.vocabulary
    means = data.means(pairs)
    encoder = heads.create(config, pairs.dimension, lexicons)
    for side, mean_D in means.items():
        getattr(encoder, f"{side}_mean_D").copy_(torch.from_numpy(mean_D))
    if words is not None:
        encoder.idf_V.copy_(torch.from_numpy(words.idf_V))
        encoder.start(torch.from_numpy(data.word_vectors(pairs, words, means["text"])))
    if (found := train.aligned(pairs, config.seed)) is not None:
        log.warning("%s: %s", arguments.captions, found)
    training = {"temperature": config.temperature or train.fitted_temperature(pairs, config.seed)}
    prepared = time.process_time() - began
    if config.trained:
        batches = train.Batches(pairs, words, config)
        objective = Objective(encoder, training["temperature"])
        training |= train.train(encoder, objective, batches, out / STATE)
    elif config.splice_penalty is None:
        rows = pairs.image_of_M[pairs.pairs][:: max(1, len(pairs.pairs) // SPLICE_SAMPLE)][:SPLICE_SAMPLE]
        encoder.fit(torch.from_numpy(data.rows_of(pairs.images_ND, rows)))
        prepared = time.process_time() - began
    encoder.eval()
    training["train_seconds"] = prepared + training.get("train_cpu_seconds", 0.0)
    origin = {"inputs": {key: made_from[key] for key in ("captions", "dense")}, "training": training}
    checkpoint.save(encoder, out / CHECKPOINT, origin, words and words.tokenizer)
    (out / STATE).unlink(missing_ok=True)
    return encoder, words, training


def _tokenizer(arguments):
    if not arguments.tokenizer:
        return None
    from models.pretrained import sources
    from models.tokenizer import LexiconTokenizer

    try:
        folder = sources.folder(arguments.tokenizer, FLAG)
    except InputError as error:
        raise InputError(str(error).replace(f"{FLAG}.pretrained", FLAG, 1)) from None  # there, a key of a configuration
    return LexiconTokenizer.pretrained(folder, data.LONGEST)
