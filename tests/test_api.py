"""What a notebook does first with saeborzoi works, and what is misspelt is named."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import saeborzoi
from saeborzoi.errors import CatalogError, InputError, PartitionKeyError, SettingsError
from saeborzoi.project import Project
from saeborzoi.sae.checkpoint import load_checkpoint
from tests.assets.small_project import KEY, N_NODES
from tests.made_project import OTHER

README = Path(__file__).parents[1] / "README.md"
WITHOUT_DAGSTER = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("dagster", "dagster_shared", "saeborzoi_assets",
                                      "saeborzoi_resources"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def project(made_project: Path) -> Project:
    return saeborzoi.open(str(made_project))


def in_a_fresh_python(code: str, *arguments: str | Path) -> str:
    """What code prints in an interpreter of its own, where Dagster cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DAGSTER + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- the nineteen first attempts ------------------------------------------------------------------

ATTEMPTS = {
    "saeborzoi.load_sae": "assert callable(saeborzoi.load_sae)",
    "saeborzoi.sae": "assert saeborzoi.sae.__name__ == 'saeborzoi.sae'",
    "saeborzoi.__all__": "assert {'open', 'load_sae'} <= set(saeborzoi.__all__)",
    "load_checkpoint(str)": """
from saeborzoi.sae.checkpoint import load_checkpoint
assert load_checkpoint(weights).n_nodes == 12
""",
    "repr(sae)": "assert '4 channels, 12 nodes, k=1' in repr(sae)",
    "ShardFolder.open(str)": "assert saeborzoi.ShardFolder.open(shards).n_channels == 4",
    "repr(ShardFolder)": """
shown = repr(saeborzoi.ShardFolder.open(shards))
assert "3 shards, 37 windows x 520 positions x 4 channels, float16" in shown, shown
""",
    "sae.encode(numpy float16)": "assert sae.encode(x).value.shape == (520, 1)",
    "sae.encode(torch half)": """
value, node = sae.encode(torch.from_numpy(x).half())
assert value.dtype == torch.float32
assert np.array_equal(node.numpy(), sae.encode(x).node)
""",
    "sae.encode(torch float)": """
value, node = sae.encode(torch.from_numpy(x).float())
assert np.array_equal(node.numpy(), sae.encode(x).node)
""",
    "sae(x[None])": "np.testing.assert_allclose(sae(x[None])[0], sae(x), rtol=1e-6)",
    "Catalog(str).rows of a node": """
rows = saeborzoi.Catalog(catalog).rows("motif", key, nodes=[7])
assert rows["node"].tolist() == [7]
""",
    "Catalog.rows of a view": """
rows = saeborzoi.Catalog(catalog).rows("node_summary", key)
assert rows["node"].tolist() == list(range(12))
""",
    "Catalog.whole of a view": """
rows = saeborzoi.Catalog(catalog).whole("node_summary")
assert rows["hyperparameters"].nunique() == 2
""",
    "repr(Catalog)": "assert re.search(r' MB, [0-9]+ tables', repr(saeborzoi.Catalog(catalog)))",
    "draw_logo of a row": """
from saeborzoi.plots import draw_logo
row = saeborzoi.Catalog(catalog).rows("motif", key, nodes=[7]).iloc[0]
axis = Figure().subplots()
draw_logo(axis, row["matrix"])
assert len(axis.collections[0].get_paths()) >= row["width_bp"]
""",
    "draw_logo of a matrix": """
from saeborzoi.motifs.properties import as_matrix
from saeborzoi.plots import draw_logo
row = saeborzoi.Catalog(catalog).rows("motif", key, nodes=[7]).iloc[0]
axis = Figure().subplots()
draw_logo(axis, as_matrix(row["matrix"]))
assert len(axis.collections[0].get_paths()) >= row["width_bp"]
""",
    "load_settings(folder)": "assert saeborzoi.load_settings(Path(folder)).project.name == 'small'",
    "load_settings(str)": """
assert saeborzoi.load_settings(folder + "/dagster_project.toml").project.name == "small"
""",
}


def test_all_nineteen_first_attempts_work_without_dagster(made_project: Path) -> None:
    assert len(ATTEMPTS) == 19
    code = f"""
import json
import re
from pathlib import Path
import h5py, numpy as np, torch
from matplotlib.figure import Figure
import saeborzoi

folder, key = sys.argv[1], {KEY!r}
shards, catalog = folder + "/train", folder + "/store/catalog.duckdb"
weights = folder + f"/store/saes/{{key}}/trained_sae"
sae = saeborzoi.load_sae(weights)
with h5py.File(shards + "/activations_0.h5") as file:
    x = file["x"][0]
assert x.dtype == np.float16
failed = {{}}
for name, attempt in json.loads(sys.argv[2]).items():
    try:
        exec(attempt, dict(globals()))
    except BaseException as error:
        failed[name] = repr(error)
print(json.dumps(failed))
"""
    assert json.loads(in_a_fresh_python(code, made_project, json.dumps(ATTEMPTS))) == {}


# -- the door -------------------------------------------------------------------------------------


def test_importing_loads_where_caches_go_and_nothing_heavy() -> None:
    code = """
before = set(sys.modules)
import saeborzoi
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before}
             - set(sys.stdlib_module_names)))
print(sorted(name for name in sys.modules if name.startswith("saeborzoi.")))
"""
    first, second = in_a_fresh_python(code).splitlines()
    assert first == "['saeborzoi']"
    # numba reads its variable when it is imported, whoever does that first
    assert second == "['saeborzoi.caches', 'saeborzoi.errors']"


def test_opening_a_project_loads_neither_torch_nor_matplotlib(made_project: Path) -> None:
    code = """
import saeborzoi
project = saeborzoi.open(sys.argv[1])
print(len(project.table("node_summary", project.saes[0])), project)
heavy = ("torch", "matplotlib", "numba", "umap", "sklearn", "h5py")
print([name for name in heavy if name in sys.modules])
"""
    first, second = in_a_fresh_python(code, made_project).splitlines()
    assert first.startswith(f"{N_NODES} Project 'small'")
    assert second == "[]"


def test_every_public_name_is_there_and_a_misspelt_one_is_named() -> None:
    for name in saeborzoi.__all__:
        assert getattr(saeborzoi, name) is not None
    assert set(saeborzoi.__all__) <= set(dir(saeborzoi))
    with pytest.raises(AttributeError, match=r"'load_sea'; did you mean 'load_sae'\?"):
        _ = saeborzoi.load_sea


def test_no_module_of_the_science_imports_dagster() -> None:
    root = Path(saeborzoi.__file__).parent
    importing = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(r"^\s*(?:import|from) dagster(?!_pipes)\b", path.read_text(), re.MULTILINE)
    }
    assert importing == set()
    eager = {
        path.name
        for path in root.rglob("*.py")
        if re.search(r"^(?:import|from) dagster_pipes\b", path.read_text(), re.MULTILINE)
    }
    assert eager == set()


# -- a project ------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "dagster_project.toml", "store", "store/saes"])
def test_a_project_opens_from_its_file_its_folder_or_below(made_project: Path, below: str) -> None:
    opened = saeborzoi.open(made_project / below)
    assert opened.saes == [KEY, OTHER]
    assert "2 SAEs trained, 2 in the settings, 1 layer: conv" in repr(opened)


def test_a_folder_without_a_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no dagster_project\.toml"):
        saeborzoi.open(tmp_path)


def test_a_project_before_its_first_result(made_project: Path, tmp_path: Path) -> None:
    text = (made_project / "dagster_project.toml").read_text()
    (tmp_path / "dagster_project.toml").write_text(text)
    fresh = saeborzoi.open(tmp_path)
    assert fresh.saes == []
    assert fresh._repr_html_() is None
    assert repr(fresh.catalog).endswith("not made yet)")
    with pytest.raises(PartitionKeyError, match="not trained yet; `saeborzoi run` makes it"):
        fresh.sae(KEY)
    with pytest.raises(PartitionKeyError, match="no SAE of small is trained yet"):
        fresh.sae(KEY + "_published")
    with pytest.raises(CatalogError, match="there is no catalogue"):
        fresh.table("node")


def test_tables_and_queries_are_frames(project: Project) -> None:
    assert set(project.table("node")["hyperparameters"]) == {KEY, OTHER}
    assert project.table("node_summary", KEY)["node"].tolist() == list(range(N_NODES))
    counts = project.query("SELECT count(*) AS n FROM node WHERE hyperparameters = ?", [KEY])
    assert counts["n"].tolist() == [N_NODES]
    assert "conv_x3" in str(project._repr_html_())


@pytest.mark.parametrize(
    ("attempt", "error", "message"),
    [
        (lambda p: p.table("node_sumary"), CatalogError, "the nearest is 'node_summary'"),
        (lambda p: p.table("sea"), CatalogError, "the nearest is 'sae'"),
        (lambda p: p.sae(KEY[:-1] + "7"), PartitionKeyError, f"the nearest is '{OTHER[:-1]}"),
        (lambda p: p.node(KEY, N_NODES), PartitionKeyError, f"the nearest is {N_NODES - 1}"),
        (lambda p: p.node(KEY, -1), PartitionKeyError, "the nearest is 0"),
        (lambda p: p.table("archetype_by_sae", KEY), CatalogError, "no column 'hyperparameters'"),
        (lambda p: p.catalog.rows("sae", KEY, nodes=[1]), CatalogError, "no column 'node'"),
        (lambda p: p.node(OTHER, 1).seqlets, CatalogError, "seqlets of .*n0001 is not made yet"),
        (lambda p: p.node(OTHER, 1).annotation, CatalogError, "annotation_overlaps of .* not made"),
        (lambda p: p.activations(KEY, "chr1:7-3"), InputError, "holds no base pair"),
        (lambda p: p.activations(KEY, "chr1"), InputError, "needed is 'chr1:1,000,000-1,030,000'"),
        (lambda p: p.activations(KEY, "chr2:1-9"), InputError, "cover none of it"),
        (
            lambda p: p.activations(KEY, "chr1:59,001-80,000"),
            InputError,
            "they cover chr1:59,001-59,600; ask for a region inside the windows",
        ),
    ],
)
def test_what_is_not_there_is_named(
    project: Project, attempt: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        attempt(project)


def test_two_seeds_are_compared(project: Project) -> None:
    same = project.compare(KEY, KEY)
    assert (same.share_a, same.share_b) == (1, 1)
    assert same.nodes["node_a"].tolist() == same.nodes["node_b"].tolist()
    other = project.compare(KEY, OTHER)
    expected = other.matches
    assert 0 < len(expected.node_a) < N_NODES
    assert other.share_a == len(expected.node_a) / expected.n_a
    named = other.nodes.set_index("node_a")["name_a"]
    assert named.loc[7] == project.node(KEY, 7).name
    assert f"{len(expected.node_a)} nodes are the same" in repr(other)
    assert "<table" in other._repr_html_()


# -- a node ---------------------------------------------------------------------------------------


def named_node(project: Project) -> Any:
    sae = project.sae(KEY)
    return sae.node(int(sae.names[sae.names == "E-box: known1"].index[0]))


def test_a_node_has_everything_that_the_catalogue_knows(project: Project) -> None:
    node = named_node(project)
    assert node.name == "E-box: known1"
    assert node.statistics["n_nonzero"] > 60
    assert node.seqlets["rank"].tolist() == list(range(len(node.seqlets)))
    assert node.matches["target_name"].tolist()[0] == "known1"
    assert node.annotation["annotation_class"].tolist() == ["mark"]
    assert node.annotation["odds_ratio"][0] < 1, "the class marks the other motif"
    (motif,) = node.motifs
    assert motif.is_significant
    assert motif.matrix.shape == (motif.row["width_bp"], 4)
    np.testing.assert_allclose(motif.matrix.sum(axis=1), 1, atol=1e-6)
    assert f"MOTIF n{node.number:04d}_1" in motif.to_meme()
    assert isinstance(node.logo(), Figure)
    assert repr(motif).startswith(f"Motif 1 of node {node.number}: {motif.consensus}, ")
    assert motif._repr_png_().startswith(b"\x89PNG")
    assert repr(node).startswith(f"Node {node.number} of {KEY}: E-box: known1, fires at ")
    assert "known1" in node._repr_html_()
    assert "data:image/png" in node._repr_html_()


def test_a_dead_node_says_so(project: Project) -> None:
    nodes = project.sae(KEY).nodes
    number = nodes.index[nodes["frequency"] == 0][0]  # NumPy's integer
    node = project.node(KEY, number)
    assert node.name is None
    assert node.motifs == []
    assert node.seqlets.empty
    assert "no name, fires at 0.000%" in repr(node)
    assert "dead: never fires" in node._repr_html_()
    with pytest.raises(CatalogError, match="has no significant motif"):
        node.logo()


def test_an_sae_says_its_sizes(project: Project) -> None:
    sae = project.sae(KEY)
    assert len(sae) == N_NODES
    assert repr(sae).startswith(f"SAE {KEY}: {N_NODES} nodes, FVU 0.0")
    assert len(sae.table("training_log")) > 0


def test_an_sae_of_the_project_is_its_network(project: Project, made_project: Path) -> None:
    sae = project.sae(KEY)
    network = load_checkpoint(made_project / "store" / "saes" / KEY / "trained_sae")
    with h5py.File(made_project / "train" / "activations_0.h5") as file:
        x = file["x"][:2]
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(sae(x), expected, rtol=1e-5, atol=1e-6)
    decoded = sae.decode(sae.encode(x), sae.normalize(x))
    np.testing.assert_allclose(
        decoded * network.channel_max.numpy(), expected, rtol=1e-5, atol=1e-6
    )
    assert pickle.loads(pickle.dumps(network)).n_nodes == N_NODES
