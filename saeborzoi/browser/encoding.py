"""How values become small, safe text: JSON inside a script, packed sequences and matrices.

The reading side is `static/data.js`; the formats are described in `docs/browser.md`.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_DIGITS = np.frombuffer(ALPHABET.encode(), dtype=np.uint8)
_CODE_OF_BASE = np.full(256, 255, dtype=np.uint8)
_CODE_OF_BASE[np.frombuffer(b"ACGT", dtype=np.uint8)] = range(4)


def script(name: str, document: Any) -> str:
    """A script that hands `document` to the page: ``saeborzoi("name", {...});``.

    Safe in HTML and in every JavaScript engine: ``<``, ``>``, ``&`` and the line separators
    U+2028 and U+2029 are escaped, and nothing but JSON stands in it.
    """
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f"saeborzoi({json.dumps(name)},{text});\n"


def number(value: Any, digits: int = 4) -> float | int | None:
    """A number of at most `digits` significant digits; None where missing or not finite.

    >>> number(0.123456), number(3.0), number(float("nan"))
    (0.1235, 3, None)
    """
    if value is None:
        return None
    if value == 0:  # as most values along a locus are: rounding takes longest
        return 0
    value = float(value)
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def numbers(values: Any, digits: int = 4) -> list[float | int | None]:
    """`number` of each value."""
    return [number(value, digits) for value in values]


def text(value: Any) -> str | None:
    """A string, or None where the table has none."""
    return value if isinstance(value, str) and value else None


def integer(value: Any) -> int | None:
    """A whole number, or None where the table has none."""
    rounded = number(value, 15)
    return None if rounded is None else int(rounded)


def is_true(value: Any) -> bool:
    """Whether a cell holds true; a missing value (None or NaN) is not."""
    return value is not None and value == 1


def pack_matrix(matrix: NDArray[np.float64]) -> str:
    """Matrix (width, 4) of probabilities as one digit of 64 a value, row by row.

    >>> pack_matrix(np.array([[1.0, 0.0, 0.0, 0.0]]))
    '_AAA'
    """
    levels = np.clip(np.rint(matrix.ravel() * 63), 0, 63).astype(np.int64)
    return _DIGITS[levels].tobytes().decode()


def pack_sequences(sequences: list[str]) -> list[str]:
    """DNA as three bases a digit of 64, A where the last digit is not full.

    A sequence with anything but A, C, G and T stays as it is, after a ``!``.

    >>> pack_sequences(["AAATTT", "ACN"])
    ['A_', '!ACN']
    """
    packed: dict[int, str] = {}
    by_length: dict[int, list[int]] = {}
    for place, sequence in enumerate(sequences):
        by_length.setdefault(len(sequence), []).append(place)
    for length, places in by_length.items():
        raw = "".join(sequences[place] for place in places)
        if length == 0 or not raw.isascii():
            packed.update((place, "!" + sequences[place]) for place in places)
            continue
        codes = _CODE_OF_BASE[np.frombuffer(raw.encode(), dtype=np.uint8)].reshape(-1, length)
        plain = np.all(codes < 4, axis=1)
        padded = np.zeros((len(places), -(-length // 3) * 3), dtype=np.uint8)
        padded[:, :length] = np.where(plain[:, None], codes, 0)
        digits = padded[:, 0::3] * 16 + padded[:, 1::3] * 4 + padded[:, 2::3]
        rows = np.ascontiguousarray(_DIGITS[digits])
        lines = rows.view(f"S{rows.shape[1]}").ravel().astype(str).tolist()
        for place, line, is_plain in zip(places, lines, plain.tolist(), strict=True):
            packed[place] = line if is_plain else "!" + sequences[place]
    return [packed[place] for place in range(len(sequences))]
