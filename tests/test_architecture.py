"""Imports run one way, and the report reads records alone."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ["torch", "transformers", "open_clip", "faiss", "numba", "models.checkpoint", "bench.tasks.recall"]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_import_contracts_hold():
    out = python("from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))")
    assert "2 kept, 0 broken" in out


def test_building_a_report_imports_no_model_and_no_engine():
    code = f"import json, sys, reports.build; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    assert json.loads(python(code)) == []


def test_an_error_class_costs_no_torch():
    """Every floor imports `models.errors`; that must not load what only models need."""
    code = f"import json, sys, models.errors, bench.store.config, bench.store.cli; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    assert json.loads(python(code)) == []
