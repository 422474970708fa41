"""`lexlip-bench COMMAND`, or `python -m bench COMMAND`: the entry point of every command, each imported only when
it runs.

Modules with a `python -m` form of their own enter here too: `if __name__ == "__main__":` at the top of the module
calls `command`. Every import happens inside the `try` of `command`, so that Ctrl-C during imports ends in one line
as well.
"""

import importlib
import sys

BAD_INPUT, INTERRUPTED = 2, 130

# A command is a module with `parser()` and `main(arguments)`. Modules of higher floors are named here, never imported.
COMMANDS = {
    "ablations": ("ablations.run", "train every variant and the CLIP baseline, measure them, build the report"),
    "train": ("ablations.train", "train one variant"),
    "scale": ("bench.scale.run", "compare dense and lexicon search over a large gallery, every engine and knob"),
    "report": ("reports.build", "build the site from records"),
    "recall": (
        "bench.tasks.recall",
        "Recall@K of a checkpoint or an open_clip model, by brute force and through an index",
    ),
    "zero-shot": ("bench.tasks.classification.zero_shot", "zero-shot classification"),
    "judgements": ("bench.tasks.judgements.measure", "agreement of scores with the graded judgements of Flickr8k"),
    "bm25": ("bench.tasks.bm25", "the text-only baseline"),
    "sparsity": ("bench.tasks.sparsity", "sparsity of lexicon vectors, and how many active lexicons are caption words"),
    "disagreement": ("bench.tasks.disagreement", "the queries on which two models disagree most"),
    "hybrid": ("bench.tasks.hybrid.measure", "two models searched together: fusion and cascades, beside each alone"),
    "adaptive-pruning": (
        "bench.tasks.pruning.adaptive",
        "as many lexicons per image as it needs, against equally many for all, at equal index size",
    ),
    "block-bounds": (
        "bench.tasks.pruning.bounds",
        "share of the blocks of documents that an exact lexicon search could skip",
    ),
    "query-table": (
        "bench.tasks.query_table.command",
        "queries without a text encoder, by a table of token weights: recall, cost, end-to-end time",
    ),
    "views": ("bench.tasks.views.lexicons", "the lexicons of an image and a text, as a page or JSON"),
    "export": ("bench.tasks.export", "export a checkpoint to ONNX or sentence-transformers"),
    "import": ("bench.vectors.imports.command", "import dense .npy or lexicon .npz and .jsonl vectors of your own"),
    "sparsify": ("bench.sparsify.command", "make dense vectors of any model sparse: train a head, encode, report"),
    "encode": ("bench.vectors.encode", "encode images and captions of a split"),
    "gallery": ("bench.vectors.gallery", "encode test images followed by distractors"),
    "synthetic": ("bench.vectors.synthetic.command", "generate vectors fitted to encoded ones"),
    "soak": ("bench.scale.soak", "search under load for an hour and watch for growth"),
    "collections": ("bench.engines.servers.common", "remove indexes of search servers with their collections"),
    "records": ("bench.store.records_command", "list, export and merge records"),
    "bundle": ("reports.records.bundle", "pack records into three files small enough to commit"),
    "compare": ("reports.compare", "compare two sets of records"),
    "results": ("reports.results", "write docs/results.md and the table of README.md from the reference records"),
    "scaling": ("reports.scaling", "write docs/scaling.md from the reference records"),
    "pack": ("bench.corpora.scenes.make_pack", "make the data pack of the embedded corpus"),
}


def usage() -> str:
    """The list of commands, one line each."""
    lines = [f"  {name:<18}{summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        ["usage: lexlip-bench COMMAND [flags]", "", *lines, "", "lexlip-bench COMMAND --help shows its flags."]
    )


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit code (0, 1 from `compare`, 2 for bad input, 130 after Ctrl-C)."""
    name, *flags = (sys.argv[1:] if argv is None else argv) or [""]
    if name in ("", "-h", "--help"):
        print(usage())
        return 0 if name else BAD_INPUT
    if name not in COMMANDS:
        from models.errors import nearest

        print(f"lexlip-bench: unknown command '{name}'{nearest(name, COMMANDS)}", file=sys.stderr)
        return BAD_INPUT
    return command(name, flags, prog=f"lexlip-bench {name}")


def command(name: str, flags: list[str], prog: str) -> int:
    """Imports and runs the command `name`; `prog` is what its messages start with. Returns the exit code."""
    try:
        from bench.store import cli
        from models.errors import InputError

        try:
            module = importlib.import_module(COMMANDS[name][0])
            return cli.run(module.main, module.parser(), flags, prog=prog)
        except InputError as error:  # while importing, such as a package that is not installed
            print(f"{prog}: {cli.error_line(error)}", file=sys.stderr)
            return BAD_INPUT
    except KeyboardInterrupt:  # while importing; later ones are handled by `cli.run`
        print(f"{prog}: interrupted; run the same command again to resume", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
