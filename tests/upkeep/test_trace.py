"""Tracing: the chain names what made each result, and says which change made it stale."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from saeborzoi.catalog.scope import PROJECT, Made, Scope
from saeborzoi.errors import CatalogError, PartitionKeyError
from saeborzoi.jobs import fingerprint
from saeborzoi.jobs.provenance import PROVENANCE, write_artifact
from saeborzoi.pipeline import ARTIFACT
from saeborzoi.settings.artifacts import artifacts_of
from saeborzoi.settings.hyperparameters import node_key
from saeborzoi_assets.definitions import build_definitions
from saeborzoi_assets.lacking import Range, work_of
from saeborzoi_resources.platform import Platform
from saeborzoi_resources.upkeep.trace import Link, as_text, trace

KEY = "conv1d_1_x1_k0.5_lr0.003_s0"
_SETTINGS = """
[project]
name = "test"
[data]
genome = "genome.fa"
[[layer]]
name = "conv1d_1"
n_channels = 4
bp_per_position = 2
train = { shards = "shards", windows = "windows.bed" }
[[sae]]
layer = "conv1d_1"
expansion = 1
topk = 0.5
"""


@pytest.fixture(scope="module")
def made_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose layer, SAE and nodes are made."""
    tmp_path = tmp_path_factory.mktemp("made")
    (tmp_path / "shards").mkdir()
    for name in ("shards/activations_0.h5", "windows.bed", "genome.fa"):
        (tmp_path / name).write_text(name)
    (tmp_path / "dagster_project.toml").write_text(_SETTINGS)
    for asset in artifacts_of(_platform(tmp_path).settings):
        _make(tmp_path, asset.name, (0, 1, 2, 3) if asset.grain == "node" else None)
    return tmp_path


@pytest.fixture
def project(made_project: Path, tmp_path: Path) -> Path:
    """A copy of it to change; its artifacts lie in the original."""
    return Path(shutil.copytree(made_project, tmp_path / "project"))


def _platform(project: Path) -> Platform:
    return Platform(settings_file=str(project / "dagster_project.toml"))


def _make(project: Path, name: str, nodes: tuple[int, ...] | None, run: str = "run-1") -> None:
    """Catalogue an asset as it would be made now."""
    platform = _platform(project)
    grain = ARTIFACT[name].grain
    owner = {"layer": "conv1d_1", "project": PROJECT}.get(grain, KEY)
    version = platform.version_of(name, owner, nodes)
    artifact = project / "store" / f"{name}-{nodes and nodes[0]}-{run}"
    with write_artifact(artifact, version.digest, {}) as new:
        (new / "rows").write_bytes(name.encode() * 100)
    code = version.made_from["code"]
    scope = {"layer": Scope(layer=owner), "project": Scope()}.get(grain, Scope(None, owner, nodes))
    platform.catalog.replace(
        Made(name, run, code, version.digest, artifact, version.made_from), scope, {}
    )


def _states(project: Path, key: str) -> dict[str, str]:
    return {link.asset: link.state for link in trace(_platform(project), key).links}


def _link(project: Path, asset: str, key: str = f"{KEY}|n0003") -> Link:
    (link,) = [link for link in trace(_platform(project), key).links if link.asset == asset]
    return link


def _edit(project: Path, old: str, new: str) -> None:
    path = project / "dagster_project.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_graph_has_every_artifact_and_the_files(made_project: Path) -> None:
    graph = build_definitions(made_project / "dagster_project.toml").resolve_asset_graph()
    named = {key.to_user_string() for key in graph.get_all_asset_keys()}
    settings = _platform(made_project).settings
    assert named == {"input_files", *(artifact.name for artifact in artifacts_of(settings))}


def test_a_fresh_chain_is_current_and_leads_to_run_files_and_artifact(project: Path) -> None:
    chain = trace(_platform(project), f"{KEY}|n0003")
    assert chain.is_current
    assert {link.state for link in chain.links} == {"current"}
    link = _link(project, "seqlets")
    assert (link.run_id, link.code_version, link.n_partitions) == (
        "run-1",
        ARTIFACT["seqlets"].code_version,
        4,
    )
    assert link.files == (project / "genome.fa", project / "windows.bed")
    assert link.data_fingerprint is not None
    assert link.artifact is not None
    assert link.artifact.is_dir()
    text = as_text(chain)
    for needed in (
        "seed 0",
        "run-1",
        link.data_fingerprint,
        str(link.artifact),
        str(link.files[0]),
    ):
        assert needed in text


def test_other_data_make_a_result_stale_and_what_rests_on_it_too(project: Path) -> None:
    (project / "shards/activations_0.h5").write_text("other activations")
    states = _states(project, f"{KEY}|n0003")
    assert states["normalization_constants"] == "stale"
    assert states["top_activations"] == "stale"
    assert states["seqlets"] == "rests on stale"
    assert states["tomtom_matches"] == "rests on stale"
    assert "files changed" in _link(project, "trained_sae").reason
    assert _link(project, "seqlets").reason == "top_activations"
    assert "stale: files changed" in as_text(trace(_platform(project), KEY))


def test_a_step_lacks_the_same_by_what_leads_to_it_as_by_the_whole_chain(project: Path) -> None:
    """`run` looks before each step at what leads to it alone."""
    _edit(project, "[[sae]]", "[selection]\nn_top = 770\n[[sae]]")
    platform = _platform(project)
    hyperparameters = platform.settings.wanted()[0]
    whole = work_of(platform, hyperparameters)
    assert {work.n_lacking > 0 for work in whole} == {True, False}
    for work in whole:
        parts = Range().up_to_step(work.step.name)
        assert work in work_of(platform, hyperparameters, parts)
    to_inference = Range().up_to_step("inference")
    links = trace(platform, KEY, of=to_inference.artifacts).links
    assert "seqlets" not in {link.asset for link in links}


def test_a_changed_setting_is_named_with_both_values(project: Path) -> None:
    _edit(project, "[[sae]]", "[selection]\nn_top = 770\n[[sae]]")
    assert _link(project, "seqlets").reason == "selection.n_top 1000 -> 770"
    assert _states(project, KEY)["trained_sae"] == "current"


def test_an_input_that_was_made_again_otherwise_is_named(project: Path) -> None:
    _edit(project, "[[sae]]", "[selection]\nn_top = 770\n[[sae]]")
    _make(project, "top_activations", None, "run-2")
    _make(project, "seqlets", (0, 1, 2, 3), "run-2")
    assert _states(project, KEY)["seqlets"] == "current"
    assert _link(project, "meme_motifs").reason == "input seqlets changed"
    assert _states(project, KEY)["tomtom_matches"] == "rests on stale"


def test_a_node_stays_current_where_only_others_of_its_batch_were_made_again(
    project: Path,
) -> None:
    _edit(project, "[[sae]]", "[selection]\nmin_strong = 5\n[[sae]]")
    _make(project, "top_activations", None, "run-2")
    _make(project, "seqlets", (0, 1), "run-2")
    # node 3's own seqlets are those that its motifs were made from
    assert _link(project, "meme_motifs").state == "rests on stale"
    assert _link(project, "meme_motifs", f"{KEY}|n0000").state == "stale"


def test_an_sae_shows_one_link_for_nodes_made_together(project: Path) -> None:
    _make(project, "seqlets", (0, 1), "run-2")
    links = [link for link in trace(_platform(project), KEY).links if link.asset == "seqlets"]
    assert [(link.partition, link.run_id, link.n_partitions) for link in links] == [
        (f"{KEY}|n0002 ... {KEY}|n0003", "run-1", 2),
        (f"{KEY}|n0000 ... {KEY}|n0001", "run-2", 2),
    ]


def test_a_layer_has_its_constants_only(project: Path) -> None:
    assert _states(project, "conv1d_1") == {"normalization_constants": "current"}


def test_what_is_not_made_or_gone_is_said(project: Path) -> None:
    platform = _platform(project)
    _make(project, "umap_embedding", None, "run-2")
    shutil.rmtree(project / "store" / "umap_embedding-None-run-2")
    assert _states(project, KEY)["umap_embedding"] == "artifact gone"
    platform.catalog.remove(Scope(sae_key=KEY))
    states = _states(project, f"{KEY}|{node_key(3)}")
    assert states["seqlets"] == "not made"
    assert states["normalization_constants"] == "current"
    (project / "genome.fa").unlink()
    assert _states(project, KEY)["trained_sae"] == "not made"


def _flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("kept", [False, True])
def test_an_artifact_whose_bytes_changed_is_never_current(
    project: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """Size, name and version alone say nothing of the weights that lie there."""
    monkeypatch.setattr(fingerprint, "_SETTLED_NS", 0)
    platform = _platform(project)
    cache = platform.store.fingerprints if kept else None
    assert trace(platform, KEY, cache).is_current
    weights = project / "store" / "trained_sae-None-run-1" / "rows"
    _flip_a_bit(weights)
    states = {link.asset: link for link in trace(platform, KEY, cache).links}
    assert states["trained_sae"].state == "artifact differs"
    assert f"{weights}: is damaged" in states["trained_sae"].reason
    assert states["top_activations"].state == "rests on stale"
    _flip_a_bit(weights)
    assert trace(platform, KEY, cache).is_current


def test_what_was_found_whole_is_not_read_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "_SETTLED_NS", 0)
    platform = _platform(project)
    cache = platform.store.fingerprints
    assert trace(platform, KEY, cache).is_current
    monkeypatch.setattr(fingerprint, "digest_of", None)
    assert trace(_platform(project), KEY, cache).is_current


def test_an_artifact_without_its_provenance_is_not_current(project: Path) -> None:
    """Nothing says any more of what result it is."""
    (project / "store" / "umap_embedding-None-run-1" / PROVENANCE).unlink()
    assert _link(project, "umap_embedding", KEY).state == "artifact differs"


def test_a_missing_file_of_the_user_leaves_the_question_open(project: Path) -> None:
    (project / "genome.fa").unlink()
    link = _link(project, "seqlets")
    assert link.state == "unknown"
    assert "genome.fa does not exist" in link.reason


def test_rows_of_an_earlier_release_are_stale_without_details(project: Path) -> None:
    platform = _platform(project)
    platform.catalog.replace(
        Made("trained_sae", "old", "0", "an old digest", project / "store"), Scope(None, KEY), {}
    )
    assert _link(project, "trained_sae").reason.startswith("made from other code, settings")


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        ("conv9", PartitionKeyError, "is not a set of hyperparameters"),
        (f"{KEY}|n0004", PartitionKeyError, "has 4 nodes"),
        (f"{KEY}|3", PartitionKeyError, "not of the form"),
    ],
)
def test_what_does_not_exist_is_refused(
    project: Path, key: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        trace(_platform(project), key)


def test_without_a_catalogue_there_is_nothing_to_trace(tmp_path: Path) -> None:
    (tmp_path / "dagster_project.toml").write_text(_SETTINGS)
    with pytest.raises(CatalogError, match="materialize an asset first"):
        trace(_platform(tmp_path), KEY)
