"""Many executions of one target in a process of their own: `python -m tests.fuzz.worker TARGET FOLDER EXECUTIONS SEED
MUTATOR`.

In FOLDER, `progress` holds two numbers (executions, mishandled) that survive the process, `work/` the file that was
read last, and `found.jsonl` the mishandled inputs, one for each place in the code.
"""

import contextlib
import hashlib
import json
import logging
import mmap
import os
import random
import resource
import struct
import sys
import warnings
from pathlib import Path

DAY = 86_400  # wall seconds of one execution: no limit, as the harness limits CPU time; atheris reads 0 as one second
MEMORY = 3 << 30  # bytes that reading may take in addition to what the process has
INSTRUMENTED = (
    *("bench.corpora", "bench.store.config", "bench.store.records", "bench.vectors.read", "bench.vectors.write"),
    *("models.files", "models.checkpoint", "models.query_table.table", "models.tokenizer", "ablations.config"),
    *("yaml", "tarfile", "PIL"),
)
PROGRESS = struct.Struct("<QQ")


def main(name: str, folder: Path, executions: int, seed: int, mutator: str) -> None:
    """Runs a target; counts executions and findings in `folder`."""
    guided = mutator == "guided"
    if guided:
        import atheris
    with atheris.instrument_imports(include=list(INSTRUMENTED)) if guided else contextlib.nullcontext():
        from tests.fuzz import targets
    from tests.fuzz.harness import Harness
    from tests.fuzz.mutate import mutate

    work = folder / "work"
    work.mkdir(exist_ok=True)
    target = targets.TARGETS[name]
    harness = Harness(target, work)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY,) * 2)
    seeds = harness.seeds
    rng, places = random.Random(f"{name} {seed}"), set()
    with open(folder / "progress", "r+b") as file:
        progress = mmap.mmap(file.fileno(), PROGRESS.size)

    def one(data: bytes) -> None:
        done, bad = PROGRESS.unpack_from(progress)
        PROGRESS.pack_into(progress, 0, done + 1, bad)
        found = harness.mishandled(data)
        if found is None:
            return
        PROGRESS.pack_into(progress, 0, done + 1, bad + 1)
        if found[0] not in places:
            places.add(found[0])
            report(folder, data, *found)

    if not guided:
        for _ in range(executions):
            one(mutate(rng, rng.choice(seeds), seeds, target.form, once=target.sealed))
        return
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(data)

    def changed(data: bytes, most: int, number: int) -> bytes:
        own = random.Random(number)
        return (mutate(own, data, seeds, target.form) if own.random() < 0.6 else atheris.Mutate(data, most))[:most]

    longest = 2 * max(map(len, seeds)) + 4096
    limits = [f"-runs={executions}", f"-max_len={longest}", f"-timeout={DAY}", "-rss_limit_mb=0", "-len_control=0"]
    flags = [*limits, f"-seed={seed + 1}", "-verbosity=0", "-print_final_stats=0", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one, custom_mutator=changed)
    atheris.Fuzz()


def report(folder: Path, data: bytes, where: str, what: str) -> None:
    """Saves a mishandled input."""
    name = hashlib.sha256(data).hexdigest()[:16]
    (folder / name).write_bytes(data)
    with open(folder / "found.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"input": name, "where": where, "what": " ".join(what.split())[:300]}) + "\n")


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # warnings about broken files
    warnings.simplefilter("ignore")
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
