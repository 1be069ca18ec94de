"""The report: one file that needs no other, whose words and numbers are those of the project."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import saeborzoi
from saeborzoi.errors import InputError, PartitionKeyError
from saeborzoi.report import report_page
from saeborzoi_assets.cli import main
from tests.assets.small_project import KEY
from tests.made_project import OTHER


@pytest.fixture(scope="module")
def page(made_project: Path) -> str:
    return report_page(saeborzoi.open(made_project), [KEY])


def test_it_refers_to_no_other_file(page: str) -> None:
    """It is mailed, and printed."""
    assert not re.findall(r"""(?:src|href)=["'](?!\#|data:)""", page)
    assert "url(" not in re.sub(r"url\(#\w+\)", "", page)


def test_identifiers_of_its_figures_do_not_meet(page: str) -> None:
    """A figure that another's clip path cuts shows nothing."""
    clips = re.findall(r'<clipPath id="(\w+)"', page)
    assert clips
    assert len(clips) == len(set(clips))


def test_it_tells_what_the_catalogue_says(page: str, made_project: Path) -> None:
    project = saeborzoi.open(made_project)
    sae = project.sae(KEY)
    assert f"{sae.summary['fvu']:.3g}" in page
    families = sae.table("motif_evidence")["motif_family"].nunique()
    assert f"{families} families of like motifs" in page
    assert page.count('aria-label="family ') == families
    for row in sae.table("motif_evidence").dropna(subset=["motif_family"]).to_dict("records"):
        founder = (row["founder_node"], row["founder_motif"])
        motif = sae.table("motif").set_index(["node", "motif"]).loc[founder]
        assert motif["consensus"] in page


def test_the_methods_have_numbers_versions_and_citations(page: str) -> None:
    methods = page.partition("<h2>Methods</h2>")[2]
    assert f"Made with saeborzoi {saeborzoi.__version__} (" in methods
    assert re.search(r"torch \d+\.\d+", methods)
    cited = {int(n) for marks in re.findall(r"\[([\d, ]+)\]", methods) for n in marks.split(",")}
    assert cited == set(range(1, methods.count("<li>") + 1))
    assert "Gao L. et al." in methods
    assert "Linder" not in methods, "the small project's layer is not Borzoi's"


def test_what_was_made_beyond_is_shown(made_project: Path, tmp_path: Path) -> None:
    """Fidelity is there for layers that a model computes."""
    import duckdb

    project = saeborzoi.open(shutil.copytree(made_project, tmp_path / "project"))
    assert "Fidelity in the model" not in report_page(project, [OTHER])
    with duckdb.connect(str(project.catalog.path)) as catalogue:
        catalogue.execute(
            "INSERT INTO fidelity (hyperparameters, splice, recovered_mean) "
            "VALUES (?, 'sae', 0.125)",
            [OTHER],
        )
        catalogue.execute(
            "INSERT INTO fidelity_track (hyperparameters, splice, track, recovered_mean, r_log) "
            "VALUES (?, 'sae', 'ENCFF000XYZ', 0.125, 0.5)",
            [OTHER],
        )
    page = report_page(project, [OTHER])
    assert "<h3>Fidelity in the model</h3>" in page
    assert '<td class="number">0.125</td>' in page
    assert "ENCFF000XYZ" in page.partition("What the model keeps with the SAE in it")[2]


def test_text_from_the_project_is_escaped(made_project: Path) -> None:
    project = saeborzoi.open(made_project)
    name = project.settings.project.model_copy(update={"name": "<script>alert(1)</script>"})
    project.settings = project.settings.model_copy(update={"project": name})
    page = report_page(project, [OTHER])
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_command_writes_it(
    made_project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "supplement.html"
    arguments = ["--project", str(made_project), "report", OTHER, "--output", str(target)]
    assert main(arguments) == 0
    assert "open it, or print it" in capsys.readouterr().out
    assert f"<h2>{OTHER}</h2>" in target.read_text()


def test_what_it_cannot_be_about_is_named(made_project: Path) -> None:
    project = saeborzoi.open(made_project)
    with pytest.raises(PartitionKeyError, match="the nearest is"):
        report_page(project, ["nothing"])


def test_a_project_without_results_is_refused(made_project: Path, tmp_path: Path) -> None:
    settings = made_project / "dagster_project.toml"
    text = re.sub(r'store = ".*"', f'store = "{tmp_path}/empty"', settings.read_text())
    (tmp_path / "dagster_project.toml").write_text(text)
    with pytest.raises(InputError, match=r"no SAE of .* is trained yet"):
        report_page(saeborzoi.open(tmp_path))


@pytest.mark.browser
def test_it_opens_from_a_file_and_prints(page: str, tmp_path: Path, chromium: Any) -> None:
    file = tmp_path / "report.html"
    file.write_text(page)
    events: list[str] = []
    opened = chromium.new_page()
    opened.on("console", lambda message: events.append(message.text))
    opened.on("request", lambda request: events.append(request.url))
    opened.goto(file.as_uri())
    assert events == [file.as_uri()]
    widths = opened.eval_on_selector_all(
        "svg", "all => all.map(e => e.getBoundingClientRect().width)"
    )
    assert min(widths) > 20
    assert opened.pdf()[:5] == b"%PDF-"
    opened.close()
