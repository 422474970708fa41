"""`python -m bench.scale`: bad input, kills and Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.scale import run as scale
from bench.scale.plan import check_engines
from bench.store import cli
from bench.store.records import RecordStore

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--corpus", "lots"], "expected a number of images"),
        (["--corpus", "vectors"], "expected both --documents FOLDER and --queries FOLDER"),
        (["--engines", "impct"], "unknown engine 'impct' (nearest: impact"),
        (["--shards", "2"], "--shards 2: expected at least 1, together with --ray"),
        (["rounds=many"], "rounds"),
        (["depth=1"], "depth: expected at least 10"),
        (["bits=[6]"], "bits: expected 4, 8, 16, got 6"),
        (["rouns=1"], "unknown key rouns (nearest: rounds"),
        (["knobs.faiss-hsnw.ef=[1]"], "unknown engine 'faiss-hsnw' (nearest: faiss-hnsw"),
        (["knobs.faiss-hnsw.efs=[1]"], "knobs.faiss-hnsw.efs: no such knob; expected m, ef_construction, ef"),
        (["knobs.impact.ef=[1]"], "expected none, it has no knobs"),
        (["knobs.faiss-hnsw.ef=[]"], "knobs.faiss-hnsw.ef: expected at least one value"),
        (["knobs.faiss-hnsw.ef=64"], "knobs.faiss-hnsw.ef"),
        (["--corpus", "1k", "--lexicon", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(flags, message, tmp_path, capsys):
    assert cli.run(scale.main, scale.parser(), ["--home", str(tmp_path), *flags]) == cli.BAD_INPUT
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("flag", ["--memory-limit", "--time-limit"])
@pytest.mark.parametrize("value", ["inf", "nan", "0", "-1", "much"])
def test_limits_are_positive_and_finite(flag, value, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run(scale.main, scale.parser(), ["--home", str(tmp_path), f"{flag}={value}"])
    assert ended.value.code == cli.BAD_INPUT
    assert f"argument {flag}: '{value}': expected a number above 0" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--engines", "faiss-flat", "--kinds", "lexicon"], "no engine for lexicon vectors: got faiss-flat (dense); "),
        (
            ["--engines", "impact,pisa", "--kinds", "dense"],
            "no engine for dense vectors: got impact (lexicon), pisa (le",
        ),
        (["--engines", "impact"], "or leave the dense vectors out with --kinds lexicon"),
    ],
)
def test_engines_of_the_other_kind_are_refused_before_anything_is_trained(flags, message, tmp_path, capsys):
    flags = ["--home", str(tmp_path / "home"), "--corpus", "1k", *flags]
    assert cli.run(scale.main, scale.parser(), flags) == cli.BAD_INPUT
    error = capsys.readouterr().err
    assert message in error and "expected at least one of" in error and error.count("\n") == 1
    assert not (tmp_path / "home").exists()


def test_own_vectors_need_an_engine_of_their_kind(folders, tmp_path, capsys):
    vectors = ["--documents", folders["dense", "documents"], "--queries", folders["dense", "queries"]]
    flags = ["--home", tmp_path, "--corpus", "vectors", *vectors, "--engines", "impact"]
    assert cli.run(scale.main, scale.parser(), list(map(str, flags))) == cli.BAD_INPUT
    assert "no engine for dense vectors: got impact (lexicon); expected at least one of" in capsys.readouterr().err


def test_an_engine_of_the_other_kind_beside_one_that_fits_is_said(caplog):
    check_engines(["faiss-flat", "impact", "dummy"], ["dense"])
    assert caplog.messages == ["impact searches lexicon vectors, and these are dense: left out"]
    check_engines(["faiss-flat", "impact"], ["lexicon", "dense"])
    check_engines(["dummy"], ["lexicon", "dense"])
    assert len(caplog.messages) == 1


def start(command) -> subprocess.Popen:
    """The command in a process group of its own, at the moment when a first job has ended and the next one runs."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    home = Path(command[command.index("--home") + 1])
    answers = len(list(home.glob("sweeps/*/*/outcome.json")))
    while process.poll() is None and len(list(home.glob("sweeps/*/*/outcome.json"))) < answers + 1:
        time.sleep(0.02)
    while process.poll() is None and not psutil.Process(process.pid).children():
        time.sleep(0.005)
    assert process.poll() is None, f"it ended before it could be stopped: {process.communicate()[1]}"
    return process


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def interrupt(process: subprocess.Popen, send) -> None:
    """Sends Ctrl-C; the command must end with one line, and no process may remain."""
    children = psutil.Process(process.pid).children(recursive=True)
    send(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == cli.INTERRUPTED
    assert errors == "python -m bench.scale: interrupted; run the same command again to resume\n"
    assert all(map(has_ended, children))


def test_ctrl_c_to_the_process_alone_leaves_one_line_and_no_process(command, tmp_path):
    interrupt(start(command(tmp_path / "home")), os.kill)
    assert set(RecordStore(tmp_path / "home").read().status) <= {"ok"}, "an interrupted job is no result of its engine"


def test_an_interrupted_sweep_resumes_and_a_finished_one_measures_nothing(command, tmp_path):
    """Ctrl-C to the process group, as a terminal sends it; then twice without torch, which takes seconds to import."""
    home = tmp_path / "home"
    interrupt(start(command(home)), os.killpg)
    answers = {path: path.stat().st_mtime_ns for path in home.glob("sweeps/*/*/outcome.json")}
    flags = command(home)[3:]
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from bench.scale import run; from bench.store import cli\n"
        "run.build_report = lambda *_: None\n"
        f"sys.exit(cli.run(run.main, run.parser(), {flags}))"
    )
    for finished in (False, True):
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert answers and {path: path.stat().st_mtime_ns for path in answers} == answers
        rows = RecordStore(home).read()
        assert set(rows.status) == {"ok"} and {"qps", "engine_recall@10"} < set(rows.metric)
        assert ("0 s (build 0 s, accuracy 0 s, rounds 0 s)" in done.stdout) is finished, done.stdout
        answers = {path: path.stat().st_mtime_ns for path in home.glob("sweeps/*/*/outcome.json")}


@pytest.mark.fault("kill -9 of all processes of a sweep, three times")
def test_killed_three_times_it_ends_with_the_same_records(command, tmp_path):
    done = subprocess.run(
        command(tmp_path / "whole", "lexicon", "impact"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    home = tmp_path / "killed"
    for _ in range(3):
        process = start(command(home, "lexicon", "impact"))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert (
        subprocess.run(command(home, "lexicon", "impact"), cwd=ROOT, capture_output=True, check=False).returncode == 0
    )
    whole, killed = (RecordStore(tmp_path / name).read() for name in ("whole", "killed"))
    assert len(whole) and set(whole.status) == {"ok"}
    assert killed[["point_id", "metric"]].equals(whole[["point_id", "metric"]])
    assert "impact" in (home / "site" / "scale.html").read_text(encoding="utf-8")  # the command ends with the report
