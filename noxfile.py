"""Everything a user types. Each session sets itself up; `nox -l` lists them.

nox -s ablations                      train every variant and the CLIP baseline, measure, build the report page
nox -s ablations -- --profile smoke   the whole road in two minutes
nox -s scale -- --corpus 100k         dense against lexicon search: encode, build every index, sweep every knob, build the page
nox -s tests                          the tests
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


def _install(session: nox.Session, *extras: str) -> None:
    """This package with its extras, editable, at the versions of constraints.txt.

    `LEXLIP_BENCH_LATEST=1` takes the newest versions within the ranges of pyproject.toml; `LEXLIP_BENCH_FAISS=gpu` takes faiss-gpu.
    """
    extras = (os.environ.get("LEXLIP_BENCH_FAISS", "cpu"), *extras)
    if "engines" in extras and shutil.which("c++"):
        extras += ("hnswlib",)  # which pip compiles
    exact = [] if os.environ.get("LEXLIP_BENCH_LATEST") else ["--constraint", "constraints.txt"]
    session.install("--editable", f".[{','.join(extras)}]", *exact)


def _pisa(session: nox.Session) -> dict[str, str]:
    """PISA in an environment of its own, where there is a wheel of it: what tells the engine so. Elsewhere nothing, and it is reported as absent."""
    if sys.platform != "linux" or sys.version_info >= (3, 13):
        return {}
    home = Path(session.virtualenv.location).resolve().parent / "pisa"
    python = home / "bin" / "python"
    if not any(home.glob("lib/*/site-packages/pyterrier_pisa")):
        session.run_install("python", "-m", "venv", str(home))
        pinned = ["--constraint", "constraints-pisa.txt", "pyterrier-pisa"]
        session.run_install(
            str(python), "-m", "pip", "install", "--quiet", *pinned, external=True, success_codes=[0, 1]
        )
    return {"LEXLIP_BENCH_PISA_PYTHON": str(python)} if any(home.glob("lib/*/site-packages/pyterrier_pisa")) else {}


def _run(session: nox.Session, *command: str, **environment: str) -> None:
    session.run("python", "-m", *command, *session.posargs, env=ENVIRONMENT | environment)


@nox.session
def ablations(session: nox.Session) -> None:
    """The main job; flags after `--` go to `python -m ablations.run`."""
    _install(session)
    _run(session, "ablations.run")


@nox.session
def scale(session: nox.Session) -> None:
    """Dense against lexicon search at scale, with every engine; flags after `--` go to `python -m bench.scale`. Then the page."""
    _install(session, "engines", "lucene")
    _run(session, "bench.scale", **_pisa(session))


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, through the real commands, a file at a time on each core; flags after `--` go to pytest."""
    _install(session, "test", "engines", "lucene", "export", "positives", "qdrant", "milvus", "opensearch")
    _run(
        session,
        "pytest",
        "--numprocesses",
        "auto",
        "--maxprocesses",
        "4",
        "--dist",
        "loadfile",
        "--no-loadscope-reorder",
        **_pisa(session),
    )


@nox.session
def faults(session: nox.Session) -> None:
    """Kills, full disks, broken files and the like, put into the real commands: their records must be those of undisturbed runs."""
    _install(session, "test", "export", "positives")  # whose tests pytest collects too
    flags = ["-m", "fault and not cluster", "--numprocesses", "2", "--dist", "loadfile", "--reliability-home", "runs"]
    _run(session, "pytest", "tests", *flags)


@nox.session
def cluster(session: nox.Session) -> None:
    """Encoding and search over real Ray clusters of two and four nodes on this machine, nodes killed in the middle; flags after `--` go to pytest."""
    _install(session, "test", "cluster")
    _run(session, "pytest", "tests/cluster", "-m", "cluster", "--reliability-home", "runs")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Breaks files and reads them, guided by coverage where there is a wheel for it; flags after `--` go to `python -m tests.fuzz`."""
    _install(session, "test", "fuzz")
    _run(session, "tests.fuzz")


@nox.session
def soak(session: nox.Session) -> None:
    """Searches under full load for an hour, and whether anything grows; flags after `--` go to `lexlip-bench soak`."""
    _install(session)
    _run(session, "bench.scale.soak")


@nox.session
def audit(session: nox.Session) -> None:
    """What is installed with every engine, as a bill of materials (CycloneDX), and what is known to be vulnerable of it, in runs/audit/."""
    _install(session, "engines", "lucene", "export")
    home, out = Path(session.virtualenv.location).resolve(), Path("runs/audit")
    tools = home.parent / "audit-tools" / "bin"
    if not (tools / "pip-audit").exists():  # beside it: the tools are not part of the bill
        session.run_install("python", "-m", "venv", str(tools.parent))
        session.run_install(
            str(tools / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "cyclonedx-bom>=7",
            "pip-audit>=2.9",
            external=True,
        )
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    bill, found = out / "sbom.json", out / "vulnerabilities.json"
    asked = [
        "environment",
        "--pyproject",
        "pyproject.toml",
        "--output-format",
        "JSON",
        "--output-file",
        str(bill),
        str(home),
    ]
    session.run(str(tools / "cyclonedx-py"), *asked, external=True)
    (packages,) = home.glob("lib/*/site-packages")
    asked = [
        "--path",
        str(packages),
        "--skip-editable",
        "--format",
        "json",
        "--output",
        str(found),
        "--progress-spinner",
        "off",
    ]
    session.run(str(tools / "pip-audit"), *asked, external=True, success_codes=[0, 1])
    answers = json.loads(found.read_text())["dependencies"] if found.exists() else []
    audited = [
        one for one in answers if "skip_reason" not in one
    ]  # the rest, all where it cannot be reached, are unknown to the database
    session.warn(
        f"{len(audited)} of {len(answers)} packages audited: of the others nothing is known; {bill} says what is installed"
    )
    if vulnerable := [one["name"] for one in audited if one["vulns"]]:
        session.error(f"known to be vulnerable: {', '.join(vulnerable)}; {found} says how")


@nox.session
def bench(session: nox.Session) -> None:
    """The pytest-benchmark suites of the hot paths; `-- --benchmark-compare` beside the saved baseline, `-- --benchmark-save=NAME` to save one."""
    _install(session, "test")
    suites = ["tests/bench/bench_hot_paths.py", "tests/bench/corpora/bench_scenes.py"]
    _run(
        session,
        "pytest",
        *suites,
        "--benchmark-storage=file://results/benchmarks",
        "--benchmark-columns=min,median,iqr,rounds",
    )


@nox.session
def report(session: nox.Session) -> None:
    """Build the page from the records of a home; flags after `--` go to `python -m reports.build`."""
    _install(session)
    _run(session, "reports.build")


@nox.session
def reference(session: nox.Session) -> None:
    """Build the site of the reference run from results/reference/, into reference-site/ or the folder of `-- --out FOLDER`."""
    _install(session)
    session.run(
        "python",
        "-m",
        "reports.build",
        "--results",
        "results/reference",
        "--profile",
        "quick",
        "--out",
        "reference-site",
        *session.posargs,
    )


@nox.session
def compare(session: nox.Session) -> None:
    """What changed between two sets of records: `-- BEFORE AFTER --fail-on quality,size` fails on a regression."""
    _install(session)
    _run(session, "reports.compare")


@nox.session
def lint(session: nox.Session) -> None:
    """ruff and the import contracts."""
    _install(session, "test")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
