"""Orphans: what nothing refers to is found, what somebody may need stays."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb
import pytest
from filelock import FileLock

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.catalog.store import Store
from saeborzoi.errors import CatalogError, StoreError
from saeborzoi.settings.hyperparameters import PartitionKey
from saeborzoi_assets.commands import removal
from saeborzoi_resources.upkeep import cleaning
from saeborzoi_resources.upkeep.orphans import (
    LostArtifact,
    orphans,
    orphans_as_text,
    remove_leftovers,
)
from tests.upkeep.two_saes import KEY, OLD, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_what_stands_is_no_orphan_whatever_its_age(project: Project) -> None:
    saes = {name for name in project.leftovers() if name.startswith("saes/")}
    assert saes == set()


def test_artifacts_without_rows_are_found_whole_or_by_batch(project: Project) -> None:
    batch = project.store.batch(KEY, "seqlets", [0, 1], "new", "run")
    old = project.store.batch(KEY, "seqlets", [0, 1], "old", "run")
    for folder in (batch, old):
        project.put(folder / "seqlet.parquet")
    project.put(project.store.sae_artifact(KEY, "jaccard_matrix") / "table.parquet")
    project.put(project.store.layer_artifact("conv1d_9", "normalization_constants") / "x")
    project.put(project.store.project_artifact("sae_comparison") / "x")
    project.catalog.replace(
        Made("seqlets", "run", "1", "v", batch), Scope(sae_key=KEY, nodes=(0, 1)), {}
    )
    paths = {name for name in project.leftovers() if not name.startswith(("jobs", "work", "bro"))}
    assert paths == {
        f"saes/{KEY}/seqlets/{old.name}",
        f"saes/{KEY}/jaccard_matrix",
        "layers/conv1d_9/normalization_constants",
        "project/sae_comparison",
    }
    assert project.leftovers(age_s=60) == {}


def test_an_artifact_that_a_running_job_fills_is_no_orphan(project: Project) -> None:
    project.put(project.store.batch(KEY, "seqlets", [0, 1, 2, 3], "v", "run") / "part.parquet")
    name = f"saes/{KEY}/seqlets"
    assert name in project.leftovers()
    with FileLock(project.store.jobs / f"seqlets-{KEY}-n0000-n0003.0a1b2c3d-0123" / "lock"):
        assert name not in project.leftovers()


def test_rows_whose_artifact_is_gone_are_named_and_stay(project: Project) -> None:
    artifact = project.store.sae_artifact(KEY, "umap_embedding")
    shutil.rmtree(artifact)
    orphaned = orphans(project.store, project.catalog)
    assert orphaned.lost == (LostArtifact("umap_embedding", PartitionKey(KEY), 1, artifact),)
    assert f"umap_embedding {KEY}" in orphans_as_text(orphaned)
    assert project.plan().rows["node_embedding"] == 2


def test_leftovers_of_killed_writes_but_not_the_last_good_artifact(project: Project) -> None:
    folder = project.store.sae_artifact(KEY, "umap_embedding")
    project.put(folder.parent / ".umap_embedding.x7y8z9" / "table.parquet")
    project.put(folder.parent / ".umap_embedding.old-77" / "table.parquet")
    project.put(folder.parent / ".trained_sae.old-77" / "sae.safetensors")
    project.put(project.store.root / ".catalog.parquet")
    killed = {name for name, why in project.leftovers().items() if "killed" in why}
    assert killed == {
        f"saes/{KEY}/.umap_embedding.x7y8z9",
        f"saes/{KEY}/.umap_embedding.old-77",
        ".catalog.parquet",
    }


def test_finished_jobs_but_not_a_result_that_nobody_took(project: Project) -> None:
    jobs = project.store.jobs
    for name, status in (("taken", "success"), ("untaken", "success"), ("failed", "error")):
        project.put(jobs / f"trained_sae-{KEY}-{name}" / "result.json", f'{{"status": "{status}"}}')
    project.put(jobs / f"trained_sae-{KEY}-taken" / "taken.json", "{}")
    project.put(jobs / f"trained_sae-{KEY}-damaged" / "result.json", "half a docu")
    reasons = {name: why for name, why in project.leftovers().items() if name.startswith("jobs/")}
    assert reasons == {
        f"jobs/trained_sae-{KEY}-taken": "a finished job",
        f"jobs/trained_sae-{KEY}-failed": "a job that failed",
    }


def test_work_is_left_while_a_job_or_result_may_need_it(project: Project) -> None:
    assert not [name for name in project.leftovers() if name.startswith("work/")]
    cleaning.remove(project.store, project.catalog, project.plan())
    project.put(project.store.work(KEY, "trained_sae") / "checkpoint")
    assert f"work/{KEY}" in project.leftovers()
    project.put(project.store.jobs / f"trained_sae-{KEY}-0123456789abcdef" / "job.json")
    assert f"work/{KEY}" not in project.leftovers()


def test_a_store_that_was_moved_has_the_same_artifacts(project: Project, tmp_path: Path) -> None:
    before = orphans(project.store, project.catalog)
    project.store.root.rename(tmp_path / "moved")
    moved = Store(tmp_path / "moved")
    after = orphans(moved, Catalog(moved.catalog))
    assert after.lost == before.lost == ()
    assert len(after.leftovers) == len(before.leftovers)


def test_artifacts_of_another_store_make_no_orphans(project: Project) -> None:
    with duckdb.connect(str(project.catalog.path)) as connection:
        connection.execute("UPDATE materialization SET artifact = '/elsewhere/' || artifact")
    with pytest.raises(StoreError, match="set \\[project\\] store to where the artifacts lie"):
        orphans(project.store, project.catalog)


def test_removing_orphans_removes_them_only(project: Project) -> None:
    project.put(project.store.sae_artifact(KEY, "jaccard_matrix") / "table.parquet")
    orphaned = orphans(project.store, project.catalog, project.file.stat().st_mtime + OLD)
    assert "nothing needs" in orphans_as_text(orphaned)
    remove_leftovers(project.store, orphaned.leftovers)
    assert not project.store.sae_artifact(KEY, "jaccard_matrix").exists()
    assert project.store.sae_artifact(KEY, "umap_embedding").exists()
    assert project.leftovers() == {}


def test_the_command_for_orphans_keeps_until_told(project: Project) -> None:
    orphan = project.put(project.store.sae_artifact(KEY, "jaccard_matrix") / "table.parquet")
    for path in (orphan, orphan.parent):
        os.utime(path, (0, 0))
    assert "add --yes" in removal.remove_orphans(project.file, for_good=False)
    assert orphan.exists()
    assert removal.remove_orphans(project.file, for_good=True).endswith("removed")
    assert not orphan.exists()
    assert removal.remove_orphans(project.file, for_good=True).startswith("0 files")


def test_nothing_is_an_orphan_where_the_catalogue_cannot_be_read(project: Project) -> None:
    project.catalog.path.write_bytes(b"not a database" * 1000)
    with pytest.raises(CatalogError, match="is damaged"):
        project.leftovers()
    project.catalog.path.unlink()
    with pytest.raises(CatalogError, match="there is no catalogue"):
        project.leftovers()
