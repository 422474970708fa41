"""Two processes (gloo) against one: equal losses and weights after some steps of every phase, and of CLIP.

Run as a script, this file starts the two processes.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from models import checkpoint
from models.batch import Batch, MaskedBatch
from models.config import FlopsConfig, WordsConfig
from models.distributed import average_gradients, gather, mean, rank, rows, world

ROOT = Path(__file__).resolve().parents[2]
FEW, MANY, SIZE = 3, 20, 8
PHASES = {"bottleneck": "lexlip", "momentum": "lexlip", "contrastive": "lexlip", "clip": "clip"}


def trained(folder: Path, case: str) -> dict:
    """SGD on this process's slice of the batches in `folder`: losses of the global batch (steps, parts), weights."""
    torch.manual_seed(1)
    objective = checkpoint.objective(checkpoint.load(folder / PHASES[case])).train()
    objective.begin("contrastive" if case == "clip" else case)
    sgd = torch.optim.SGD(
        [parameter for parameter in objective.parameters() if parameter.requires_grad], lr=0.02, momentum=0.9
    )
    losses, masked = [], []
    for step, tensors in enumerate(torch.load(folder / "batches.pt", weights_only=True)):
        batch = Batch(*(tensor[rows(SIZE // world())] for tensor in tensors), SIZE // world())
        parts, _ = objective.losses(batch, torch.Generator().manual_seed(step))
        drawn = objective.draw(batch, torch.Generator().manual_seed(step))
        if isinstance(drawn, MaskedBatch):
            masked.append(int(drawn.hidden_from_encoder_BL.sum()))
        sgd.zero_grad()
        sum(parts.values()).backward()
        average_gradients(objective.parameters())
        sgd.step()
        objective.after_step()
        losses.append(mean(torch.stack([part.detach() for part in parts.values()])))
    return {"losses": torch.stack(losses), "weights": objective.state_dict(), "masked": masked}


def gradients() -> dict:
    """Outputs and gradients of `gather` and `mean` for the loss sum(3 (rank + 1) output) of each process."""
    slice_B = torch.tensor([1.0, 2.0]) + 10 * rank()
    found = {}
    for name, function in (("gather", gather), ("mean", mean)):
        leaf_B = slice_B.clone().requires_grad_()
        out = function(leaf_B)
        (3 * (rank() + 1) * out).sum().backward()
        found[name] = {"out": out.detach(), "gradient": leaf_B.grad}
    return found


def process(number: int, folder: Path, port: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=number, world_size=2)
    found = {"gradients": gradients()} | {case: trained(folder, case) for case in PHASES}
    torch.save(found, folder / f"found-{rank()}.pt")
    distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module", params=[FEW, pytest.param(MANY, marks=pytest.mark.nightly)])
def found(request, tmp_path_factory, make_model, make_batch):
    """Results of one process, and of each of two."""
    folder = tmp_path_factory.mktemp("distributed")
    losses = {"flops": FlopsConfig(weight=0.1, acts_on="raw"), "words": WordsConfig(0.5, captions="all")}
    checkpoint.save(make_model(**losses), folder / "lexlip")
    checkpoint.save(make_model("clip"), folder / "clip")
    batches = [make_batch(step, SIZE) for step in range(request.param)]
    parts = [[batch.images_BHWC, batch.tokens_BL, batch.words_BL, batch.captions_BM] for batch in batches]
    torch.save(parts, folder / "batches.pt")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, str(folder), str(free_port())]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as two:
        one = {case: trained(folder, case) for case in PHASES}
        try:
            assert two.wait(timeout=300) == 0, two.stderr.read()
        finally:
            two.kill()
    return one, *(torch.load(folder / f"found-{number}.pt", weights_only=True) for number in range(2))


@pytest.mark.parametrize("case", PHASES)
def test_two_processes_give_the_losses_of_one(case, found):
    one, first, second = found
    assert one[case]["losses"].shape[1] == {"bottleneck": 6, "clip": 1}.get(case, 3)
    assert (one[case]["losses"][0] != one[case]["losses"][-1]).all(), "the weights change"
    torch.testing.assert_close(first[case]["losses"], one[case]["losses"], rtol=1e-4, atol=1e-6)
    assert torch.equal(first[case]["losses"], second[case]["losses"])


@pytest.mark.parametrize("case", PHASES)
def test_two_processes_give_the_weights_of_one(case, found):
    """Including queues and momentum encoders."""
    one, first, second = (side[case]["weights"] for side in found)
    assert ("momentum" in case) == any("queue" in name for name in one)
    for name in one:
        torch.testing.assert_close(
            first[name], one[name], rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
        assert torch.equal(first[name], second[name]), name


def test_slices_have_different_numbers_of_masked_tokens(found):
    """Otherwise the mean of the means of the slices would be correct."""
    one, first, second = (side["bottleneck"]["masked"] for side in found)
    assert [sum(both) for both in zip(first, second, strict=True)] == one, "the masks are drawn for the global batch"
    assert sum(left != right for left, right in zip(first, second, strict=True)) > len(one) / 2


def test_gather_and_mean_keep_the_gradients_of_all_processes(found):
    one, two = (side["gradients"] for side in found[1:])
    for side in (one, two):
        assert side["gather"]["out"].tolist() == [1.0, 2.0, 11.0, 12.0]
        assert side["gather"]["gradient"].tolist() == [9.0, 9.0], "3 from process 0, 6 from process 1"
        assert side["mean"]["out"].tolist() == [6.0, 7.0]
        assert side["mean"]["gradient"].tolist() == [4.5, 4.5]


def test_one_process_copies_nothing():
    tensor = torch.ones(3)
    assert (world(), rank(), rows(4)) == (1, 0, slice(0, 4))
    assert gather(tensor) is tensor and mean(tensor) is tensor


if __name__ == "__main__":
    import models.clip
    import models.objective  # noqa: F401  (before the fork, so that both processes share the imports)

    multiprocessing.start_processes(process, (Path(sys.argv[1]), sys.argv[2]), nprocs=2, start_method="fork")
