"""MEME format in and out, and what is refused."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saeborzoi.errors import InputError
from saeborzoi.motifs.meme_format import (
    MemeMotif,
    format_meme,
    log10_of,
    parse_meme,
    read_meme,
    text_of_log10,
)

HEADER = "MEME version 4\n\nALPHABET= ACGT\n\n"
ONE = HEADER + (
    "MOTIF MA0004.1 Arnt\n"
    "letter-probability matrix: alength= 4 w= 2 nsites= 20 E= 2.0e-1834\n"
    " 0.2 0.8 0.0 0.0\n 0.95 0.0 0.05 0.0\n"
)
MEME_TXT = """\
********************************************************************************
MEME - Motif discovery tool
********************************************************************************
MEME version 5.5.8 (Release date: Thu May 15 00:00:00 2025 -0700)

ALPHABET= ACGT
Background letter frequencies (from file dataset with add-one prior applied):
A 0.3 C 0.2 G 0.2 T 0.3
********************************************************************************
MOTIF CA MEME-1\twidth =   2  sites = 505  llr = 3484  p-value = 1.2e-1840  E-value = 1.6e-852
********************************************************************************
--------------------------------------------------------------------------------
\tMotif CA MEME-1 position-specific scoring matrix
--------------------------------------------------------------------------------
log-odds matrix: alength= 4 w= 2 n= 7000 bayes= 3.1 E= 1.6e-852
 -1563    157   -663  -1563
   100   -663   -663   -663
--------------------------------------------------------------------------------
\tMotif CA MEME-1 position-specific probability matrix
--------------------------------------------------------------------------------
letter-probability matrix: alength= 4 w= 2 nsites= 505 E= 1.6e-852
 0.000000  0.990099  0.009901  0.000000
 0.980198  0.000000  0.019802  0.000000
--------------------------------------------------------------------------------
Time  3.21 secs.
********************************************************************************
"""


def test_database_entry() -> None:
    (motif,) = parse_meme(ONE, "x")
    assert (motif.identifier, motif.name, motif.n_sites) == ("MA0004.1", "Arnt", 20)
    assert motif.log10_e_value == pytest.approx(-1833.69897)
    np.testing.assert_allclose(motif.matrix, [[0.2, 0.8, 0, 0], [0.95, 0, 0.05, 0]])


def test_output_of_meme() -> None:
    (motif,) = parse_meme(MEME_TXT, "x")
    assert (motif.identifier, motif.name) == ("CA", "MEME-1")
    assert (motif.n_sites, motif.llr) == (505, 3484)
    assert motif.log10_e_value == pytest.approx(math.log10(1.6) - 852)
    assert motif.matrix[0, 1] == pytest.approx(0.990099)


def test_motifs_without_a_blank_line_between_them() -> None:
    two = ONE + ONE.removeprefix(HEADER).replace("MA0004.1", "MA0005.1")
    assert [m.identifier for m in parse_meme(two, "x")] == ["MA0004.1", "MA0005.1"]


def test_rna_and_header_without_fields(tmp_path: Path) -> None:
    text = ONE.replace("ACGT", "ACGU").replace(" alength= 4 w= 2 nsites= 20 E= 2.0e-1834", "")
    path = tmp_path / "rna.meme.gz"
    path.write_bytes(gzip.compress(text.encode()))
    (motif,) = read_meme(path)
    assert len(motif.matrix) == 2
    assert math.isnan(motif.log10_e_value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no motif in it"),
        (HEADER, "no motif in it"),
        (HEADER + "MOTIF A\n", "has no letter-probability matrix"),
        (HEADER + "MOTIF A\n" + ONE.removeprefix(HEADER), "'A' has no letter-probability matrix"),
        (ONE.rsplit("\n", 2)[0] + "\n", "has 1 rows, its header says 2"),
        (ONE.replace("0.95", "0.35"), "row 2: .*sum to 1"),
        (ONE.replace("0.95", "nan"), "sum to 1"),
        (ONE.replace("0.95", "A"), "not a number"),
        (ONE.replace("ACGT", "ACDEFGHIKLMNPQRSTVWY"), "line 3: .*needed is a DNA"),
        (ONE.replace("ACGT", "ACGTN"), "line 3: alphabet 'ACGTN'"),
        (ONE.replace("MA0004.1 Arnt", ""), "line 5: MOTIF without an identifier"),
        (ONE.replace("MA0004.1", "a\x1b[1m"), "line 5: .*control characters"),
        (ONE.replace("w= 2", "w= 1"), "line 6: motif 'MA0004.1' has 2 rows, its header says 1"),
        (ONE.replace("\n 0.95", "\n\n 0.95").replace("w= 2", "w= 1"), "has 2 rows"),
        (ONE.replace("w= 2", "").replace("0.95", "A"), "not a number .*'A' in row 2"),
        (ONE.replace("0.2 0.8 0.0 0.0", "0.2 0.8 0.0"), "line 7: .*3 numbers in a row"),
        (ONE.replace("0.2 0.8 0.0 0.0", "0.2 0.8 0.0 0.0 0"), "line 7: .*5 numbers in a row"),
        (ONE.replace("w= 2", "w= two"), "not a number"),
        (ONE.replace("alength= 4", "alength= 20"), "alength= 20; needed is 4"),
        (ONE.replace("nsites= 20", "nsites= inf"), "nsites= inf"),
        (ONE.replace("nsites= 20", "nsites= -3"), "nsites= -3"),
        (ONE.replace("2.0e-1834", "-2"), "below 0"),
        (ONE.replace("0.2 0.8", "-0.2 1.2"), "row 1"),
        (ONE.replace("0.2 0.8 0.0 0.0", "0 0 0 0"), "row 1"),
        (ONE.replace("0.2 0.8 0.0 0.0", "4 16 0 0"), "row 1"),
        (ONE + "\n" + ONE.splitlines()[5] + "\n1 0 0 0\n1 0 0 0\n", "MOTIF line of its own"),
        (ONE.replace("ALPHABET= ACGT", 'ALPHABET "DNA" DNA-LIKE\nA ~ T'), "without its END"),
        (">MA0004.1 Arnt\nA [ 4 19 ]\nC [16 0 ]\n", "no motif in it"),
        ("version https://git-lfs.github.com/spec/v1\noid x\n", "Git LFS pointer"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "db.meme"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_meme(path)
    assert str(path) in str(error.value)


def test_missing_and_truncated_gzip(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not there"):
        read_meme(tmp_path / "none.meme")
    path = tmp_path / "cut.meme.gz"
    path.write_bytes(gzip.compress(ONE.encode())[:-12])
    with pytest.raises(InputError, match="truncated or damaged"):
        read_meme(path)
    damaged = bytearray(gzip.compress(ONE.encode() * 50))
    damaged[30:40] = bytes(10)
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="truncated or damaged"):
        read_meme(path)


def test_round_trip() -> None:
    rng = np.random.default_rng(0)
    motifs = [
        MemeMotif(f"n000{i}_1", "ACGT", rng.dirichlet(np.ones(4), 9), 12, -15.2, math.nan)
        for i in range(3)
    ]
    again = parse_meme(format_meme(motifs), "x")
    for a, b in zip(motifs, again, strict=True):
        assert (a.identifier, a.name, a.n_sites) == (b.identifier, b.name, b.n_sites)
        np.testing.assert_allclose(a.matrix, b.matrix, atol=2e-6)
        assert b.log10_e_value == pytest.approx(a.log10_e_value, abs=0.02)


@given(st.floats(-5000, 300))
def test_numbers_far_beyond_floats_survive(log10: float) -> None:
    assert log10_of(text_of_log10(log10)) == pytest.approx(log10, abs=0.025)


def test_zero() -> None:
    assert log10_of("0") == -math.inf
    assert text_of_log10(-math.inf) == "0"


BLOCK = """\
ALPHABET "DNA" DNA-LIKE
# core
C "Cytosine" 0000CC ~ G "Guanine" FFB300
A "Adenine" CC0000 ~ T "Thymine" 008000
N "Any base" = ACGT
U = T
END ALPHABET
"""


@pytest.mark.parametrize(
    "alphabet",
    [
        BLOCK,
        BLOCK.replace('"DNA" DNA-LIKE', "DNA-LIKE"),
        'ALPHABET "RNA" RNA-LIKE\nA "A"\nC "C"\nG "G"\nU "U"\nT = U\nEND ALPHABET\n',
        'ALPHABET= "ACGT"\n',
        "ALPHABET=ACGU\n",
    ],
)
def test_alphabets_with_the_usual_order(alphabet: str) -> None:
    (motif,) = parse_meme(ONE.replace("ALPHABET= ACGT\n", alphabet), "x")
    np.testing.assert_allclose(motif.matrix, [[0.2, 0.8, 0, 0], [0.95, 0, 0.05, 0]])


def test_each_part_of_a_joined_file_has_its_own_order() -> None:
    other = ONE.replace("ACGT", "TGCA").replace("MA0004.1", "b")
    plain = ONE.replace("ALPHABET= ACGT\n", "").replace("MA0004.1", "c")
    first, second, third = parse_meme(ONE + other + plain, "x")
    np.testing.assert_allclose(first.matrix[0], [0.2, 0.8, 0, 0])
    np.testing.assert_allclose(second.matrix[0], [0, 0, 0.8, 0.2])
    np.testing.assert_allclose(third.matrix, first.matrix)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("nsites= 20", "nsites= nan"),
        ("nsites= 20", "nsites= NaN"),
        ("nsites= 20", ""),
        (" w= 2", ""),
        ("\n 0.95", "\n\n 0.95"),
        ("MEME version", "\ufeffMEME version"),
        ("\n", "\r\n"),
        (" w= 2", " w=2"),
    ],
)
def test_harmless_oddities_change_nothing(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "db.meme"
    path.write_bytes(ONE.replace(old, new).encode())
    (motif,) = read_meme(path)
    np.testing.assert_allclose(motif.matrix, [[0.2, 0.8, 0, 0], [0.95, 0, 0.05, 0]])
    assert motif.n_sites == 20


def test_names_in_latin_1_are_read(tmp_path: Path) -> None:
    path = tmp_path / "db.meme"
    path.write_bytes(ONE.replace("Arnt", "Kr\u00fcppel").encode("latin-1"))
    assert read_meme(path)[0].name == "Kr\u00fcppel"
    path.write_bytes(ONE.encode("utf-16-le"))
    with pytest.raises(InputError, match="zero byte"):
        read_meme(path)
