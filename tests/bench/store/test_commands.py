"""Commands run as subprocesses: their output, their failure, and their end after Ctrl-C."""

import signal
import subprocess
import sys

import pytest

from bench.store import commands
from bench.store.commands import run_command, sigint_blocked
from models.errors import InputError

ONCE = ("timeit", "-n", "1", "-r", "1")


def test_the_last_line_is_returned():
    assert run_command(*ONCE, "print('a line')", failed="").startswith("1 loop, best of 1: ")


def test_a_failure_says_how_to_run_it_again():
    with pytest.raises(InputError, match=r"timing failed \(.*\); again: python -m timeit --nonsense$"):
        run_command("timeit", "--nonsense", failed="timing failed")


INTERRUPTED = """
import os, signal, threading, time
import psutil
from bench.store.commands import run_command

children = []

def interrupt():
    while not (found := [child for child in psutil.Process().children() if "timeit" in child.cmdline()]):
        time.sleep(0.01)
    children.extend(found)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    run_command("timeit", "-n", "1", "-r", "1", "import time; time.sleep(600)", failed="")
except KeyboardInterrupt:
    print([child.is_running() for child in children])
"""


AT_START = """
import os, signal, subprocess
from bench.store.commands import run_command

class Started(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        started.append(self)
        os.kill(os.getpid(), signal.SIGINT)

started, subprocess.Popen = [], Started
try:
    run_command("timeit", "-n", "1", "-r", "1", "import time; time.sleep(600)", failed="")
except KeyboardInterrupt:
    print(started[0].poll())
    started[0].kill()
"""


def test_ctrl_c_while_the_subprocess_starts_kills_it():
    """It used to be raised before anything could kill the process, which then ran on."""
    done = subprocess.run([sys.executable, "-c", AT_START], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == (f"{-signal.SIGKILL}\n", 0), done.stderr


def test_ctrl_c_kills_the_subprocess():
    """In a process of its own: a JVM, which other tests start, ends this process at SIGINT."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("[False]\n", 0), done.stderr


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal masks")
def test_subprocesses_inherit_the_blocked_signal():
    with sigint_blocked():
        process = subprocess.Popen(["sleep", "600"])
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.kill()
    process.wait()


def test_the_report_is_built_for_one_profile(monkeypatch, capsys):
    called = []
    monkeypatch.setattr(commands, "run_command", lambda *words, failed: called.append(words) or "site/index.html")
    assert commands.build_report("home", "quick") == "site/index.html"
    assert called == [("reports.build", "--home", "home", "--profile", "quick")]
    assert capsys.readouterr().out == "site/index.html\n"
