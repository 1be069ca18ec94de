"""What moves parameters on a CPU is what PyTorch's optimizer and autograd would do."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from saeborzoi.sae.adam import Adam
from saeborzoi.sae.distributed import Group
from saeborzoi.sae.ranking import Ranking
from saeborzoi.sae.recipe import RECIPES, normalize_decoder
from saeborzoi.sae.reviving import Revival
from saeborzoi.sae.steps import SparseStep
from saeborzoi.sae.threads import Threads
from tests.sae.test_steps import made, relative


@pytest.mark.parametrize("recipe", ["default", "published"])
def test_adam_is_that_of_pytorch(recipe: str) -> None:
    """With steps of very different sizes, the decoder's norm and the ranking, from a resume on."""
    sae, _ = made(37, 111, 3, recipe=recipe)
    settings = RECIPES[recipe]
    if settings.unit_norm:
        normalize_decoder(sae)
    other, ranking = copy.deepcopy(sae), Ranking(sae)
    ours = Adam(sae, settings)
    theirs = torch.optim.Adam(other.parameters(), betas=settings.betas, eps=settings.eps)
    generator = torch.Generator().manual_seed(0)
    for step in range(8):
        rate = 1e-3 * (step + 1)
        for one, two in zip(sae.parameters(), other.parameters(), strict=True):
            spread = torch.logspace(-10, 0, one.numel()).reshape(one.shape)
            one.grad = spread * torch.randn(one.shape, generator=generator)
            two.grad = one.grad.clone()
        if settings.unit_norm:
            w, g = other.decoder_weight, other.decoder_weight.grad
            assert g is not None
            g -= (w * g).sum(1, keepdim=True).detach() * w.detach()
        theirs.param_groups[0]["lr"] = rate
        theirs.step()
        if settings.unit_norm:
            normalize_decoder(other)
        if step == 3:  # goes on from what was saved
            saved, ours = ours.moments(), Adam(sae, settings)
            ours.set_moments(saved)
        ours.begin(rate)
        for nodes in ((0, 50), (50, 111)):
            ours.move_nodes(*nodes, ranking)
        ours.end(ranking)
        for one, two in zip(sae.parameters(), other.parameters(), strict=True):
            assert relative(one.detach(), two.detach()) < 1e-6
            torch.testing.assert_close(one, two, rtol=1e-5, atol=5e-6)
    state = theirs.state_dict()["state"]
    for moments, expected in zip(ours.moments(), state.values(), strict=True):
        assert moments.keys() == expected.keys()
        for name, value in expected.items():
            assert relative(moments[name], value) < 1e-6, name
    fresh = Ranking(sae)
    fresh.follow(sae)
    np.testing.assert_array_equal(ranking.weight, fresh.weight)
    np.testing.assert_array_equal(ranking.size, fresh.size)


def test_the_ranking_follows_what_others_do_to_an_sae() -> None:
    sae, _ = made(20, 80, 3)
    ranking = Ranking(sae)
    ranking.follow(sae)
    with torch.no_grad():
        sae.encoder_weight[7] = 0.5
        sae.encoder_bias[8] = 0.25
    ranking.follow(sae)
    as_float = (ranking.weight.astype(np.uint32) << 16).view(np.float32)
    assert (as_float[7, :20] == 0.5).all()
    assert as_float[8, 20] == 0.25
    assert ranking.size[7] == pytest.approx(0.5 * 20**0.5)


@pytest.mark.parametrize("n_dead", [1, 5, 60])
def test_derivatives_of_auxk_are_those_of_autograd(n_dead: int) -> None:
    """Of fewer dead nodes than half the channels, and of more; over several blocks of rows."""
    sae, x = made(64, 256, 3)
    dead = torch.arange(0, 2 * n_dead, 2)
    result = SparseStep()(sae, x)
    result.derive()
    parameters = (sae.encoder_weight, sae.encoder_bias, sae.decoder_weight)
    before = [p.grad.clone() for p in parameters if p.grad is not None]
    revival = Revival(sae, result, dead, 500, 0.3, Group())
    for nodes in ((0, 33), (33, 256)):
        revival.add(*nodes)
    added = [p.grad - b for p, b in zip(parameters, before, strict=True) if p.grad is not None]
    residual = result.residual(0, 500)
    h = torch.nn.functional.linear(
        result.centred[:500], sae.encoder_weight[dead], sae.encoder_bias[dead]
    ).relu()
    value, node = torch.topk(h, min(n_dead, 32), dim=-1)
    z = torch.zeros_like(h).scatter(-1, node, value)
    error = (z @ sae.decoder_weight[dead] - residual).square().mean()
    loss = 0.3 * error / residual.square().mean()
    for slope, expected in zip(added, torch.autograd.grad(loss, parameters), strict=True):
        assert relative(slope, expected) < 1e-5


def test_threads_of_a_step_work_alone_and_leave_pytorch_s_number_as_it_is() -> None:
    """A model whose activations are trained on live runs beside them, in all threads."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        numbers = Threads(2).map(lambda *_: torch.get_num_threads(), [(0, 1), (1, 2)])
        with ThreadPoolExecutor(1) as other:
            assert (numbers, other.submit(torch.get_num_threads).result()) == ([1, 1], 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_threads_give_results_in_order_an_error_as_it_is_and_end_with_their_owner() -> None:
    def work(first: int, last: int) -> int:
        if first == 13:
            raise ValueError(str(last))
        return first

    threads = Threads(3)
    ranges = [(i, i + 1) for i in range(20)]
    with pytest.raises(ValueError, match="14"):
        threads.map(work, ranges)
    assert threads.map(work, ranges[:13]) == list(range(13))
    assert threads.alone(work, ranges[:2]) == [0, 1]
    before = set(threading.enumerate())
    others = Threads(3)
    started = set(threading.enumerate()) - before
    assert len(started) == 2
    del others
    assert not any(thread.is_alive() for thread in started)


def test_a_process_whose_threads_are_there_at_its_end_ends_well() -> None:
    code = (
        "import threading\n"
        "from saeborzoi.sae.threads import Threads\n"
        "threads = Threads(3)\n"
        "threads.map(lambda a, b: a, [(0, 1), (1, 2), (2, 3)])\n"
        "workers = [t for t in threading.enumerate() if t.name == 'batch']\n"
        "class Late:\n"
        "    def __del__(self): print([t.is_alive() for t in workers], flush=True)\n"
        "late = Late()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[False, False]\n"
