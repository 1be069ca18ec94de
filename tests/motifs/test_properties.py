"""What a matrix says by itself."""

from __future__ import annotations

import numpy as np
import pytest

from saeborzoi.motifs import properties


def matrix_of(word: str, p: float = 0.91) -> np.ndarray:
    matrix = np.full((len(word), 4), (1 - p) / 3)
    for i, letter in enumerate(word):
        if letter == "N":
            matrix[i] = 0.25
        else:
            matrix[i, "ACGT".index(letter)] = p
    return matrix


def test_consensus_uses_every_code() -> None:
    sets = ["A", "C", "G", "T", "AG", "CT", "CG", "AT", "GT", "AC", "CGT", "AGT", "ACT", "ACG"]
    rows = [[(letter in s) / len(s) for letter in "ACGT"] for s in [*sets, "ACGT"]]
    assert properties.consensus(np.array(rows)) == "ACGTRYSWKMBDHVN"


def test_information_content() -> None:
    assert properties.information_content(matrix_of("ACGT", p=1.0)) == pytest.approx(8.0)
    assert properties.information_content(np.full((5, 4), 0.25)) == pytest.approx(0.0)


@pytest.mark.parametrize("word", ["CACGTG", "GCACGTG"])
def test_palindromes(word: str) -> None:
    # the first G of GCACGTG is an outer column
    assert properties.is_palindrome(matrix_of(word, 0.97))


@pytest.mark.parametrize("word", ["TGATAAG", "GGGCGGG", "AAAAAAAA"])
def test_other_motifs_are_no_palindromes(word: str) -> None:
    assert not properties.is_palindrome(matrix_of(word, 0.97))


@pytest.mark.parametrize(
    ("word", "composition"),
    [
        ("AAAAAAAAAA", "low_complexity"),
        ("TTTTTCTTTTT", "low_complexity"),
        ("CACACACACA", "low_complexity"),
        ("GGAAGGAAGGAAGG", "low_complexity"),
        ("NNNNNNNNNN", "low_complexity"),
        ("CGCCGCGCCGCG", "cpg"),
        ("TGATAAGA", None),
        ("CCACCAGGGGGCGCT", None),
        ("GGGGCGGGGC", None),
        ("TAATTAGC", None),
        ("TGTTTACATA", None),
    ],
)
def test_composition_is_told_from_motifs(word: str, composition: str | None) -> None:
    assert properties.simple_composition(matrix_of(word)) == composition


def test_few_known_motifs_are_called_artefacts() -> None:
    from saeborzoi.motifs.databases import load_database

    known = load_database("j", "jaspar:JASPAR2024:CORE:vertebrates")
    flagged = [m.name for m in known.motifs if properties.simple_composition(m.matrix)]
    assert "ZNF384" in flagged
    assert len(flagged) <= 10


def test_aligned_correlation_finds_the_offset() -> None:
    whole = np.random.default_rng(0).dirichlet(np.ones(4), 12)
    r, offset = properties.aligned_correlation(whole, whole[3:10], 5)
    assert (r, offset) == (pytest.approx(1.0), 3)
    assert properties.aligned_correlation(whole, whole, 13) == (-1.0, 0)


def test_full_width() -> None:
    lengths = np.array([14] * 100)
    assert properties.is_full_width(matrix_of("A" * 14), 95, lengths)
    assert not properties.is_full_width(matrix_of("A" * 13), 100, lengths)
    assert not properties.is_full_width(matrix_of("A" * 14), 50, lengths)
