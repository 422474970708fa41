"""The structure of the packages: import contracts, no circles, small files and folders, light command modules."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from bench.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("models", "bench", "ablations", "reports")
MOST_LINES = 350
MOST_MODULES = 13  # of a folder, `__init__.py` not counted
HEAVY = (
    *("torch", "torchvision", "transformers", "open_clip", "timm"),
    *("faiss", "numba", "ray", "pyarrow.dataset"),
    *("matplotlib", "scipy.sparse", "scipy.stats", "statsmodels", "sklearn"),
)
"""What no command imports for its `--help`."""


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


# --- imports ----------------------------------------------------------------------------------------------------------


def test_the_import_contracts_hold():
    out = python("from importlinter.cli import lint_imports; lint_imports(no_cache=True)")
    assert " 0 broken" in out, out


def imports_of(path: Path, known: set[str]) -> Iterator[str]:
    """Modules of the project that a file imports when it is imported; imports inside functions do not count."""
    pending = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in known else node.module for name in named if {name, node.module} & known)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _for_types_only(node):
            pending += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def _for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def circle_in(imports: dict[str, set[str]]) -> list[str]:
    """A circle of imports; empty when there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_import_circle():
    paths = {name_of(path): path for path in files(*PACKAGES)}
    imports = {name: set(imports_of(path, set(paths))) - {name} for name, path in paths.items()}
    assert sum(map(len, imports.values())) > 500
    assert circle_in(imports) == []


def test_a_circle_would_be_found(tmp_path):
    file = tmp_path / "a.py"
    file.write_text(
        "from b import c\nimport d\n"
        "try:\n    import e\nexcept ImportError:\n    pass\n"
        "if TYPE_CHECKING:\n    import f\n"
        "def function():\n    import g\n"
        "class Class:\n    import h\n"
    )
    assert set(imports_of(file, {"b", "b.c", "d", "e", "f", "g", "h"})) == {"b.c", "d", "e", "h"}
    assert set(circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
    assert circle_in({"a": {"b", "c"}, "b": {"c"}}) == []


def test_the_help_of_a_command_imports_nothing_heavy():
    """A proxy of the time that `tests/bench_startup.py` measures. In one process: what each command adds is checked."""
    modules = {command: module for command, (module, _) in COMMANDS.items()}
    added = python(
        f"""
import importlib, json, sys
added = {{}}
for command, module in {modules}.items():
    importlib.import_module(module).parser()
    heavy = [name for name in {list(HEAVY)} if name in sys.modules]
    added[command] = [name for name in heavy if name not in sum(added.values(), [])]
print(json.dumps(added))
"""
    )
    assert json.loads(added) == dict.fromkeys(COMMANDS, [])


def test_errors_files_and_store_import_no_model():
    modules = "models.errors, models.files, bench.store.config, bench.store.cli"
    code = f"import json, sys, {modules}; print(json.dumps([name for name in {list(HEAVY)} if name in sys.modules]))"
    assert json.loads(python(code)) == []


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_no_file_is_long():
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in files(*PACKAGES, "tests")}
    long = {name_of(path): count for path, count in lines.items() if count > MOST_LINES}
    assert long == {}


def test_no_folder_is_full():
    modules = [path for path in files(*PACKAGES) if path.name != "__init__.py"]
    counts = {folder: sum(path.parent == folder for path in modules) for folder in {path.parent for path in modules}}
    full = {str(folder.relative_to(ROOT)): count for folder, count in counts.items() if count > MOST_MODULES}
    assert full == {}
