"""Sessions of this project; each sets itself up. `nox -l` lists them; flags after `--` go to the command of a session.

nox -s ablations                      train every variant and the CLIP baseline, measure, build the report
nox -s ablations -- --profile smoke   the whole pipeline in two minutes
nox -s scale -- --corpus 100k         dense against lexicon search: encode, build every index, sweep every knob, report
nox -s tests                          the gate
"""

import json
import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests"]

ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
TESTED = ("test", "engines", "lucene", "export", "positives", "qdrant", "milvus", "opensearch")
"""Extras that the tests need."""
PARALLEL = (
    *("--numprocesses", "auto", "--maxprocesses", "4", "--max-worker-restart", "0"),
    *("--dist", "loadfile", "--no-loadscope-reorder"),
)
"""Flags of pytest: one test file at a time on each core. A worker that crashes ends the run; it would hang."""


def _install(session: nox.Session, *extras: str, faiss: str = "cpu") -> None:
    """Installs this package with extras, editable, at the versions of constraints.txt.

    LEXLIP_BENCH_LATEST=1 installs the newest versions within the ranges of pyproject.toml; LEXLIP_BENCH_FAISS=gpu
    installs faiss-gpu.
    """
    extras = (os.environ.get("LEXLIP_BENCH_FAISS", faiss), *extras)
    if "engines" in extras and shutil.which("c++"):
        extras += ("hnswlib",)  # pip compiles it
    pinned = [] if os.environ.get("LEXLIP_BENCH_LATEST") else ["--constraint", "constraints.txt"]
    session.install("--editable", f".[{','.join(extras)}]", *pinned)


def _pisa(session: nox.Session) -> dict[str, str]:
    """Installs PISA in an environment of its own; returns the variable that tells its engine where.

    Without a wheel for this platform nothing is installed, and the engine is recorded as absent.
    """
    if sys.platform != "linux" or sys.version_info >= (3, 13):
        return {}
    home = Path(session.virtualenv.location).resolve().parent / "pisa"
    python, installed = home / "bin" / "python", "lib/*/site-packages/pyterrier_pisa"
    if not any(home.glob(installed)):
        session.run_install("python", "-m", "venv", str(home))
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        pinned = ["--constraint", "constraints-pisa.txt", "pyterrier-pisa"]
        session.run_install(*pip, *pinned, external=True, success_codes=[0, 1])
    return {"LEXLIP_BENCH_PISA_PYTHON": str(python)} if any(home.glob(installed)) else {}


def _run(session: nox.Session, *command: str, **environment: str) -> None:
    """Runs `python -m COMMAND` with the flags after `--`."""
    session.run("python", "-m", *command, *session.posargs, env=ENVIRONMENT | environment)


# --- measuring --------------------------------------------------------------------------------------------------------


@nox.session
def ablations(session: nox.Session) -> None:
    """Train every variant and the CLIP baseline, measure, build the report (`python -m ablations.run`)."""
    _install(session)
    _run(session, "ablations.run")


@nox.session
def scale(session: nox.Session) -> None:
    """Dense against lexicon search at scale, with every engine (`python -m bench.scale`)."""
    _install(session, "engines", "lucene")
    _run(session, "bench.scale", **_pisa(session))


@nox.session
def bench(session: nox.Session) -> None:
    """The pytest-benchmark suites; `-- --benchmark-compare` compares with the saved baseline."""
    _install(session, "test")
    suites = [str(path) for path in sorted(Path("tests").rglob("bench_*.py"))]
    storage = ["--benchmark-storage=file://results/benchmarks", "--benchmark-columns=min,median,iqr,rounds"]
    _run(session, "pytest", *suites, *storage)


@nox.session
def gpu(session: nox.Session) -> None:
    """What only a GPU can tell, the short parts first: kernels, FAISS, `small`; `-- --toy` tries it on a CPU."""
    toy = session.posargs == ["--toy"]
    if session.posargs and not toy:
        session.error(f"{' '.join(session.posargs)}: expected --toy or nothing")
    _install(session, "test", faiss="cpu" if toy else "gpu")
    home, suite = "runs/gpu-toy" if toy else "runs", "tests/bench/benchmarks"
    benchmark = ["pytest", "--benchmark-only", "--record-home", home]
    head = ["--shape", "items=4", "--shape", "lexicons=2000", "--shape", "width=64"] if toy else []
    queue = ["--shape", "batch=16", "--shape", "queue=256", "--shape", "lexicons=2000"] if toy else []
    sweep = ["--corpus", f"synthetic:flickr8k:{'10k' if toy else '1M'}", "--sizes", "10k" if toy else "1M"]
    sweep += ["--engines", "impact,faiss-flat,faiss-flat-gpu,faiss-ivf-pq,faiss-ivf-pq-gpu", "vocabularies=[]"]
    quick = ["rounds=1", "seconds=0.1", "batch_seconds=0.1"] if toy else []
    commands = (
        [*benchmark, f"{suite}/bench_lexicon_head.py", *head],
        [*benchmark, f"{suite}/bench_key_queue.py", *queue],
        ["bench.scale", "--home", home, *sweep, *quick],
        ["ablations.run", "--home", home, "--profile", "smoke" if toy else "small", "--variants", "lexlip,clip"],
    )
    failed = []
    for command in commands:  # a part that fails must not cost the others their time; each resumes
        try:
            session.run("python", "-m", *command, env=ENVIRONMENT)
        except nox.command.CommandFailed:
            failed.append(" ".join(command))
    if failed:
        session.error(f"failed: {'; '.join(failed)}")


# --- reports ----------------------------------------------------------------------------------------------------------


@nox.session
def report(session: nox.Session) -> None:
    """Build the site from the records of a home (`python -m reports.build`)."""
    _install(session)
    _run(session, "reports.build")


@nox.session
def reference(session: nox.Session) -> None:
    """Build the site of the reference run from results/reference/, into reference-site/ or `-- --out FOLDER`."""
    _install(session)
    _run(session, "reports.build", "--results", "results/reference", "--profile", "quick", "--out", "reference-site")


@nox.session
def compare(session: nox.Session) -> None:
    """Compare two sets of records: `-- BEFORE AFTER --fail-on quality,size` fails on a regression."""
    _install(session)
    _run(session, "bench", "compare")


# --- tests ------------------------------------------------------------------------------------------------------------


@nox.session
def tests(session: nox.Session) -> None:
    """The gate: all tests but those marked nightly, fault or cluster."""
    _install(session, *TESTED)
    _run(session, "pytest", *PARALLEL, **_pisa(session))


@nox.session
def nightly(session: nox.Session) -> None:
    """Long tests of robustness: kills, disk faults, every engine with every knob, several processes, servers."""
    _install(session, *TESTED)
    _run(session, "pytest", "-m", "nightly and not fault and not cluster", *PARALLEL, **_pisa(session))


@nox.session(python="3.12")
def lucene10(session: nox.Session) -> None:
    """The tests of the engine `lucene` with Lucene 10, which comes from Python 3.12 on."""
    _install(session, "test", "lucene")
    _run(session, "pytest", "tests/bench/engines", "-m", "nightly or not nightly", "-k", "lucene")


@nox.session
def faults(session: nox.Session) -> None:
    """Kills, full disks and broken files during real commands: records must equal those of undisturbed runs."""
    _install(session, "test", "export", "positives")  # the extras that pytest needs to collect the tests
    flags = ["-m", "fault and not cluster", "--numprocesses", "2", "--dist", "loadfile", "--reliability-home", "runs"]
    _run(session, "pytest", "tests", *flags)


@nox.session
def cluster(session: nox.Session) -> None:
    """Encoding and search over Ray clusters of two and four nodes on this machine, with nodes killed meanwhile."""
    _install(session, "test", "cluster")
    _run(session, "pytest", "tests/cluster", "-m", "cluster", "--reliability-home", "runs")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Read broken files by the hundred thousand, guided by coverage where atheris installs (`python -m tests.fuzz`)."""
    _install(session, "test", "fuzz")
    session.run("python", "-m", "pytest", "--quiet", "tests/fuzz", env=ENVIRONMENT)  # the guided worker needs atheris
    _run(session, "tests.fuzz")


@nox.session
def soak(session: nox.Session) -> None:
    """Search under full load for an hour and watch for growth (`lexlip-bench soak`)."""
    _install(session)
    _run(session, "bench", "soak")


@nox.session
def lint(session: nox.Session) -> None:
    """ruff and the import contracts."""
    _install(session, "test")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def audit(session: nox.Session) -> None:
    """Write a bill of materials (CycloneDX) and known vulnerabilities of all dependencies to runs/audit/."""
    _install(session, "engines", "lucene", "export")
    home, out = Path(session.virtualenv.location).resolve(), Path("runs/audit")
    tools = home.parent / "audit-tools"  # not in the audited environment
    if not (tools / "bin" / "pip-audit").exists():
        session.run_install("python", "-m", "venv", str(tools))
        pip = [str(tools / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        session.run_install(*pip, "cyclonedx-bom>=7", "pip-audit>=2.9", external=True)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    bill, found = out / "sbom.json", out / "vulnerabilities.json"
    formats = ["--pyproject", "pyproject.toml", "--output-format", "JSON", "--output-file", str(bill)]
    session.run(str(tools / "bin" / "cyclonedx-py"), "environment", *formats, str(home), external=True)
    (packages,) = home.glob("lib/*/site-packages")
    formats = ["--skip-editable", "--format", "json", "--output", str(found), "--progress-spinner", "off"]
    audit = [str(tools / "bin" / "pip-audit"), "--path", str(packages), *formats]
    session.run(*audit, external=True, success_codes=[0, 1])
    _check_audit(session, found)


def _check_audit(session: nox.Session, found: Path) -> None:
    """Fails when pip-audit knows a vulnerability. Packages that it skipped are unknown to its database, or offline."""
    answers = json.loads(found.read_text())["dependencies"] if found.exists() else []
    audited = [answer for answer in answers if "skip_reason" not in answer]
    session.warn(f"{len(audited)} of {len(answers)} packages audited; the others are unknown to the database")
    if vulnerable := [answer["name"] for answer in audited if answer["vulns"]]:
        session.error(f"known vulnerabilities in {', '.join(vulnerable)}; see {found}")
