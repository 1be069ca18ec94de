"""`saeborzoi model`, `saeborzoi locus` and the model in `saeborzoi check`, as a user calls them."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from saeborzoi.catalog.store import Store
from saeborzoi.jobs.job import Figures, Job
from saeborzoi.models.layer import one_hot, run_to
from saeborzoi.sae.checkpoint import save_checkpoint
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import Settings, load_settings
from saeborzoi.sources import ask
from saeborzoi.sources.__main__ import describe
from saeborzoi.stages import locus
from saeborzoi_assets.commands.cli import main
from saeborzoi_resources.compute import once
from tests.models.nets import model_of

KEY = "second_x2_k0.25_lr0.003_s0"
_SETTINGS = """
[project]
name = "live"
[data]
genome = "genome.fa"
[model]
loader = "tests.models.nets:padded"
[[layer]]
name = "second"
n_channels = 12
bp_per_position = 2
seqlet_width_bp = 16
train = { windows = "windows.bed" }
[[sae]]
layer = "second"
expansion = 2
topk = 0.25
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A live project with an SAE of random weights in its store."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # where the loader lies
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 6000))
    (tmp_path / "genome.fa").write_text(f">chr1\n{letters}\n")
    (tmp_path / "windows.bed").write_text("chr1\t101\t1101\n")
    (tmp_path / "dagster_project.toml").write_text(_SETTINGS)
    torch.manual_seed(0)
    sae = SparseAutoencoder(12, 24, 3)
    for name in ("encoder_weight", "decoder_weight"):
        torch.nn.init.normal_(getattr(sae, name))
    store = Store(load_settings(tmp_path / "dagster_project.toml").project.store)
    folder = store.sae_artifact(KEY, "trained_sae")
    folder.mkdir(parents=True)
    save_checkpoint(sae, folder)
    return tmp_path


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages and questions about the model run here, not in processes that start for seconds."""

    @contextlib.contextmanager
    def run_here(
        settings: Settings,
        stage: str,
        hyperparameters: Hyperparameters,
        request: dict[str, str],
        inputs: dict[str, Path],
        threads: int,
    ) -> Iterator[tuple[Figures, Path]]:
        assert stage == "locus"
        with tempfile.TemporaryDirectory() as folder:
            document = Path(folder, "request.json")
            document.write_text(json.dumps(request))
            job = Job(
                job_id="here", stage=stage, settings=settings, layer=hyperparameters.layer,
                hyperparameters=hyperparameters, inputs={**inputs, "request": document},
                output=Path(folder, "output"), work=Path(folder, "work"), threads=1,
            )  # fmt: skip
            yield locus.run(job), job.output

    monkeypatch.setattr(once, "run_once", run_here)
    monkeypatch.setattr(
        ask,
        "ask_model",
        lambda model, layers=(), modules=False, genome=None: describe(
            {"model": model, "layers": layers, "modules": modules, "genome": genome}
        ),
    )


def saeborzoi(project: Path, *arguments: str) -> int:
    return main(["--project", str(project), *arguments])


def test_check_names_what_the_model_says(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert saeborzoi(project, "check") == 0
    output = capsys.readouterr().out
    assert "ok    layer second, module: conv: 12 channels, 2 bp a position" in output


@pytest.mark.usefixtures("in_this_process")
def test_check_names_what_does_not_fit_the_model(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = project / "dagster_project.toml"
    settings.write_text(_SETTINGS.replace("n_channels = 12", "n_channels = 13"))
    assert saeborzoi(project, "check") == 1
    assert "n_channels = 13 in the settings, measured is 12" in capsys.readouterr().out
    settings.write_text(_SETTINGS.replace("nets:padded", "nets:failing"))
    assert saeborzoi(project, "check") == 1
    assert "RuntimeError: the file is elsewhere" in capsys.readouterr().out


@pytest.mark.usefixtures("in_this_process")
def test_model_lists_modules(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert saeborzoi(project, "model") == 0
    output = capsys.readouterr().out
    assert re.search(r"^conv +Conv1d +1x12x128 +1 +2 +16 +0 +yes$", output, re.MULTILINE), output
    assert "layer second: conv" in output
    assert main(["model", "--loader", "tests.models.nets:bare", "--input-bp", "64", "--json"]) == 0
    modules = json.loads(capsys.readouterr().out)["modules"]
    assert [m["module"] for m in modules][:2] == ["dna", "pool"]
    assert main(["model", "--loader", "no.such:thing"]) == 2
    assert "cannot be imported" in capsys.readouterr().err


def test_a_models_process_that_dies_is_told(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "dies.py").write_text("import os\nprint('so long')\nos._exit(3)\n")
    loader = f"{project}/dies.py:load"
    assert main(["model", "--loader", loader, "--input-bp", "9"]) == 2
    assert "ended with code 3 and no answer" in capsys.readouterr().err


def test_locus_says_which_nodes_fire_where(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {n: project / n for n in ("all.tsv", "top.bed", "tracks")}
    code = saeborzoi(
        project, "locus", KEY, "chr1:3,001-3,100", "--json", "--output", str(files["all.tsv"]),
        "--bed", str(files["top.bed"]), "--bedgraph", str(files["tracks"]), "--top", "4",
    )  # fmt: skip
    assert code == 0
    document = json.loads(capsys.readouterr().out)
    rows = pd.read_csv(files["all.tsv"], sep="\t", keep_default_na=False)
    # counted on from the window's odd start, the region has 51 positions from 2,999
    assert document["n_positions"] == 51
    assert rows["start_bp"].min() == 2999
    assert set((rows["end_bp"] - rows["start_bp"]).unique()) == {2}
    # the same by hand: model, layer, SAE
    model = model_of("padded")
    text = (project / "genome.fa").read_text().split("\n")[1]
    x = one_hot(np.frombuffer(text[2899:3199].encode(), np.uint8))
    with torch.no_grad():
        conv = model.module.get_submodule("conv")
        layer = run_to(model.module, conv, x[None])[0].T[50:101]
    from saeborzoi.sae.checkpoint import load_checkpoint

    store = Store(load_settings(project / "dagster_project.toml").project.store)
    sae = load_checkpoint(store.sae_artifact(KEY, "trained_sae"), 12)
    value, node = (part.detach() for part in sae.encode(layer)[:2])
    expected = {
        (2999 + 2 * i, int(n)): float(v)
        for i, (vs, ns) in enumerate(zip(value, node, strict=True))
        for v, n in zip(vs, ns, strict=True)
        if v > 0
    }
    activations = {(r.start_bp, r.node): r.activation for r in rows.itertuples()}
    # activations are kept as float16, so that two nodes that are equally strong may change places
    same = [key for key in activations if key in expected]
    assert len(same) > 0.97 * len(expected)
    np.testing.assert_allclose(
        [activations[k] for k in same], [expected[k] for k in same], rtol=2e-2, atol=1e-2
    )
    assert len(document["nodes"]) == 4
    bed = pd.read_csv(files["top.bed"], sep="\t", header=None)
    assert bed[4].max() == 1000
    assert len(list(files["tracks"].glob("n*.bedgraph"))) == 4


@pytest.mark.usefixtures("in_this_process")
def test_locus_writes_bigwigs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bigwig = pytest.importorskip("pybigtools", reason="needs the extra saeborzoi[bigwig]")
    folder = project / "bw"
    assert saeborzoi(project, "locus", KEY, "chr1:501-900", "--bigwig", str(folder), "--json") == 0
    strongest = json.loads(capsys.readouterr().out)["nodes"][0]
    file = bigwig.open(str(folder / f"n{strongest['node']:04d}.bw"))
    assert file.chroms() == {"chr1": 6000}
    rows = file.records("chr1", strongest["start_bp"], strongest["end_bp"])
    assert max(value for _, _, value in rows) == pytest.approx(strongest["activation"], rel=1e-6)


@pytest.mark.usefixtures("in_this_process")
def test_locus_of_sequences_that_are_in_no_genome(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (project / "genome.fa").read_text().split("\n")[1]
    (project / "own.fa").write_text(f">mine\n{text[3000:3400]}\n>other\n{text[:201]}\n")
    tables = []
    for arguments in (["--fasta", str(project / "own.fa")], ["chr1:3,001-3,400"]):
        output = project / "out.tsv"
        # the same grid: positions of the genome counted from where the sequence begins
        (project / "windows.bed").write_text("chr1\t1000\t2000\n")
        assert saeborzoi(project, "locus", KEY, *arguments, "--output", str(output)) == 0
        tables.append(pd.read_csv(output, sep="\t", keep_default_na=False))
    capsys.readouterr()
    mine, genome = tables
    assert set(mine["chrom"]) == {"mine", "other"}
    # but for what sees beyond the sequence's ends
    inner = mine[(mine["chrom"] == "mine") & mine["start_bp"].between(20, 370)]
    there = genome[genome["start_bp"].between(3020, 3370)]
    assert inner["start_bp"].tolist() == (there["start_bp"] - 3000).tolist()
    assert inner["node"].tolist() == there["node"].tolist()


@pytest.mark.usefixtures("in_this_process")
def test_an_sae_of_another_models_weights_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(load_settings(project / "dagster_project.toml").project.store)
    config = store.sae_artifact(KEY, "trained_sae") / "cfg.json"
    document = json.loads(config.read_text())
    document["provenance"]["data_parts"] = {"model": "0" * 32}
    config.write_text(json.dumps(document))
    assert saeborzoi(project, "locus", KEY, "chr1:501-600") == 2
    message = capsys.readouterr().err
    assert "belongs to a model with the fingerprint " + "0" * 32 in message
    assert model_of("padded").fingerprint in message


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either a region or --fasta"),
        (["chr1:9,000-9,100"], "chr1 has 6,000 bp"),
        (["chr7:1-100"], "chr7 is not in the genome"),
        (["chr1"], "needed is 'chr1:1,000,000-1,030,000'"),
        (["--fasta", "none.fa"], "none.fa"),
    ],
)
def test_loci_that_are_not_there_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert saeborzoi(project, "locus", KEY, *arguments) == 2
    assert message in capsys.readouterr().err
