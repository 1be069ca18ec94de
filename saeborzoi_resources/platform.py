"""The one Dagster resource: settings, store, catalogue and compute of a project.

What an asset needs to know about its partition (which SAE, which inputs, which version of them)
is worked out here; what it makes of that is the asset's business.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import pandas as pd

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.questions import versions_by_owner
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.catalog.store import Store, batch_name
from saeborzoi.errors import PartitionKeyError
from saeborzoi.jobs.fingerprint import fingerprint_files, fingerprint_of
from saeborzoi.jobs.job import Job, subject_of_set
from saeborzoi.jobs.provenance import require_whole, write_artifact
from saeborzoi.pipeline import ARTIFACT, Artifact
from saeborzoi.settings.artifacts import inputs_of
from saeborzoi.settings.hyperparameters import (
    Hyperparameters,
    PartitionKey,
    node_key,
    set_key,
)
from saeborzoi.settings.load import Settings, load_settings
from saeborzoi.settings.sections import Layer
from saeborzoi.settings.user_files import files_of, settings_of
from saeborzoi_resources.compute import ComputeBackend, make_compute
from saeborzoi_resources.compute.warm import threads_of
from saeborzoi_resources.dead_runs import hold_mark


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


A_FILE = "a file"
"""Stands in a version for the place of a file whose content counts."""


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
    def compute(self) -> ComputeBackend:
        """Where heavy stages run."""
        return make_compute(self.settings, self.store.jobs)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Mark the run as alive while this process works on it."""
        if context.run is not None:
            hold_mark(self.store.jobs, context.run.run_id)

    def sae(self, key: str) -> Sae:
        """The SAE of a partition key, refused where the settings cannot serve it."""
        hyperparameters = self.settings.parse_key(key)
        return Sae(key, hyperparameters, self.settings.layer_named(hyperparameters.layer))

    # -- versions: what a result was made from ------------------------------------------------

    def version_of(
        self,
        name: str,
        owner: str,
        nodes: Sequence[int] | None = None,
        variant_set: str | None = None,
    ) -> Version:
        """Everything that a partition of an artifact depends on, as it is now.

        Parameters
        ----------
        name
            The artifact, as `saeborzoi.pipeline` declares it.
        owner
            Its layer, SAE or set of variants; `PROJECT` for what is of the whole project.
        nodes
            Where it has a partition a node: of its inputs by node, only these nodes count.
        variant_set
            Where it has a partition an SAE and set of variants: of its inputs by set, only this
            set counts, and of the settings and files no other set.
        """
        artifact = ARTIFACT[name]
        settings = self._settings_of(owner, variant_set)
        layer, _ = self._subject(artifact, owner)
        by_node = nodes if artifact.grain == "node" else None
        files = self.files_of(name, owner, variant_set)
        with self.catalog.kept_open():
            untrained = self.untrained_beside(owner) if artifact.untrained else None
            inputs = {
                each: self._versions_of(ARTIFACT[each], owner, layer, by_node, variant_set)
                for each in inputs_of(artifact, self.settings, layer)
            } | {
                f"{each} of {untrained}": self.catalog.data_versions(each, untrained)
                for each in artifact.untrained
                if untrained is not None
            }
        made_from = {
            "asset": name,
            "code": artifact.code_version,
            "owner": owner,
            **({} if variant_set is None else {"variant_set": variant_set}),
            "settings": self._portable(settings_of(artifact, settings, layer), set(files)),
            "files": fingerprint_files(files, self.store.fingerprints) if files else None,
            "inputs": inputs,
        }
        return Version(name, fingerprint_of(made_from), made_from, tuple(files))

    def untrained_beside(self, key: str) -> str | None:
        """Partition key of the untrained dictionary of an SAE's layer, expansion and k whose
        seqlets are all made; that of its seed where there are several. None where there is none,
        and of a baseline."""
        sae = self.sae(key)
        mine = sae.hyperparameters
        if mine.is_baseline:
            return None
        untrained = [
            other
            for owner, made in versions_by_owner(self.catalog, "seqlets").items()
            if (other := Hyperparameters.from_key(owner)).recipe == "untrained"
            and (other.layer, other.expansion, other.topk)
            == (mine.layer, mine.expansion, mine.topk)
            and sum(made.values()) == sae.n_nodes
        ]
        nearest = min(
            untrained, key=lambda other: (other.seed != mine.seed, other.key), default=None
        )
        return None if nearest is None else nearest.key

    def files_of(self, name: str, owner: str, variant_set: str | None = None) -> list[Path]:
        """The user's files that a partition of an artifact is made from."""
        artifact = ARTIFACT[name]
        layer, hyperparameters = self._subject(artifact, owner)
        settings = self._settings_of(owner, variant_set)
        return files_of(artifact, settings, layer, hyperparameters)

    def _settings_of(self, owner: str, variant_set: str | None) -> Settings:
        """The settings; for what is of a set of variants with no other one."""
        name = PartitionKey(owner, variant_set=variant_set).of_set
        return self.settings if name is None else self.settings.of_set(name)

    def _subject(
        self, artifact: Artifact, owner: str
    ) -> tuple[Layer | None, Hyperparameters | None]:
        """Layer and hyperparameters that a partition of an artifact is about."""
        if artifact.grain in ("project", "variants"):
            return None, None
        if artifact.grain == "layer":
            return self.settings.layer_named(owner), None
        sae = self.sae(owner)
        return sae.layer, sae.hyperparameters

    def _portable(self, value: Any, files: set[Path]) -> Any:
        """Settings without the places of files: content tells those that are read, which the
        version has; others count relative to the settings file."""
        if isinstance(value, Mapping):
            return {name: self._portable(item, files) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._portable(item, files) for item in value]
        if isinstance(value, Path) or (isinstance(value, str) and os.path.isabs(value)):
            folder = Path(self.settings_file).parent
            if Path(value) in files:
                return A_FILE
            return os.path.relpath(value, folder) if Path(value).is_relative_to(folder) else value
        return value

    def _versions_of(
        self,
        artifact: Artifact,
        owner: str,
        layer: Layer | None,
        nodes: Sequence[int] | None,
        variant_set: str | None = None,
    ) -> list[str] | dict[str, dict[str, int]]:
        """Distinct data versions of an artifact's standing partitions, of the SAE, its layer or the
        set of variants; of the whole project, by SAE and with the number of partitions."""
        if layer is None:
            return versions_by_owner(self.catalog, artifact.name)
        if artifact.grain == "variants":
            assert variant_set is not None, "what is made of a set's effects is of a set, too"
            return self.catalog.data_versions(artifact.name, set_key(variant_set))
        standing_of = layer.name if artifact.grain == "layer" else owner
        of_set = variant_set if artifact.grain == "sae_variants" else None
        return self.catalog.data_versions(artifact.name, standing_of, nodes, of_set)

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
        variant_set: str | None = None,
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
        subject = (
            owner if variant_set is None else subject_of_set(variant_set, sae.key if sae else None)
        )
        parts = [stage, subject, *([batch_name(nodes)] if nodes else []), digest]
        is_of_set = sae is None and variant_set is not None
        return Job(
            job_id="-".join(parts),
            stage=stage,
            settings=self._settings_of(owner, variant_set),
            layer=layer.name,
            hyperparameters=sae.hyperparameters if sae else None,
            nodes=tuple(nodes),
            variant_set=variant_set,
            inputs=dict(inputs or {}),
            output=output,
            work=self.store.work(subject if is_of_set else owner, "-".join([stage, *parts[2:]])),
            threads=self.threads(stage),
            run_id=run_id,
            together={key: self.store.sae_artifact(key, stage) for key in together or ()},
            data_versions={
                owner: version.digest,
                **{key: other.digest for key, other in (together or {}).items()},
            },
            input_versions=self._versions_of_artifacts(inputs or {}, owner),
        )

    def _versions_of_artifacts(self, names: Iterable[str], owner: str) -> dict[str, str]:
        """Data versions of whole artifacts of an SAE or its layer, as the catalogue has them."""
        layer = self._layer_of(owner)
        versions = {
            name: self._versions_of(ARTIFACT[name], owner, layer, None)
            for name in names
            if name in ARTIFACT  # else rows that were taken out of the catalogue for the job
        }
        return {
            name: str(next(iter(digests)))
            for name, digests in versions.items()
            if len(digests) == 1
        }

    def _layer_of(self, owner: str) -> Layer:
        """The layer that an owner is, or that the SAE reads."""
        for layer in self.settings.layer:
            if layer.name == owner:
                return layer
        return self.sae(owner).layer

    def artifact(self, asset: str, owner: str) -> Path:
        """Folder of an artifact of a layer or SAE, to be read.

        Raises
        ------
        CatalogError
            Where it was not made, or not catalogued, yet.
        StoreError
            Where it is gone, a file of it is damaged, or it is another one than the catalogue says.
        """
        with self.catalog.kept_open():
            self.catalog.require_made(asset, owner)
            version = self._versions_of_artifacts([asset], owner).get(asset)
        is_of_layer = ARTIFACT[asset].grain == "layer"
        place = self.store.layer_artifact if is_of_layer else self.store.sae_artifact
        folder = self.store.require_artifact(place(owner, asset), asset, owner)
        return require_whole(folder, version)

    def threads(self, stage: str) -> int:
        """Cores of a stage: its profile's, else all of this machine, or one of the cluster's."""
        return threads_of(self.settings.compute, stage)

    def record(
        self,
        made: Made,
        scope: Scope,
        tables: Mapping[str, pd.DataFrame],
        tell: Callable[[str], None] = print,
    ) -> int:
        """Catalogue a result; waits as long as somebody else has the catalogue open, and tells."""
        return self.catalog.replace(made, scope, tables, tell)


def write_tables(
    folder: Path,
    tables: Mapping[str, pd.DataFrame],
    version: Version,
    document: dict[str, Any],
    more: Mapping[str, bytes] | None = None,
) -> None:
    """Write an artifact's tables as `<name>.parquet` and more files by their names, whole, with
    their provenance."""
    with write_artifact(folder, version.digest, document) as temporary:
        for name, frame in tables.items():
            frame.to_parquet(temporary / f"{name}.parquet", index=False)
        for name, content in (more or {}).items():
            (temporary / name).write_bytes(content)
