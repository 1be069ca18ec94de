"""What a node's motifs are called where its seqlets hold copies of repeats, through the stage's
function."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from saeborzoi.motifs.discovery import discover
from saeborzoi.motifs.options import DiscoveryOptions

CTCF = "CCACTAGGGGGCGC"


def seqlets(texts: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "node": 0,
            "rank": np.arange(len(texts)),
            "activation": np.linspace(2, 1, len(texts)),
            "sequence": texts,
        }
    )


@pytest.fixture(scope="module")
def copies_beside_sites() -> pd.DataFrame:
    """200 seqlets with a site, 60 copies of one element with a letter in fifteen changed."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ACGT"), 26)) for _ in range(240)]
    for i in range(200):
        place = rng.integers(13)
        texts[i] = texts[i][:place] + CTCF + texts[i][place + 14 :]
    element = rng.integers(4, size=26)
    for _ in range(60):
        changed = np.where(rng.random(26) < 1 / 15, rng.integers(4, size=26), element)
        texts.append("".join("ACGT"[c] for c in changed))
    return seqlets(texts)


def test_copies_count_once_and_come_after_the_motif(copies_beside_sites: pd.DataFrame) -> None:
    motifs = discover(copies_beside_sites, DiscoveryOptions())
    assert motifs["consensus"][0] in CTCF or CTCF in motifs["consensus"][0]
    assert motifs["is_significant"][0]
    repeats = motifs[motifs["suspect"] == "repeat"]
    assert len(repeats) >= 1
    assert not repeats["is_significant"].any()
    assert (repeats["n_effective_sites"] < 10).all()
    assert (repeats["n_sites"] >= 50).any()


def test_each_copy_counts_where_the_settings_say_so(copies_beside_sites: pd.DataFrame) -> None:
    motifs = discover(copies_beside_sites, DiscoveryOptions(near_identical="each"))
    assert not (motifs["suspect"] == "repeat").any()
    assert (motifs["n_effective_sites"] == motifs["n_sites"]).all()


@pytest.mark.parametrize(("word", "suspect"), [("AATAAA", None), ("TTTATT", None)])
def test_signals_of_few_letters_are_kept_where_they_are_enriched(
    word: str, suspect: str | None
) -> None:
    rng = np.random.default_rng(1)
    texts = ["".join(rng.choice(list("ACGT"), 24, p=[0.3, 0.2, 0.2, 0.3])) for _ in range(500)]
    for i in range(200):
        place = rng.integers(18)
        texts[i] = texts[i][:place] + word + texts[i][place + 6 :]
    motif = discover(seqlets(texts), DiscoveryOptions(n_motifs=1)).iloc[0]
    assert word in motif["consensus"]
    assert motif["is_significant"]
    assert pd.isna(motif["suspect"]) == (suspect is None)
