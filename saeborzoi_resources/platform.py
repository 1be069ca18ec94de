"""The one Dagster resource: settings, store, catalogue and compute of a project.

What an asset needs to know about its partition (which SAE, which inputs, which version of them)
is worked out here; what it makes of that is the asset's business.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import pandas as pd

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.catalog.store import Store, batch_name
from saeborzoi.errors import PartitionKeyError
from saeborzoi.files import write_folder
from saeborzoi.jobs.fingerprint import fingerprint_files, fingerprint_of
from saeborzoi.jobs.job import Job
from saeborzoi.jobs.provenance import PROVENANCE, provenance
from saeborzoi.pipeline import ARTIFACT, Artifact
from saeborzoi.settings.hyperparameters import Hyperparameters, PartitionKey, node_key
from saeborzoi.settings.load import Settings, load_settings
from saeborzoi.settings.sections import Layer
from saeborzoi.settings.user_files import files_of, settings_of
from saeborzoi_resources.compute import Compute, make_compute


class Sae(NamedTuple):
    """One SAE partition, checked against the settings."""

    key: str
    hyperparameters: Hyperparameters
    layer: Layer

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return self.hyperparameters.n_nodes(self.layer.n_channels)

    def require_nodes(self, nodes: Sequence[int]) -> tuple[int, ...]:
        """The nodes, sorted, refused where the SAE does not have one.

        Raises
        ------
        PartitionKeyError
            Names the first node outside and the range to ask for.
        """
        outside = [node for node in nodes if not 0 <= node < self.n_nodes]
        if outside:
            last = node_key(self.n_nodes - 1)
            everything = f"{PartitionKey(self.key, 0)}...{PartitionKey(self.key, self.n_nodes - 1)}"
            raise PartitionKeyError(
                f"{self.key} has {self.n_nodes} nodes, n0000 ... {last}; there is no "
                f"{node_key(outside[0])}"
                + (f" (nor {len(outside) - 1} more of those asked for)" if outside[1:] else "")
                + f". For all of its nodes use --partition-range '{everything}'"
            )
        return tuple(sorted(nodes))


class Version(NamedTuple):
    """What a result is made from.

    Attributes
    ----------
    asset
        The asset.
    digest
        Dagster's data version: the digest of `made_from`.
    made_from
        Asset, code version, owner, settings that matter, fingerprint of the user's files and
        versions of the inputs, each by its name; JSON-able.
    files
        The user's files that the fingerprint is of.
    """

    asset: str
    digest: str
    made_from: dict[str, Any]
    files: tuple[Path, ...] = ()


class Platform(dg.ConfigurableResource):
    """A project, by its settings file.

    Attributes
    ----------
    settings_file
        Path of `dagster_project.toml`.
    """

    settings_file: str

    @cached_property
    def settings(self) -> Settings:
        """The project's settings."""
        return load_settings(Path(self.settings_file))

    @cached_property
    def store(self) -> Store:
        """Where artifacts lie."""
        return Store(self.settings.project.store)

    @cached_property
    def catalog(self) -> Catalog:
        """The DuckDB catalogue."""
        return Catalog(self.store.catalog)

    @cached_property
    def compute(self) -> Compute:
        """Where heavy stages run."""
        return make_compute(self.settings, self.store.jobs)

    def sae(self, key: str) -> Sae:
        """The SAE of a partition key, refused where the settings cannot serve it."""
        hyperparameters = self.settings.parse_key(key)
        return Sae(key, hyperparameters, self.settings.layer_named(hyperparameters.layer))

    # -- versions: what a result was made from ------------------------------------------------

    def version_of(self, name: str, owner: str, nodes: Sequence[int] | None = None) -> Version:
        """Everything that a partition of an artifact depends on, as it is now.

        Parameters
        ----------
        name
            The artifact, as `saeborzoi.pipeline` declares it.
        owner
            Its layer or SAE; `PROJECT` for what is of the whole project.
        nodes
            Where it has a partition a node: of its inputs by node, only these nodes count.
        """
        artifact = ARTIFACT[name]
        layer, hyperparameters = self._subject(artifact, owner)
        by_node = nodes if artifact.grain == "node" else None
        files = files_of(artifact, self.settings, layer, hyperparameters)
        made_from = {
            "asset": name,
            "code": artifact.code_version,
            "owner": owner,
            "settings": settings_of(artifact, self.settings, layer),
            "files": fingerprint_files(files) if files else None,
            "inputs": {
                each: self._versions_of(ARTIFACT[each], owner, layer, by_node)
                for each in artifact.inputs
            },
        }
        return Version(name, fingerprint_of(made_from), made_from, tuple(files))

    def _subject(
        self, artifact: Artifact, owner: str
    ) -> tuple[Layer | None, Hyperparameters | None]:
        """Layer and hyperparameters that a partition of an artifact is about."""
        if artifact.grain == "project":
            return None, None
        if artifact.grain == "layer":
            return self.settings.layer_named(owner), None
        sae = self.sae(owner)
        return sae.layer, sae.hyperparameters

    def _versions_of(
        self, artifact: Artifact, owner: str, layer: Layer | None, nodes: Sequence[int] | None
    ) -> list[str] | dict[str, dict[str, int]]:
        """Distinct data versions of an artifact's standing partitions, of the SAE or its layer; of
        the whole project, by SAE and with the number of partitions."""
        if layer is None:
            return self.catalog.versions_by_owner(artifact.name)
        standing_of = layer.name if artifact.grain == "layer" else owner
        return self.catalog.data_versions(artifact.name, standing_of, nodes)

    # -- jobs and artifacts -------------------------------------------------------------------

    def job(
        self,
        version: Version,
        run_id: str,
        *,
        output: Path,
        layer: Layer,
        sae: Sae | None = None,
        nodes: Sequence[int] = (),
        inputs: Mapping[str, Path] | None = None,
        together: Mapping[str, Version] | None = None,
    ) -> Job:
        """The job that makes the version's asset; the same partition and version give the same
        `job_id`, so that a run that is executed again finds the job of the one before.

        `together` holds the versions of further SAEs that the same job makes, by partition key.
        """
        owner = sae.key if sae else layer.name
        stage = version.asset
        digest = version.digest
        if together:
            others = {key: other.digest for key, other in together.items()}
            digest = fingerprint_of({owner: digest, **others})
        parts = [stage, owner, *([batch_name(nodes)] if nodes else []), digest]
        return Job(
            job_id="-".join(parts),
            stage=stage,
            settings=self.settings,
            layer=layer.name,
            hyperparameters=sae.hyperparameters if sae else None,
            nodes=tuple(nodes),
            inputs=dict(inputs or {}),
            output=output,
            work=self.store.work(owner, "-".join([stage, *parts[2:]])),
            threads=self.threads(stage),
            run_id=run_id,
            together={key: self.store.sae_artifact(key, stage) for key in together or ()},
        )

    def threads(self, stage: str) -> int:
        """Cores of a stage: its profile's, else all of this machine, or one of the cluster's."""
        cpus = self.settings.compute.profile_of(stage).cpus
        if cpus is not None:
            return cpus
        return len(os.sched_getaffinity(0)) if self.settings.compute.backend == "local" else 1

    def record(self, made: Made, scope: Scope, tables: Mapping[str, pd.DataFrame]) -> int:
        """Catalogue a result, then remove batches that no row stands on any more."""
        n_rows = self.catalog.replace(made, scope, tables)
        if scope.nodes is not None:
            standing = set(self.catalog.artifacts(made.asset, scope.owner))
            for folder in self.store.sae_artifact(scope.owner, made.asset).iterdir():
                # a dot marks a batch that another run is writing just now
                if folder not in standing and not folder.name.startswith("."):
                    shutil.rmtree(folder, ignore_errors=True)
        return n_rows


def write_tables(
    folder: Path,
    tables: Mapping[str, pd.DataFrame],
    job: Job | None,
    more: Mapping[str, bytes] | None = None,
) -> None:
    """Write an artifact's tables as `<name>.parquet` and more files by their names, whole, with
    their provenance; the job is None where the artifact is the whole project's."""
    with write_folder(folder) as temporary:
        for name, frame in tables.items():
            frame.to_parquet(temporary / f"{name}.parquet", index=False)
        for name, content in (more or {}).items():
            (temporary / name).write_bytes(content)
        document = json.dumps(provenance(job), indent=1, default=str)
        (temporary / PROVENANCE).write_text(document + "\n")
