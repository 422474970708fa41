"""What the code never does, checked on its syntax trees: execute content of files, use a shell, unpack to any path."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("models", "bench", "ablations", "reports")
UNPICKLE = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
RUN = {"eval", "exec", "compile", "__import__"}
SHELL = {"system", "popen", "getoutput", "getstatusoutput"}
UNPACK = {"extract", "extractall", "unpack_archive"}
YAML = {
    "safe_load",
    "safe_load_all",
    "safe_dump",
    "safe_dump_all",
    "YAMLError",
    "SafeLoader",
    "AliasEvent",
    "constructor",
}
SAFE = {("pickle", "UnpicklingError")}
"""Allowed: an error class to catch, which unpickles nothing."""

ALLOWED = {
    "bench/vectors/nodes.py": {"pickle"},  # objects that the processes of one command exchange in memory
    "bench/store/metrics.py": {"yaml.load"},  # the safe loader in C, for a table of this package
}


def offences(source: str) -> list[tuple[int, str]]:
    """(line, use) of each use that is not allowed."""
    return [(node.lineno, what) for node in ast.walk(ast.parse(source)) for what in _of(node)]


def _of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names if name.name.partition(".")[0] in UNPICKLE)
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in UNPICKLE:
        yield from (f"{node.module}.{name.name}" for name in node.names if (node.module, name.name) not in SAFE)
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("yaml", "os"):
        yield from (f"from {node.module}" for name in node.names if name.name not in YAML | {"PathLike"})
    if (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "yaml"
        and node.attr not in YAML
    ):
        yield f"yaml.{node.attr}"
    if not isinstance(node, ast.Call):
        return
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    owner, name = _name(node.func)
    if (
        not owner
        and name in RUN
        or name in SHELL
        and owner in ("os", "subprocess")
        or name in UNPACK
        or name == "read_pickle"
    ):
        yield f"{owner}.{name}"
    for key in ("shell", "allow_pickle", "trust_remote_code"):
        if key in given and not _is(given[key], False):
            yield f"{name}({key}=...)"
    if (owner, name) == ("torch", "load") and not _is(given.get("weights_only"), True):
        yield "torch.load without weights_only=True"


def _name(function: ast.expr) -> tuple[str, str]:
    """("a", "f") of `a.f(...)`, ("", "f") of `f(...)`; the owner is "?" when it is not a name."""
    if isinstance(function, ast.Name):
        return "", function.id
    if isinstance(function, ast.Attribute):
        return function.value.id if isinstance(function.value, ast.Name) else "?", function.attr
    return "?", ""


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_no_package_does_any_of_it():
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    assert len(files) > 100
    found = {
        file.relative_to(ROOT).as_posix(): {what for _, what in offences(file.read_text(encoding="utf-8"))}
        for file in files
    }
    assert {file: more for file, whats in found.items() if (more := whats - ALLOWED.get(file, set()))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "from yaml import unsafe_load",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file, allow_pickle=True)",
        "np.load(file, allow_pickle=trusted)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
        "from os import system",
        "eval(text)",
        "archive.extractall(folder)",
        "tarfile.open(file).extract(member)",
        "shutil.unpack_archive(file)",
        "pd.read_pickle(file)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_each_use_would_be_found(source):
    assert len(offences(source)) >= 1


@pytest.mark.parametrize(
    "source",
    [
        "from pickle import UnpicklingError",
        "yaml.safe_load(text)",
        "torch.load(file, weights_only=True, map_location='cpu')",
        "np.load(file, allow_pickle=False)",
        "subprocess.run([program, flag])",
        "model.eval()",
        "archive.extractfile(member).read()",
        "re.compile(text)",
    ],
)
def test_similar_uses_are_allowed(source):
    assert offences(source) == []
