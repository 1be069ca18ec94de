"""Where artifact files lie under `[project] store`; `jobs/provenance.py` writes them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from saeborzoi.errors import StoreError
from saeborzoi.settings.command_lines import command_of
from saeborzoi.settings.hyperparameters import node_key

SAE_WEIGHTS = "sae.safetensors"
TRAINING_LOG = "training_log.parquet"
TOP_ACTIVATIONS = "top_activations.parquet"
NODE_STATISTICS = "node_statistics.parquet"
COACTIVATION = "coactivation.npz"
CHANNEL_NORMALIZATION = "channel_normalization.parquet"
COMPARISON_PAGE = "comparison.html"
"""Files of artifacts that others read: of trained_sae, top_activations, normalization_constants and
sae_comparison."""


class Store:
    """The artifact store: one folder for each layer and each SAE, one for jobs, the catalogue.

    Parameters
    ----------
    root
        `[project] store`, absolute. Made when first written.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    @property
    def catalog(self) -> Path:
        """The DuckDB file."""
        return self.root / "catalog.duckdb"

    @property
    def jobs(self) -> Path:
        """Folder of the job folders: job document, log, result of each."""
        return self.root / "jobs"

    @property
    def browser(self) -> Path:
        """Folder of the feature browser: the start page, and the pages of each SAE by its key.
        It is one folder so that it can be sent around whole."""
        return self.root / "browser"

    @property
    def fingerprints(self) -> Path:
        """Folder of the digests of input files, so that each is read once."""
        return self.root / "fingerprints"

    @property
    def genome_cache(self) -> Path:
        """Folder for a decompressed genome and its index."""
        return self.root / "genome"

    def layer_artifact(self, layer: str, asset: str) -> Path:
        """Folder of an artifact of a layer."""
        return self.root / "layers" / layer / asset

    def sae_artifact(self, key: str, asset: str) -> Path:
        """Folder of an artifact of an SAE; for node artifacts, of its batches."""
        return self.root / "saes" / key / asset

    def batch(self, key: str, asset: str, nodes: Sequence[int], version: str, run: str) -> Path:
        """Folder of a batch of nodes, named by its nodes, what it was made from and the run.

        A new folder each time, so that the rows that the catalogue holds keep their artifact until
        it has taken the new ones, and what one run removes is never what another one writes.
        """
        return self.sae_artifact(key, asset) / f"{batch_name(nodes)}_{version}_{run[:8]}"

    def project_artifact(self, asset: str) -> Path:
        """Folder of an artifact of the whole project."""
        return self.root / "project" / asset

    def set_artifact(self, variant_set: str, asset: str) -> Path:
        """Folder of an artifact of a set of variants."""
        return self.root / "variants" / variant_set / asset

    def sae_set_artifact(self, key: str, asset: str, variant_set: str) -> Path:
        """Folder of an artifact of a set of variants looked at with an SAE."""
        return self.sae_artifact(key, asset) / variant_set

    def work(self, key: str, asset: str) -> Path:
        """Folder for what survives a killed job: checkpoints, finished nodes of a batch."""
        return self.root / "work" / key / asset

    def require_artifact(self, path: Path, asset: str, partition: str) -> Path:
        """The artifact's path, refused where it was not made yet.

        Raises
        ------
        StoreError
            Names the asset and partition to materialize first.
        """
        if not path.exists():
            raise StoreError(
                f"{asset} of {partition} is not in the store ({path}); materialize it first: "
                f"{command_of(asset, partition)}"
            )
        return path

    def require_writable(self) -> None:
        """Refuse a store that cannot be written, before any work starts.

        Raises
        ------
        StoreError
            Names the folder and why.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as file:
                # a quota or full disk refuses the bytes, not the name
                file.write(b"\0" * 65536)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(
                f"store {self.root} cannot be written ({error.strerror}); fix its rights, free "
                "room there, or set another [project] store"
            ) from error


def relative_to_store(path: Path, root: Path) -> str:
    """A path of the store as the catalogue names it; one outside stays absolute."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def batch_name(nodes: Sequence[int]) -> str:
    """Readable name of a batch: ``n0000-n0063``, with a digest where nodes are missing between.

    >>> batch_name([0, 1, 2])
    'n0000-n0002'
    """
    first, last = min(nodes), max(nodes)
    if first == last:
        return node_key(first)
    name = f"{node_key(first)}-{node_key(last)}"
    if len(set(nodes)) < last - first + 1:
        listed = ",".join(map(str, sorted(set(nodes))))
        name += "." + hashlib.blake2b(listed.encode(), digest_size=4).hexdigest()
    return name
