"""Identity of runs: which code counts; and that a rerun that finds everything done does not import torch."""

import ast
from pathlib import Path

import pytest
import torch

from ablations import hardware
from ablations import train as trainer
from bench.store import machine

ROOT = Path(__file__).resolve().parents[2]
NOT_WEIGHTS = {
    "ablations.config",  # its values and its schedule are part of the id
    "ablations.hardware",
    "models.config",
    "models.errors",
    "models.files",
    "models.pretrained.sources",  # only for runs with pre-trained parts, as the next one
    "models.pretrained.warm_start",
    "models.towers.torchvision_ops",
}


def module_file(name: str) -> Path | None:
    files = (ROOT / f"{name.replace('.', '/')}.py", ROOT / name.replace(".", "/") / "__init__.py")
    return next((file for file in files if file.exists()), None)


def imported(module: str) -> set[str]:
    """The modules of `ablations` and `models` that a module imports, those inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(module_file(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith(("ablations.", "models.")) and module_file(name)}


def test_the_id_hashes_every_module_that_the_training_loop_imports():
    """A new import of the loop must be added to CODE, or named here as one that decides no weights."""
    seen, todo = set(), {"ablations.loop"}
    while todo:
        seen |= todo
        todo = set().union(*map(imported, todo - NOT_WEIGHTS)) - seen
    modules = {name for name in seen if module_file(name).name != "__init__.py"}
    hashed = {*trainer.CODE, *trainer.CODE_OF_KIND["clip"], *trainer.CODE_OF_KIND["lexlip"]}
    assert modules - NOT_WEIGHTS == hashed


def test_precision_auto_agrees_with_torch():
    on_gpu = torch.cuda.is_available()
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else torch.cpu._is_avx512_bf16_supported()
    assert hardware.choose_precision("auto") == ("bfloat16" if fast else "float32")
    assert hardware.has_gpu() == on_gpu
    assert [hardware.choose_precision(name) for name in ("float32", "bfloat16")] == ["float32", "bfloat16"]


@pytest.mark.parametrize(
    ("flags", "expected"), [("fpu avx512f avx512_bf16", "bfloat16"), ("fpu avx512f avx512_bf16x", "float32")]
)
def test_precision_auto_reads_the_flags_of_the_cpu(flags, expected, monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: avx512_bf16\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(hardware, "has_gpu", lambda: False)
    assert hardware.choose_precision("auto") == expected


MAIN = """
import sys
import ablations.run
from bench.__main__ import main

ablations.run.measure = ablations.run.compare_rankings = lambda *_: None  # have tests of their own
ablations.run.build_report = lambda *_: print("report")
code = main(sys.argv[1:])
heavy = [name for name in ("torch", "transformers", "open_clip", "timm", "faiss", "ray") if name in sys.modules]
sys.exit(code or (f"imported: {heavy}" if heavy else 0))
"""


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--variant", "lexlip"],
        ["ablations", "--variants", "lexlip"],
        ["train", "--help"],
        ["ablations", "--help"],
    ],
)
def test_help_and_a_finished_run_import_no_torch(command, short_run, tiny, start, short):
    flags = [] if "--help" in command else ["--profile", tiny, "--home", short_run.home, *short]
    process = start("-c", MAIN, *command, *flags)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out
