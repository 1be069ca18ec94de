"""Cleaning: exactly what belongs to the layer, SAE or nodes goes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from saeborzoi.catalog.schema import TABLE
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.errors import CatalogError, PartitionKeyError, StoreError
from saeborzoi.settings.hyperparameters import partition_keys
from saeborzoi_assets.commands import removal
from saeborzoi_resources.upkeep import cleaning, store_files
from tests.upkeep.two_saes import KEY, LONGER, Project


def test_the_plan_names_what_goes_and_changes_nothing(project: Project) -> None:
    before = project.files()
    plan = project.plan()
    assert plan.rows == {"node_embedding": 2, "materialization": 1}
    own = [project.store.root / file for file in before if KEY in file and LONGER not in file]
    assert len(own) == 7  # five of the artifacts and jobs, two of what the catalogue has of one
    assert (plan.n_files, plan.n_bytes) == (7, sum(file.stat().st_size for file in own))
    assert plan.wanted == (KEY,)
    assert project.plan(LONGER).wanted == ()
    text = cleaning.removal_as_text(plan)
    assert "2 rows of node_embedding" in text
    assert "will be made again" in text
    assert project.files() == before


def test_removing_an_sae_leaves_one_whose_key_begins_the_same(project: Project) -> None:
    cleaning.remove(project.store, project.catalog, project.plan())
    assert project.files() != []
    assert all(LONGER in file for file in project.files())
    assert len(project.files()) == 7
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


@pytest.mark.parametrize(
    "lock",
    [f"seqlets-{KEY}-n0000-n0003.0a1b2c3d-0123/lock", f".locks/trained_sae-{KEY}"],
    ids=["batch", "whole"],
)
def test_an_sae_at_work_is_refused(project: Project, lock: str) -> None:
    path = project.put(project.store.jobs / lock)
    for plan in (project.plan(), project.plan("conv1d_1"), project.plan(nodes=[3])):
        with FileLock(path), pytest.raises(StoreError, match="a run works on this job"):
            cleaning.remove(project.store, project.catalog, plan)
    assert len(project.files()) > 10
    assert project.plan().rows["node_embedding"] == 2
    with FileLock(path):
        cleaning.remove(project.store, project.catalog, project.plan(LONGER))


def test_an_sae_in_a_job_of_several_is_refused(project: Project) -> None:
    path = project.put(project.store.jobs / ".locks" / f"trained_sae-{KEY}")
    for folder in project.store.jobs.glob(f"*-{KEY}-*"):
        shutil.rmtree(folder)
    with FileLock(path), pytest.raises(StoreError, match="a run works on this job"):
        cleaning.remove(project.store, project.catalog, project.plan())


def test_nothing_goes_where_the_catalogue_cannot_be_read(project: Project) -> None:
    before = project.files()
    project.catalog.path.write_bytes(b"not a database" * 1000)
    with pytest.raises(CatalogError, match="is damaged"):
        project.plan()
    project.catalog.path.unlink()
    with pytest.raises(CatalogError, match="there is no catalogue"):
        project.plan()
    assert project.files() == before


@pytest.mark.parametrize(
    ("target", "nearest"),
    [
        (KEY.replace("_s1", "_s3"), KEY),
        (KEY.replace("_k", "-k"), KEY),
        ("conv1d1", "conv1d_1"),
        ("../../etc", "conv1d_1"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest(
    project: Project, target: str, nearest: str
) -> None:
    with pytest.raises(
        PartitionKeyError, match=f"there is no layer, SAE or set .* nearest .*{nearest}"
    ):
        project.plan(target)


def test_a_layer_goes_with_its_saes(project: Project) -> None:
    constants = project.store.layer_artifact("conv1d_1", "normalization_constants")
    project.put(constants / "x.parquet")
    project.catalog.replace(
        Made("normalization_constants", "run", "1", "v", constants),
        Scope(layer="conv1d_1"),
        {
            "channel_normalization": pd.DataFrame(
                {"channel": [0, 1], "activation_max": 1.0, "activation_max_seen": 1.0}
            )
        },
    )
    other = "conv1d_2_x4_k0.05_lr0.003_s1"
    project.make(other, "umap_embedding")
    plan = project.plan("conv1d_1")
    assert plan.saes == [KEY, LONGER]
    assert plan.rows == {"node_embedding": 4, "materialization": 3, "channel_normalization": 2}
    assert plan.wanted == (KEY,)
    assert "conv1d_1, layer with 2 SAEs: 17 files" in cleaning.removal_as_text(plan)
    cleaning.remove(project.store, project.catalog, plan)
    assert all(other in file for file in project.files())
    assert project.catalog.whole("materialization")["owner"].tolist() == [other]


def test_a_layer_that_the_settings_no_longer_have_can_be_removed(project: Project) -> None:
    project.make("conv1d_9_x4_k0.05_lr0.003_s1", "umap_embedding")
    plan = project.plan("conv1d_9")
    assert plan.saes == ["conv1d_9_x4_k0.05_lr0.003_s1"]
    cleaning.remove(project.store, project.catalog, plan)
    assert not any("conv1d_9" in file for file in project.files())


def test_a_pair_of_saes_of_the_layer_counts_once(project: Project) -> None:
    pair = pd.DataFrame({"hyperparameters_a": [KEY], "hyperparameters_b": [LONGER]})
    for column in TABLE["sae_stability"].columns[2:]:
        pair[column.name] = "x" if column.type == "VARCHAR" else 1
    project.catalog.replace(
        Made("sae_comparison", "run", "1", "v", project.store.root),
        Scope(),
        {"sae_stability": pair},
    )
    assert project.plan("conv1d_1").rows["sae_stability"] == 1
    assert project.plan(LONGER).rows["sae_stability"] == 1


def test_nodes_go_and_the_others_of_their_batch_stay(project: Project) -> None:
    shared = project.batch(KEY, "seqlets", [0, 1, 2, 3], ["seqlet", "node_selection"])
    whole = project.batch(KEY, "meme_motifs", [2, 3], ["n0002-n0003"])
    alone = project.batch(KEY, "meme_motifs", [0, 1], ["n0000-n0001"])
    others = project.batch(LONGER, "seqlets", [2, 3], ["seqlet"])
    before = alone.stat(), (alone / "n0000-n0001.parquet").read_bytes()
    plan = project.plan(nodes=[2, 3, 7])
    assert plan.rows == {"materialization": 4}
    assert plan.folders == (whole,)
    assert plan.cut == ((shared, (2, 3)),)
    text = cleaning.removal_as_text(plan)
    assert f"{KEY}, nodes 2-3,7: " in text
    assert f"rows of 2 nodes out of the tables in {shared}" in text
    cleaning.remove(project.store, project.catalog, plan)
    assert not whole.exists()
    for table in ("seqlet", "node_selection"):
        left = pd.read_parquet(shared / f"{table}.parquet")
        assert left["node"].tolist() == [0, 0, 1, 1]
        assert left["node"].dtype == "int32"
    assert (shared / "provenance.json").exists()
    assert (alone.stat(), (alone / "n0000-n0001.parquet").read_bytes()) == before
    assert len(pd.read_parquet(others / "seqlet.parquet")) == 4
    made = project.catalog.partitions_made("seqlets", KEY)
    assert made == set(partition_keys(KEY, [0, 1]))
    assert project.plan().rows["node_embedding"] == 2
    assert project.plan(nodes=[2, 3]).rows == {}


def test_unfinished_work_and_jobs_of_nothing_but_the_nodes_go(project: Project) -> None:
    work = project.store.root / "work" / KEY
    partly = project.put(work / "meme_motifs-n0002-n0009-0123" / "n0002.json")
    fully = project.put(work / "meme_motifs-n0002-n0003-0123" / "n0002.json")
    job = project.put(project.store.jobs / f"meme_motifs-{KEY}-n0003-0123" / "log.txt")
    cleaning.remove(project.store, project.catalog, project.plan(nodes=[2, 3]))
    assert partly.exists()
    assert not fully.parent.exists()
    assert not job.parent.exists()
    assert (project.store.jobs / f"trained_sae-{KEY}-0123456789abcdef").exists()


def test_results_that_rest_on_the_nodes_are_named(project: Project) -> None:
    project.batch(KEY, "seqlets", [0, 1], ["seqlet"])
    for asset, inputs in (
        ("motif_evidence", ["seqlets"]),
        ("feature_browser", ["motif_evidence"]),
        ("top_activations", ["trained_sae"]),
    ):
        made_from = {"inputs": {name: ["v"] for name in inputs}}
        project.catalog.replace(
            Made(asset, "run", "1", "v", project.store.root, made_from),
            Scope(sae_key=KEY),
            {},
        )
    plan = project.plan(nodes=[1])
    assert plan.resting_on == ("feature_browser", "motif_evidence")
    text = cleaning.removal_as_text(plan)
    assert "made from these nodes, too, and kept: feature_browser, motif_evidence" in text
    assert project.plan(nodes=[2]).resting_on == ()


def test_nodes_that_there_are_not_are_refused(project: Project) -> None:
    with pytest.raises(PartitionKeyError, match="has 2432 nodes"):
        project.plan(nodes=[0, 2432])
    with pytest.raises(PartitionKeyError, match=f"is a layer, which has no nodes.*{KEY}"):
        project.plan("conv1d_1", nodes=[0])


@pytest.mark.parametrize(
    ("text", "nodes", "parsed"),
    [
        (KEY, None, (KEY, None)),
        (KEY, "3, 7-9,11", (KEY, [3, 7, 8, 9, 11])),
        (f"{KEY}|n0003", None, (KEY, [3])),
    ],
)
def test_targets_as_people_write_them(
    text: str, nodes: str | None, parsed: tuple[str, list[int] | None]
) -> None:
    assert removal.parse_target(text, nodes) == parsed


@pytest.mark.parametrize("nodes", ["", "3,", "n0003", "9-7", "3-", "-1"])
def test_malformed_nodes_are_refused(nodes: str) -> None:
    with pytest.raises(PartitionKeyError, match=r"write e\.g\. 3,7-9"):
        removal.parse_target(KEY, nodes)
    with pytest.raises(PartitionKeyError, match="use one of the two"):
        removal.parse_target(f"{KEY}|n0003", "4")


def test_a_folder_without_rights_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(store_files.shutil, "rmtree", refuse)
    with pytest.raises(StoreError, match=r"cannot be removed \(Permission denied"):
        cleaning.remove(project.store, project.catalog, project.plan())
