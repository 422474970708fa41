"""An installation that cannot be written, with a home that cannot: containers and clusters."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import COMMANDS
from bench.store import cli, numba_cache

ROOT = Path(__file__).resolve().parents[3]
SETPRIV = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]  # root obeys the modes of files then
LOCKING = {
    "recall": ["--checkpoint", "x"],
    "zero-shot": ["--checkpoint", "x"],
    "sparsity": ["--checkpoint", "x"],
    "encode": ["--checkpoint", "x"],
    "bm25": [],
    "train": [],
    "ablations": [],
    "scale": [],
}


def as_user() -> list[str]:
    """What to put before a command so that it cannot write to folders without write permission."""
    if not hasattr(os, "getuid") or os.getuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root may write everywhere, and setpriv is not installed")
    return SETPRIV


@pytest.fixture
def read_only(tmp_path):
    """A copy of the package and an empty home, both read-only; yields a function that runs a command of the copy."""
    for name in ("bench", "models", "ablations"):
        shutil.copytree(ROOT / name, tmp_path / "lib" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("home", "temporary"):
        (tmp_path / name).mkdir()
    folders = [path for path in (tmp_path / "lib").rglob("*") if path.is_dir()]
    folders += [tmp_path / "lib", tmp_path / "home"]
    environment = {key: value for key, value in os.environ.items() if key not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    environment |= {"PYTHONPATH": str(tmp_path / "lib"), "HOME": str(tmp_path / "home")}
    environment |= {"TMPDIR": str(tmp_path / "temporary"), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*flags, **others) -> subprocess.CompletedProcess:
        command = [*as_user(), sys.executable, "-m", "bench", *map(str, flags)]
        env = environment | {key: str(value) for key, value in others.items()}
        return subprocess.run(command, cwd=tmp_path / "home", env=env, capture_output=True, text=True, timeout=300)

    for folder in folders:
        folder.chmod(0o555)
    yield run
    for folder in folders:
        folder.chmod(0o755)


def test_a_read_only_installation_measures_and_caches_its_kernels_in_a_temporary_folder(read_only, tmp_path):
    found = read_only("bm25", "--home", tmp_path / "out", "--images", "5")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("bm25, text to image: R@1")
    (cache,) = (tmp_path / "temporary").iterdir()
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700 and list(cache.rglob("*.nbi"))
    assert not list((tmp_path / "lib").rglob("*.nbi"))


def test_an_unwritable_default_home_and_help_end_in_one_line(read_only):
    assert read_only("scale", "--help").returncode == 0
    found = read_only("bm25")
    line = "lexlip-bench bm25: runs: cannot be written (Permission denied); use another --home\n"
    assert (found.returncode, found.stderr) == (2, line)


def test_without_any_writable_folder_numba_names_the_variables_to_set(read_only, tmp_path):
    kernels = "raise RuntimeError(\"cannot cache function 'mix': no locator available for file\")"
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "numba.py").write_text(kernels)
    found = read_only(
        "bm25", "--home", tmp_path / "out", "--images", "5", PYTHONPATH=f"{tmp_path / 'none'}:{tmp_path / 'lib'}"
    )
    assert found.returncode == 2 and "Traceback" not in found.stderr
    assert "set NUMBA_CACHE_DIR or TMPDIR" in found.stderr and found.stderr.count("\n") == 1


@pytest.mark.parametrize("name", LOCKING)
def test_a_home_below_a_file_is_one_line(name, tmp_path, capsys):
    import bench.__main__ as entry

    assert name in COMMANDS
    (tmp_path / "file").write_text("")
    assert entry.main([name, *LOCKING[name], "--home", str(tmp_path / "file" / "home")]) == 2
    expected = f"{tmp_path / 'file' / 'home'}: cannot be written ({tmp_path / 'file'} is no folder); use another --home"
    assert capsys.readouterr().err == f"lexlip-bench {name}: {expected}\n"


def test_a_path_below_an_unknown_home_is_one_line(tmp_path, capsys):
    def main(_):
        Path("~no-such-user-of-this-machine/images").expanduser()

    assert cli.run(main, cli.parser("reads"), ["--home", str(tmp_path)], prog="reads") == 2
    assert "give the whole path" in capsys.readouterr().err


# --- which folder ---


@pytest.fixture
def unwritable(tmp_path, monkeypatch):
    """The path of a package below a file; the user's cache is below it too, the temporary folder is not."""
    (tmp_path / "file").write_text("")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(numba_cache.tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    yield tmp_path / "file" / "package"
    os.environ.pop("NUMBA_CACHE_DIR", None)


def test_numba_chooses_by_itself_where_it_can(tmp_path, unwritable, monkeypatch):
    numba_cache.choose_folder(tmp_path / "package")
    assert "NUMBA_CACHE_DIR" not in os.environ
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    numba_cache.choose_folder(unwritable)
    assert "NUMBA_CACHE_DIR" not in os.environ


def test_a_folder_given_by_the_user_is_kept_unless_it_cannot_be_written(tmp_path, unwritable, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "given"))
    numba_cache.choose_folder(unwritable)
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "given")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(unwritable))
    numba_cache.choose_folder(unwritable)
    assert Path(os.environ["NUMBA_CACHE_DIR"]).parent == tmp_path / "temporary"


def test_a_temporary_folder_that_others_may_write_is_not_used(tmp_path, unwritable):
    numba_cache.choose_folder(unwritable)
    own = Path(os.environ.pop("NUMBA_CACHE_DIR"))
    own.chmod(0o777)
    numba_cache.choose_folder(unwritable)
    chosen = Path(os.environ["NUMBA_CACHE_DIR"])
    assert chosen != own and stat.S_IMODE(chosen.stat().st_mode) == 0o700
