"""How sparsify and SAELens lay out an SAE: the names in their files and what they must say.

sparsify (tried with 1.3.3) reads `cfg.json` and `sae.safetensors`; SAELens (6.54) `cfg.json` and
`sae_weights.safetensors`. Fields of the other in `cfg.json` are dropped by both, so that one
folder serves both. Reading and writing files is `checkpoint.py`'s business.

They see a position at different places: sparsify's SAE takes `y`, the layer-normed position;
SAELens's takes `x / channel_max`, as its own layer norm is ours to the letter (standard deviation
with n - 1 degrees of freedom, + 1e-5).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saeborzoi.catalog.store import SAE_WEIGHTS
from saeborzoi.errors import InputError
from saeborzoi.sae.model import SparseAutoencoder

SPARSIFY_WEIGHTS = SAE_WEIGHTS
SPARSIFY_NAMES = {
    "encoder.weight": "encoder_weight",
    "encoder.bias": "encoder_bias",
    "W_dec": "decoder_weight",
    "b_dec": "pre_bias",
}
SAELENS_WEIGHTS = "sae_weights.safetensors"
SAELENS_NAMES = {
    "W_enc": "encoder_weight",
    "b_enc": "encoder_bias",
    "W_dec": "decoder_weight",
    "b_dec": "pre_bias",
}
"""`W_enc` is (n_channels, n_nodes) there."""
_SAELENS_LAYOUT = "6.0.0"
"""SAELens rewrites the configuration of an earlier one."""
_NEEDED: dict[str, dict[str, Any]] = {
    "sparsify": {
        "activation": "topk",
        "skip_connection": False,
        "transcode": False,
        "signed": False,  # of early ones: no ReLU
    },
    "SAELens": {
        "architecture": "topk",
        "normalize_activations": "layer_norm",
        "apply_b_dec_to_input": True,
        "rescale_acts_by_decoder_norm": False,
        "reshape_activations": "none",
    },
}


_WITHOUT_EFFECT = ("multi_topk", "normalize_decoder")
"""Fields of sparsify that say how an SAE was trained."""


def config_of(sae: SparseAutoencoder) -> dict[str, Any]:
    """What sparsify and SAELens need to find in `cfg.json`.

    The threshold of a `batch_topk` SAE is a `jumprelu` SAE in SAELens; sparsify knows none, and
    refuses an activation that it does not know.
    """
    threshold = sae.variant == "batch_topk"
    norm = torch.linalg.vector_norm(sae.decoder_weight.detach(), dim=1)
    return {
        "activation": "batch_topk" if threshold else "topk",
        "expansion_factor": max(1, sae.n_nodes // sae.n_channels),
        "normalize_decoder": bool((norm - 1).abs().max() < 1e-3),
        "num_latents": sae.n_nodes,
        "k": sae.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": sae.n_channels,
        **_NEEDED["SAELens"],
        "architecture": "jumprelu" if threshold else "topk",
        "d_sae": sae.n_nodes,
        "dtype": "float32",
        "device": "cpu",
        "metadata": {"sae_lens_version": _SAELENS_LAYOUT},
    }


def sparsify_weights(sae: SparseAutoencoder) -> dict[str, Tensor]:
    """Tensors of `sae.safetensors`."""
    return {name: _plain(getattr(sae, attribute)) for name, attribute in SPARSIFY_NAMES.items()}


def saelens_weights(sae: SparseAutoencoder) -> dict[str, Tensor]:
    """Tensors of `sae_weights.safetensors`."""
    tensors = {name: _plain(getattr(sae, attribute)) for name, attribute in SAELENS_NAMES.items()}
    tensors["W_enc"] = tensors["W_enc"].T.contiguous()
    if sae.variant == "batch_topk":
        tensors["threshold"] = torch.full((sae.n_nodes,), float(sae.threshold))
    return tensors


def of_sparsify(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our attributes from sparsify's tensors."""
    return {attribute: tensors[name] for name, attribute in SPARSIFY_NAMES.items()}


def of_saelens(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our attributes from SAELens's tensors."""
    attributes = {attribute: tensors[name] for name, attribute in SAELENS_NAMES.items()}
    return {**attributes, "encoder_weight": attributes["encoder_weight"].T.contiguous()}


def require_readable(path: Path, config: dict[str, Any]) -> None:
    """Refuse a configuration of theirs that computes something else than a TopK SAE of ours.

    Raises
    ------
    InputError
        Names the field, what it says and what is needed.
    """
    maker = "SAELens" if "architecture" in config else "sparsify"
    if maker == "sparsify":
        for field, value in config.items():
            if value is True and field not in (*_NEEDED[maker], *_WITHOUT_EFFECT):
                raise InputError(
                    f"{path}: an SAE of sparsify with {field} true, which is not known here and "
                    "may compute something else; bring one without it"
                )
    for field, needed in _NEEDED[maker].items():
        value = config.get(field, needed)
        if value != needed:
            raise InputError(
                f"{path}: an SAE of {maker} with {field} {value!r}, needed is {needed!r}, as the "
                "SAEs here are TopK on layer-normed positions; bring one that was trained so"
            )


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()
