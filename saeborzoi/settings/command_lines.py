"""Commands that messages name, so that what they say to do does it."""

from __future__ import annotations

import shlex

from saeborzoi.pipeline import ARTIFACT
from saeborzoi.settings.hyperparameters import PartitionKey


def command_of(asset: str, key: str, nodes: str = "", *, again: bool = False) -> str:
    """The command that makes a partition of an asset.

    Parameters
    ----------
    asset, key
        Asset, and partition key as Dagster has it.
    nodes
        Nodes of the SAE as the command takes them, where they are several.
    again
        Where it stands and is to be made anew.

    >>> command_of("meme_motifs", "conv_x4_k0.05_lr0.003_s0|n0003")
    'saeborzoi run conv_x4_k0.05_lr0.003_s0 --select meme_motifs --nodes 3'
    >>> command_of("normalization_constants", "conv", again=True)
    'saeborzoi run --select normalization_constants --again'
    """
    partition = PartitionKey.parse(key)
    words = ["saeborzoi", "run"]
    if ARTIFACT[asset].grain in ("sae", "node", "sae_variants"):
        words.append(partition.owner)
    words += ["--select", asset]
    if partition.node is not None:
        nodes = str(partition.node)
    return shlex.join([*words, *(["--nodes", nodes] if nodes else []), *(["--again"] * again)])
