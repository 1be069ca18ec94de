"""A new asset is an entry of the pipeline, its tables and a module: the guide's example is made."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SETTINGS = """
[project]
name = "test"
[data]
genome = "genome.fa"
[[layer]]
name = "conv"
n_channels = 2
bp_per_position = 2
seqlet_width_bp = 8
train = { shards = "shards", windows = "windows.bed" }
[[sae]]
layer = "conv"
expansion = 1
topk = 0.5
"""
_SCRIPT = """
import json, sys
from pathlib import Path

import dagster as dg
import pandas as pd

import saeborzoi
from saeborzoi.catalog.schema import TABLE
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi_assets.definitions import build_definitions
from saeborzoi_assets.plan import next_step, steps
from saeborzoi_resources.platform import Platform
from saeborzoi_resources.upkeep.trace import trace

file = Path(sys.argv[1])
platform = Platform(settings_file=str(file))
(sae,) = platform.settings.wanted()
seqlets = pd.DataFrame({
    "node": [0, 0, 1], "rank": [0, 1, 0], "chrom": "chr1", "start_bp": [0, 4, 8],
    "end_bp": [4, 8, 12], "activation": 1.0, "sequence": ["GGCC", "AACC", "ATAT"],
})
selection = pd.DataFrame({
    "node": [0, 1], "selected": True, "reason": None, "n_seqlets": 1, "n_strong": 1, "n_dropped": 0
})
artifact = platform.store.sae_artifact(sae.key, "seqlets")
artifact.mkdir(parents=True)
platform.catalog.replace(
    Made("seqlets", "run", "1", "v", artifact),
    Scope(sae_key=sae.key, nodes=(0, 1)),
    {
        name: frame.reindex(
            columns=[c.name for c in TABLE[name].columns if c.name != "hyperparameters"]
        )
        for name, frame in (("seqlet", seqlets), ("node_selection", selection))
    },
)
definitions = build_definitions(file)
graph = definitions.resolve_asset_graph()
node = graph.get(dg.AssetKey("node_composition"))
lacking = [step for step in steps(platform.settings, sae) if step.name == "fan-in"][0]
with dg.DagsterInstance.ephemeral() as instance:
    instance.add_dynamic_partitions("hyperparameters", [sae.key])
    result = dg.materialize(
        definitions.assets, selection=["node_composition"], partition_key=sae.key,
        instance=instance, resources={"platform": platform},
    )
link = [link for link in trace(platform, sae.key).links if link.asset == "node_composition"][0]
print(json.dumps({
    "from": saeborzoi.__file__,
    "parents": sorted(key.to_user_string() for key in node.parent_keys),
    "columns": [c.name for c in node.metadata["dagster/column_schema"].columns],
    "step": list(lacking.assets),
    "checks": [e.passed for e in result.get_asset_check_evaluations()],
    "rows": platform.catalog.rows("node_composition", sae.key).values.tolist(),
    "state": link.state,
    "removed": platform.catalog.count(Scope(sae_key=sae.key)).get("node_composition"),
}))
"""


def blocks() -> list[str]:
    """The code blocks of the guide's section, without their indent."""
    text = (ROOT / "docs" / "contributing.md").read_text()
    section = text.partition("## Add an asset\n")[2].partition("\n## ")[0]
    code_blocks = re.findall(
        r"^   ```python\n(.*?)^   ```$", section, flags=re.DOTALL | re.MULTILINE
    )
    return [re.sub(r"^   ", "", block, flags=re.MULTILINE) for block in code_blocks]


def test_the_guides_asset_is_made_versioned_planned_traced_and_removed(tmp_path: Path) -> None:
    for package in ("saeborzoi", "saeborzoi_resources", "saeborzoi_assets"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    entry, table, module = blocks()
    for file, block, following in (
        ("pipeline.py", entry, '    Artifact(\n        "feature_browser"'),
        ("catalog/schema.py", table, '    _table(\n        "materialization"'),
    ):
        path = tmp_path / "saeborzoi" / file
        text = path.read_text()
        assert text.count(following) == 1
        item = textwrap.indent(block.rstrip(), "    ") + ",\n"
        path.write_text(text.replace(following, item + following))
    (tmp_path / "saeborzoi_assets/assets/node_composition.py").write_text(module)
    project = tmp_path / "project"
    (project / "shards").mkdir(parents=True)
    for name in ("shards/activations_0.h5", "windows.bed", "genome.fa"):
        (project / name).write_text(name)
    (project / "dagster_project.toml").write_text(_SETTINGS)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SCRIPT, project / "dagster_project.toml"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, textwrap.shorten(done.stderr[-2000:], 2000)
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers["from"].startswith(str(tmp_path))
    assert answers["parents"] == ["seqlets"]
    assert answers["columns"] == ["hyperparameters", "node", "gc_fraction"]
    assert answers["step"][-1] == "node_composition"
    assert answers["checks"] == [True]
    assert answers["rows"] == [[0, 0.75], [1, 0.0]]
    assert answers["state"] in ("current", "rests on stale")
    assert answers["removed"] == 2
