"""Cleaning: exactly what belongs to the SAE goes, what somebody may need stays."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from saeborzoi.errors import CatalogError, ComputeError, PartitionKeyError, StoreError
from saeborzoi.settings import load_settings
from saeborzoi_assets import removal
from saeborzoi_assets.instance import HOME_VARIABLE, ensure_home
from saeborzoi_resources import cleaning
from saeborzoi_resources.catalog import Catalog
from saeborzoi_resources.scope import Made, Scope
from saeborzoi_resources.store import Store

KEY = "conv1d_1_x4_k0.05_lr0.003_s1"
LONGER = "conv1d_1_x4_k0.05_lr0.003_s10"
_SETTINGS = """
[project]
name = "test"
[data]
genome = "genome.fa"
[[layer]]
name = "conv1d_1"
n_channels = 608
bp_per_position = 2
train = { shards = "shards", windows = "train_seqs.bed" }
[[sae]]
layer = "conv1d_1"
seed = 1
"""
OLD = 3 * cleaning.DAY_S


class Project:
    """A store with two SAEs, one key the beginning of the other."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "dagster_project.toml"
        self.file.write_text(_SETTINGS)
        self.settings = load_settings(self.file)
        self.store = Store(self.settings.project.store)
        self.catalog = Catalog(self.store.catalog)
        for key in (KEY, LONGER):
            self.make(key, "umap_embedding")
            self.put(self.store.work(key, "trained_sae") / "checkpoint")
            self.put(self.store.browser / key / "index.html")
            self.put(self.store.jobs / f"trained_sae-{key}-0123456789abcdef" / "log.txt")
            self.put(self.store.jobs / f"seqlets-{key}-n0000-n0003.0a1b2c3d-0123" / "log.txt")

    def make(self, key: str, asset: str) -> Path:
        artifact = self.store.sae_artifact(key, asset)
        self.put(artifact / "table.parquet")
        rows = pd.DataFrame(
            {"node": [0, 1], "umap_1": 0.0, "umap_2": 0.0, "cluster": 0, "motif_family": 0}
        )
        rows["motif_family"] = None
        self.catalog.replace(
            Made(asset, "run", "1", "v", artifact),
            Scope(hyperparameters=key),
            {"node_embedding": rows} if asset == "umap_embedding" else {},
        )
        return artifact

    def put(self, path: Path, text: str = "12345") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def files(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.store.root))
            for path in self.store.root.rglob("*")
            if path.is_file() and not path.name.startswith("catalog.duckdb")
        )

    def plan(self, key: str = KEY) -> cleaning.Removal:
        return cleaning.plan_removal(self.settings, self.store, self.catalog, key)

    def leftovers(self, age_s: float = OLD) -> dict[str, str]:
        """Path to why, as seen `age_s` from now."""
        now = self.file.stat().st_mtime + age_s
        found = cleaning.orphans(self.store, self.catalog, now)
        return {str(each.path.relative_to(self.store.root)): each.why for each in found.leftovers}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv(HOME_VARIABLE, "")  # noted, so that what a test sets is undone after it
    monkeypatch.delenv(HOME_VARIABLE)
    return Project(tmp_path)


def test_the_plan_names_what_goes_and_changes_nothing(project: Project) -> None:
    before = project.files()
    plan = project.plan()
    assert plan.rows == {"node_embedding": 2, "materialization": 1}
    assert (plan.n_files, plan.n_bytes) == (5, 25)
    assert plan.is_wanted
    assert not project.plan(LONGER).is_wanted
    text = cleaning.removal_as_text(plan)
    assert "2 rows of node_embedding" in text
    assert "will be made again" in text
    assert project.files() == before


def test_removing_an_sae_leaves_one_whose_key_begins_the_same(project: Project) -> None:
    cleaning.remove(project.store, project.catalog, project.plan())
    assert project.files() != []
    assert all(LONGER in file for file in project.files())
    assert len(project.files()) == 5
    assert project.plan().rows == {}
    assert project.plan(LONGER).rows == {"node_embedding": 2, "materialization": 1}


def test_links_are_removed_and_never_followed(project: Project, tmp_path: Path) -> None:
    precious = project.put(tmp_path / "elsewhere" / "precious.txt")
    (project.store.sae_artifact(KEY, "linked")).symlink_to(precious.parent)
    (project.store.browser / KEY / "index.html").unlink()
    (project.store.browser / KEY).rmdir()
    (project.store.browser / KEY).symlink_to(precious.parent)
    cleaning.remove(project.store, project.catalog, project.plan())
    assert precious.exists()
    assert not (project.store.browser / KEY).is_symlink()


def test_a_folder_that_lies_elsewhere_through_a_link_is_refused(
    project: Project, tmp_path: Path
) -> None:
    outside = tmp_path / "big_disk"
    (project.store.root / "saes").rename(outside)
    (project.store.root / "saes").symlink_to(outside)
    with pytest.raises(StoreError, match="lies outside of the store"):
        cleaning.remove(project.store, project.catalog, project.plan())
    assert project.plan().rows["node_embedding"] == 2
    assert (outside / KEY).is_dir()


def test_a_store_that_is_a_link_itself_is_cleaned(project: Project, tmp_path: Path) -> None:
    (tmp_path / "store").rename(tmp_path / "big_disk")
    (tmp_path / "store").symlink_to(tmp_path / "big_disk")
    cleaning.remove(project.store, project.catalog, project.plan())
    assert not (tmp_path / "big_disk" / "saes" / KEY).exists()


def test_an_sae_at_work_is_refused(project: Project) -> None:
    job = project.store.jobs / f"trained_sae-{KEY}-0123456789abcdef"
    with FileLock(job / "lock"), pytest.raises(StoreError, match="a run works on this job"):
        cleaning.remove(project.store, project.catalog, project.plan())
    assert len(project.files()) > 5
    assert project.plan().rows["node_embedding"] == 2


def test_nothing_goes_where_the_catalogue_cannot_be_read(project: Project) -> None:
    before = project.files()
    project.catalog.path.write_bytes(b"not a database" * 1000)
    for action in (project.plan, project.leftovers):
        with pytest.raises(CatalogError, match="cannot be opened"):
            action()
    project.catalog.path.unlink()
    for action in (project.plan, project.leftovers):
        with pytest.raises(CatalogError, match="there is no catalogue"):
            action()
    assert project.files() == before


def test_a_malformed_key_names_the_nearest(project: Project) -> None:
    project.catalog.replace(
        Made("trained_sae", "run", "1", "v", project.store.root), Scope(hyperparameters=KEY), {}
    )
    with pytest.raises(PartitionKeyError, match="is not a set of hyperparameters"):
        project.plan("../../etc")


def test_a_folder_without_rights_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(cleaning.shutil, "rmtree", refuse)
    with pytest.raises(StoreError, match=r"cannot be removed \(Permission denied"):
        cleaning.remove(project.store, project.catalog, project.plan())


# -- orphans ---------------------------------------------------------------------------------


def test_what_stands_is_no_orphan_whatever_its_age(project: Project) -> None:
    saes = {name for name in project.leftovers() if name.startswith("saes/")}
    assert saes == set()


def test_artifacts_without_rows_are_found_whole_or_by_batch(project: Project) -> None:
    batch = project.store.batch(KEY, "seqlets", [0, 1], "new")
    old = project.store.batch(KEY, "seqlets", [0, 1], "old")
    for folder in (batch, old):
        project.put(folder / "seqlet.parquet")
    project.put(project.store.sae_artifact(KEY, "jaccard_matrix") / "table.parquet")
    project.put(project.store.layer_artifact("conv1d_9", "normalization_constants") / "x")
    project.put(project.store.project_artifact("sae_comparison") / "x")
    project.catalog.replace(
        Made("seqlets", "run", "1", "v", batch), Scope(hyperparameters=KEY, nodes=(0, 1)), {}
    )
    found = {name for name in project.leftovers() if not name.startswith(("jobs", "work", "bro"))}
    assert found == {
        f"saes/{KEY}/seqlets/{old.name}",
        f"saes/{KEY}/jaccard_matrix",
        "layers/conv1d_9/normalization_constants",
        "project/sae_comparison",
    }
    assert project.leftovers(age_s=60) == {}


def test_an_artifact_that_a_running_job_fills_is_no_orphan(project: Project) -> None:
    project.put(project.store.batch(KEY, "seqlets", [0, 1, 2, 3], "v") / "part.parquet")
    name = f"saes/{KEY}/seqlets"
    assert name in project.leftovers()
    with FileLock(project.store.jobs / f"seqlets-{KEY}-n0000-n0003.0a1b2c3d-0123" / "lock"):
        assert name not in project.leftovers()


def test_rows_whose_artifact_is_gone_are_named_and_stay(project: Project) -> None:
    artifact = project.store.sae_artifact(KEY, "umap_embedding")
    (artifact / "table.parquet").unlink()
    artifact.rmdir()
    found = cleaning.orphans(project.store, project.catalog)
    assert found.lost == (cleaning.LostArtifact("umap_embedding", KEY, 1, artifact),)
    assert f"umap_embedding {KEY}" in cleaning.orphans_as_text(found)
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
    found = {name: why for name, why in project.leftovers().items() if name.startswith("jobs/")}
    assert found == {
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


def test_a_catalogue_of_another_store_makes_no_orphans(project: Project, tmp_path: Path) -> None:
    project.store.root.rename(tmp_path / "moved")
    moved = Store(tmp_path / "moved")
    with pytest.raises(StoreError, match="set \\[project\\] store to where the artifacts lie"):
        cleaning.orphans(moved, Catalog(moved.catalog))


def test_removing_orphans_removes_them_only(project: Project) -> None:
    project.put(project.store.sae_artifact(KEY, "jaccard_matrix") / "table.parquet")
    found = cleaning.orphans(project.store, project.catalog, project.file.stat().st_mtime + OLD)
    assert "nothing needs" in cleaning.orphans_as_text(found)
    cleaning.remove_leftovers(project.store, found.leftovers)
    assert not project.store.sae_artifact(KEY, "jaccard_matrix").exists()
    assert project.store.sae_artifact(KEY, "umap_embedding").exists()
    assert project.leftovers() == {}


# -- with Dagster ----------------------------------------------------------------------------


def test_the_command_says_first_and_then_forgets_the_partition(project: Project) -> None:
    import dagster as dg

    home = ensure_home(project.file.parent)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions("hyperparameters", [KEY, LONGER])
        before = project.files()
        assert "add --yes" in removal.remove_sae(project.file, KEY, for_good=False)
        assert project.files() == before
        run = instance.create_run_for_job(
            dg.define_asset_job("job").resolve(asset_graph=_graph()),
            tags={"dagster/partition": f"{KEY}|n0001"},
            status=dg.DagsterRunStatus.STARTED,
        )
        with pytest.raises(ComputeError, match=f"run {run.run_id} of {KEY} is not finished"):
            removal.remove_sae(project.file, KEY, for_good=True)
        assert project.files() == before
        instance.report_run_failed(run)
        assert "with its partition" in removal.remove_sae(project.file, KEY, for_good=True)
        assert list(instance.get_dynamic_partitions("hyperparameters")) == [LONGER]
    start_page = (project.store.browser / "index.html").read_text()
    assert KEY not in start_page.replace(LONGER, "")
    assert not any(KEY in file.replace(LONGER, "") for file in project.files())


def test_the_command_works_without_an_instance_and_makes_none(project: Project) -> None:
    assert removal.remove_sae(project.file, KEY, for_good=True).endswith("removed")
    assert not (project.file.parent / ".dagster").exists()


def test_the_command_for_orphans_keeps_until_told(project: Project) -> None:
    orphan = project.put(project.store.sae_artifact(KEY, "jaccard_matrix") / "table.parquet")
    for path in (orphan, orphan.parent):
        os.utime(path, (0, 0))
    assert "add --yes" in removal.remove_orphans(project.file, for_good=False)
    assert orphan.exists()
    assert removal.remove_orphans(project.file, for_good=True).endswith("removed")
    assert not orphan.exists()
    assert removal.remove_orphans(project.file, for_good=True).startswith("0 files")


def _graph():  # type: ignore[no-untyped-def]
    import dagster as dg

    @dg.asset
    def something() -> None:
        pass

    return dg.Definitions(assets=[something]).resolve_asset_graph()
