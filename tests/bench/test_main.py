"""The entry point of all commands: usage, unknown names, command lines, Ctrl-C during imports."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import bench.__main__ as entry
from bench.store import cli
from models.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
INTERRUPT_DURING_IMPORT = """
import importlib.abc, os, signal, sys

class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
"""


def python(*arguments, **environment) -> subprocess.CompletedProcess:
    path = os.pathsep.join(filter(None, [environment.pop("path", ""), str(ROOT)]))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_command_is_a_module_that_exists():
    for module, summary in entry.COMMANDS.values():
        assert importlib.util.find_spec(module) is not None, module
        assert summary


def test_usage_and_unknown_commands(capsys):
    assert entry.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in entry.COMMANDS)
    assert entry.main([]) == 2
    capsys.readouterr()
    assert entry.main(["recal"]) == 2
    err = capsys.readouterr().err
    assert "unknown command 'recal' (nearest: recall;" in err and err.count("\n") == 1


def test_an_error_while_a_command_is_imported_is_one_line(monkeypatch, capsys):
    def fail(name):
        raise InputError("the package is\nnot installed")

    monkeypatch.setattr(entry.importlib, "import_module", fail)
    assert entry.main(["recall"]) == 2
    assert capsys.readouterr().err == "lexlip-bench recall: the package is not installed\n"


@pytest.mark.parametrize(
    ("arguments", "prog"),
    [
        (("-m", "bench", "records", "list"), "lexlip-bench records"),
        (("-m", "ablations.train"), "python -m ablations.train"),
        (("-m", "ablations.run"), "python -m ablations.run"),
    ],
)
@pytest.mark.parametrize("module", ["bench.store.cli", "bench.store.records"])
def test_ctrl_c_during_imports_is_one_line(arguments, prog, module, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT_DURING_IMPORT)
    done = python(*arguments, "--home", str(tmp_path / "home"), path=str(tmp_path), INTERRUPT_AT=module)
    assert done.returncode == 130, done.stderr
    assert done.stderr == f"{prog}: interrupted; run the same command again to resume\n"
    assert not (tmp_path / "home").exists()


@pytest.fixture
def keep_sigint():
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("writes", "remedy"), [(True, "; run the same command again to resume"), (False, "")])
def test_ctrl_c_ends_children_and_is_one_line(writes, remedy, tmp_path, capsys, keep_sigint):
    children = []

    def main(_):
        children.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        raise KeyboardInterrupt

    assert cli.run(main, cli.parser("", writes=writes), ["--home", str(tmp_path)], prog="command") == 130
    assert capsys.readouterr().err == f"command: interrupted{remedy}\n"
    assert not psutil.pid_exists(children[0].pid)


@pytest.mark.parametrize(
    ("spec", "argv", "expected"),
    [
        ("ablations.run", ["/x/ablations/run.py", "--seeds", "0"], "python -m ablations.run --seeds 0"),
        ("bench.scale.__main__", ["/x/__main__.py", "--corpus", "1M"], "python -m bench.scale --corpus 1M"),
        ("bench.__main__", ["/x/bench/__main__.py", "recall", "a b"], "lexlip-bench recall 'a b'"),
        (None, ["/usr/bin/lexlip-bench", "recall"], "lexlip-bench recall"),
        (None, ["own.py", "x"], "python own.py x"),
    ],
)
def test_the_command_line_is_what_a_user_types(spec, argv, expected, monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec and SimpleNamespace(name=spec)))
    monkeypatch.setattr(sys, "argv", argv)
    assert cli.command_line() == expected
