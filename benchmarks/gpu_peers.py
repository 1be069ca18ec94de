"""One training step of published libraries, as their trainers do it, where they are installed.

eai-sparsify, dictionary-learning and sae-lens; Adam, bfloat16 autocast, positions normalized
before. Written for the versions named in `VERSIONS`; another one may want other arguments, which is
printed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

VERSIONS = {"sparsify": "1.3.3", "dictionary_learning": "0.1.0", "sae_lens": "6.54"}
Step = Callable[[], object]


def sparsify(y: Tensor, n_nodes: int, k: int) -> Step:
    """Its Triton decoder and total-variance loss."""
    from sparsify.config import SparseCoderConfig
    from sparsify.sparse_coder import SparseCoder

    config = SparseCoderConfig(num_latents=n_nodes, k=k)
    sae = SparseCoder(y.shape[1], config, device=y.device, dtype=torch.float32)
    adam = torch.optim.Adam(sae.parameters(), lr=1e-3, fused=True)
    since = torch.zeros(n_nodes, dtype=torch.long, device=y.device)
    fired = torch.zeros(n_nodes, dtype=torch.bool, device=y.device)

    def step() -> None:
        sae.set_decoder_norm_to_unit_norm()
        out = sae(x=y, y=y, dead_mask=since > 10_000_000)
        fired[out.latent_indices.flatten()] = True
        (out.fvu + out.auxk_loss / 32).backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        adam.step()
        adam.zero_grad()
        since.add_(len(y))
        since[fired] = 0
        fired.zero_()

    return step


def dictionary_learning(y: Tensor, n_nodes: int, k: int) -> Step:
    """Its TopK trainer."""
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(
        steps=100_000, activation_dim=y.shape[1], dict_size=n_nodes, k=k, layer=0, lm_name="",
        device=str(y.device), lr=1e-3,
    )  # fmt: skip
    n_done = 0

    def step() -> object:
        nonlocal n_done
        n_done += 1
        with torch.autocast(y.device.type, torch.bfloat16):
            return trainer.update(n_done, y)

    return step


def sae_lens(y: Tensor, n_nodes: int, k: int) -> Step:
    """Its TopK training forward pass."""
    from sae_lens.saes.sae import TrainStepInput
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(
            d_in=y.shape[1], d_sae=n_nodes, k=k, device=str(y.device), dtype="float32"
        )
    ).to(y.device)
    adam = torch.optim.Adam(sae.parameters(), lr=1e-3)
    since = torch.zeros(n_nodes, device=y.device)

    def step() -> None:
        with torch.autocast(y.device.type, torch.bfloat16):
            out = sae.training_forward_pass(
                step_input=TrainStepInput(
                    sae_in=y, dead_neuron_mask=since > 1000, coefficients={}, n_training_steps=1,
                    is_logging_step=False,
                )
            )  # fmt: skip
            with torch.no_grad():
                did_fire = out.feature_acts.bool().any(0)
                since.add_(1)
                since[did_fire] = 0
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        adam.step()
        adam.zero_grad()

    return step


def rates(
    x: Tensor, n_nodes: int, k: int, microseconds: Callable[[Step], float]
) -> Iterator[tuple[str, str]]:
    """Each library and its rate, or why there is none."""
    y = (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-5)
    for make in (sparsify, dictionary_learning, sae_lens):
        name = f"{make.__name__} (for {VERSIONS[make.__name__]})"
        if importlib.util.find_spec(make.__name__) is None:
            yield name, "not installed, not measured"
            continue
        try:
            yield name, f"{len(y) / microseconds(make(y, n_nodes, k)):.2f} M positions/s"
        except (TypeError, AttributeError, ImportError, RuntimeError) as error:
            yield name, f"not measured: {error}"
