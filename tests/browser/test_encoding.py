"""What is written into scripts: safe, small, and the same after reading."""

from __future__ import annotations

import json
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from saeborzoi.browser.encoding import (
    ALPHABET,
    integer,
    number,
    pack_matrix,
    pack_sequences,
    script,
)


@given(st.recursive(st.text() | st.integers(-(2**53), 2**53) | st.none(), st.lists, max_leaves=9))
def test_a_script_carries_any_text_unharmed(value):
    text = script("nodes-0000", value)
    assert not re.search("[<>&\u2028\u2029]", text)
    assert text.startswith('saeborzoi("nodes-0000",')
    assert json.loads(text.removeprefix('saeborzoi("nodes-0000",').removesuffix(");\n")) == value


def test_a_script_cannot_be_closed_from_inside():
    assert "</script" not in script("x", {"name": "</script><script>alert(1)</script>"})


def unpack(packed: str, length: int) -> str:
    """What the page does."""
    if packed.startswith("!"):
        return packed[1:]
    codes = [ALPHABET.index(digit) for digit in packed]
    bases = "".join("ACGT"[c >> 4] + "ACGT"[c >> 2 & 3] + "ACGT"[c & 3] for c in codes)
    return bases[:length]


@given(st.lists(st.text(alphabet="ACGT", max_size=40) | st.text(max_size=9), max_size=30))
def test_sequences_come_back(sequences):
    packed = pack_sequences(sequences)
    assert [unpack(p, len(s)) for p, s in zip(packed, sequences, strict=True)] == sequences


def test_dna_takes_a_digit_for_three_bases():
    assert len(pack_sequences(["ACGTACGTACGTACGTAC"])[0]) == 6


def test_a_matrix_comes_back_to_a_64th():
    matrix = np.random.default_rng(0).dirichlet([0.5] * 4, size=30)
    levels = np.array([ALPHABET.index(digit) for digit in pack_matrix(matrix)]).reshape(-1, 4)
    np.testing.assert_allclose(levels / 63, matrix, atol=0.5 / 63 + 1e-12)


def test_missing_numbers_are_missing_not_zero():
    assert [number(v) for v in (None, float("nan"), float("inf"), 0.0)] == [None, None, None, 0]
    assert integer(float("nan")) is None
    assert integer(np.int64(123456789012)) == 123456789012
