"""Bad input on the command line, through real processes: exit code 2, one line, no traceback, no files left."""

import pytest

CASES = {
    "unknown variant": ("ablations.run", ["--variants", "lexlip,clipp"], ["unknown variant 'clipp'", "nearest: clip;"]),
    "wrong type in a profile": (
        "ablations.train",
        ["--profile", "{tmp}/own.yaml"],
        ["own.yaml", "train.steps", "'many'"],
    ),
    "missing profile": ("ablations.train", ["--profile", "{tmp}/nowhere.yaml"], ["nowhere.yaml", "no such file"]),
    "home is a file": ("ablations.run", ["--variants", "clip", "--home", "{tmp}/file"], ["{tmp}/file"]),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory, tiny, start):
    """case -> (exit code, stdout, stderr)."""
    tmp = tmp_path_factory.mktemp("bad")
    (tmp / "own.yaml").write_text("train: {steps: many}\n")
    (tmp / "file").write_text("in the way")
    running = {}
    for number, (case, (module, arguments, _)) in enumerate(CASES.items()):
        arguments = [argument.format(tmp=tmp) for argument in arguments]
        own = (("--profile", tiny), ("--home", tmp / f"home{number}"))  # a home each, since a command locks its home
        defaults = [flag for pair in own if pair[0] not in arguments for flag in pair]
        running[case] = start("-m", module, *defaults, *arguments)
    answers = {}
    for case, process in running.items():
        out, err = process.communicate(timeout=120)
        answers[case] = (process.returncode, out, err)
    return tmp, answers


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_exit_code_2(case, answers):
    tmp, found = answers
    code, out, err = found[case]
    assert code == 2, err
    assert out == ""
    assert len(err.splitlines()) == 1 and err.startswith(f"python -m {CASES[case][0]}: "), err
    for part in CASES[case][2]:
        assert part.format(tmp=tmp) in err


def test_nothing_is_computed_and_nothing_touched(answers):
    tmp, _ = answers
    assert not list(tmp.glob("home*"))
    assert (tmp / "file").read_text() == "in the way"
