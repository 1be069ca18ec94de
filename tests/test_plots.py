"""The small PNGs for the event log: they are PNGs, light, and drawn from whatever there is."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from saeborzoi import plots
from tests.browser.made_tables import make

DRAWN = {
    "training_curves": ("training_log",),
    "activation_frequency": ("node",),
    "umap_by_family": ("node_embedding", "motif_match"),
    "motif_logos": ("motif",),
    "annotation_heatmap": ("annotation_overlap",),
    "jaccard_heatmap": ("node_jaccard",),
}


@pytest.fixture(scope="module")
def tables():
    return make(1500, n_seqlets=4).tables


@pytest.mark.parametrize("name", DRAWN)
def test_is_a_light_png(name, tables):
    png = getattr(plots, name)(*(tables[table] for table in DRAWN[name]))
    assert len(png) < plots.MAX_BYTES
    assert np.asarray(Image.open(io.BytesIO(png)).convert("L")).std() > 1, "nothing was drawn"


@pytest.mark.parametrize("name", DRAWN)
def test_empty_tables_are_drawn_too(name, tables):
    png = getattr(plots, name)(*(tables[table].iloc[:0] for table in DRAWN[name]))
    assert Image.open(io.BytesIO(png)).width > 100


def test_markdown_image_is_one_data_uri():
    image = plots.as_markdown_image(b"\x89PNG", "UMAP")
    assert image == "![UMAP](data:image/png;base64,iVBORw==)"
