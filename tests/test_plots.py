"""Plots are Matplotlib figures: a notebook shows them, PNGs are light, odd data is drawn, too."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from saeborzoi import plots
from saeborzoi.figures import MAX_BYTES, as_markdown_image, png_of
from tests.browser.made_tables import make

DRAWN = {
    "training_curves": ("training_log",),
    "activation_frequency": ("node",),
    "umap_by_family": ("node_embedding", "motif_match"),
    "motif_logos": ("motif",),
    "annotation_heatmap": ("annotation_overlap",),
    "jaccard_heatmap": ("node_jaccard",),
    "effects_on_tracks": ("node_effect",),
    "recovered_by_track": ("fidelity_track",),
}


@pytest.fixture(scope="module")
def tables():
    kept = pd.DataFrame({"splice": "sae", "track": list("abc"), "r_log": [0.9, 0.8, 0.7]})
    kept["recovered_mean"] = [0.9, np.nan, 0.2]
    return {**make(1500, n_seqlets=4).tables, "fidelity_track": kept}


@pytest.mark.parametrize("name", DRAWN)
def test_is_a_figure_that_a_notebook_shows_as_a_light_png(name, tables):
    figure = getattr(plots, name)(*(tables[table] for table in DRAWN[name]))
    assert isinstance(figure, Figure)
    png = figure._repr_png_()  # type: ignore[attr-defined]
    assert len(png) < MAX_BYTES
    assert np.asarray(Image.open(io.BytesIO(png)).convert("L")).std() > 1, "nothing was drawn"


@pytest.mark.parametrize("name", DRAWN)
def test_empty_tables_are_drawn_too(name, tables):
    figure = getattr(plots, name)(*(tables[table].iloc[:0] for table in DRAWN[name]))
    assert Image.open(io.BytesIO(png_of(figure))).width > 100


def test_a_figure_can_be_changed_and_saved_as_pdf(tables, tmp_path):
    figure = plots.activation_frequency(tables["node"])
    figure.axes[0].set_title("mine")
    figure.savefig(tmp_path / "mine.pdf")
    assert (tmp_path / "mine.pdf").read_bytes().startswith(b"%PDF")


def test_no_plot_leaves_a_figure_with_pyplot(tables):
    import matplotlib.pyplot as plt

    plots.motif_logos(tables["motif"])
    assert plt.get_fignums() == []


def test_a_logo_of_a_row_of_the_catalogue_is_as_high_as_its_information():
    certain, even = [1.0, 0.0, 0.0, 0.0], [0.25] * 4
    # as a frame from DuckDB has it: an array of arrays
    matrix = np.empty(2, object)
    matrix[:] = [np.array(certain), np.array(even)]
    axis = plots.motif_logo(matrix, "one letter").axes[0]
    (letter,) = axis.collections[0].get_paths()
    box = letter.get_extents()
    assert (box.y0, box.y1) == pytest.approx((0, 2))
    assert -0.5 < box.x0 < box.x1 < 0.5
    assert axis.get_title(loc="left") == "one letter"


def test_tracks_of_two_nodes_share_the_genome_below_them():
    start = np.arange(100_000, 100_040, 4)
    tracks = {3: np.arange(10, dtype=np.float32), 7: np.zeros(10, np.float32)}
    figure = plots.activation_tracks(start, tracks, "chr1")
    assert [axis.get_ylabel() for axis in figure.axes] == ["node 3", "node 7"]
    assert figure.axes[0].get_ylim()[1] >= 9
    assert figure.axes[1].get_xlabel() == "chr1, bp"


def test_markdown_image_is_one_data_uri(tables):
    figure = plots.activation_frequency(tables["node"])
    image = as_markdown_image(figure, "UMAP")
    assert image.startswith("![UMAP](data:image/png;base64,iVBORw0KGgo")
    assert image.endswith(")")
