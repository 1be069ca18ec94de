"""MEME motif format and the text output of meme and streme: the only reader and writer.

Reads minimal MEME format (databases), `meme.txt` and `streme.txt`: they share `MOTIF` lines and
letter-probability matrices. What a motif means belongs elsewhere.
"""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeborzoi.errors import InputError

_MATRIX = re.compile(r"letter-probability matrix:(?P<fields>.*)")
_FIELD = re.compile(r"(?P<name>[A-Za-z]+)\s*=\s*(?P<value>\S+)")
_TOLERANCE = 0.02
"""By how much a row of a matrix may miss a sum of 1: files are rounded to a few digits."""


class MemeMotif(NamedTuple):
    """One motif of a file.

    Attributes
    ----------
    identifier, name
        First and second word of the `MOTIF` line; `name` is empty where there is none.
    matrix
        (width, 4) float64, rows sum to 1, order A C G T.
    n_sites
        Sites that it was made from; 20 where the file does not say (MEME's own default).
    log10_e_value
        log10 of the E-value, -inf for 0, nan where the file does not say.
    llr
        Log-likelihood ratio as meme prints it, nan elsewhere.
    """

    identifier: str
    name: str
    matrix: NDArray[np.float64]
    n_sites: float
    log10_e_value: float
    llr: float


def log10_of(number: str) -> float:
    """log10 of a number in text, however small.

    >>> log10_of("2.0e-1834")
    -1833.698970004336
    """
    mantissa, _, exponent = number.lower().partition("e")
    value = float(mantissa)
    if value <= 0:
        return -math.inf
    return math.log10(value) + int(exponent or 0)


def text_of_log10(log10: float) -> str:
    """A number from its log10, as MEME prints E-values.

    >>> text_of_log10(-1833.69897)
    '2.0e-1834'
    """
    if not math.isfinite(log10):
        return "0" if log10 < 0 else "inf"
    exponent = math.floor(log10)
    mantissa = f"{10 ** (log10 - exponent):.1f}"
    if mantissa == "10.0":
        mantissa, exponent = "1.0", exponent + 1
    return f"{mantissa}e{exponent:+04d}"


def read_meme(path: Path) -> list[MemeMotif]:
    """Motifs of a MEME-format file, plain or gzipped.

    Raises
    ------
    InputError
        Where the file is missing, unreadable, truncated, holds no motif or a malformed one.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise InputError(
            f"motif file {path}: not there; mend the path in [[data.motif_database]] source"
        ) from None
    except (OSError, EOFError) as error:
        raise InputError(
            f"motif file {path}: cannot be read ({error}); fetch it again or mend its rights"
        ) from None
    return parse_meme(data.decode("utf-8", "replace"), str(path))


def parse_meme(text: str, what: str) -> list[MemeMotif]:
    """Motifs of MEME-format text; `what` names it in errors. Raises as `read_meme`."""
    motifs: list[MemeMotif] = []
    lines = text.splitlines()
    columns = _columns(lines, what)
    heading = ""
    i = 0
    while i < len(lines):
        line = lines[i].strip()
        i += 1
        if line.split()[:1] == ["MOTIF"]:
            if heading:
                break
            heading = line
            continue
        found = _MATRIX.match(line)
        if found is None or not heading:
            continue
        motif, i = _motif(heading, found["fields"], lines, i, columns, what)
        motifs.append(motif)
        heading = ""
    if heading:
        raise InputError(
            f"{what}: motif {_names(heading)[0]!r} has no letter-probability matrix; the file "
            "seems truncated or malformed: fetch it again"
        )
    if not motifs:
        raise InputError(
            f"{what}: no motif in it; needed is MEME format with 'MOTIF' lines and "
            "'letter-probability matrix:' blocks (convert other formats with the MEME suite)"
        )
    return motifs


def _columns(lines: list[str], what: str) -> list[int]:
    """Where A, C, G, T (or U) stand in the file's alphabet."""
    for line in lines:
        if line.startswith("ALPHABET"):
            letters = line.partition("=")[2].replace('"', " ").split()
            alphabet = (letters[0] if letters else "").upper().replace("U", "T")
            if sorted(alphabet) != list("ACGT"):
                raise InputError(
                    f"{what}: alphabet {alphabet!r}; needed is a DNA (ACGT) or RNA (ACGU) database"
                )
            return [alphabet.index(letter) for letter in "ACGT"]
        if line.startswith("MOTIF"):
            break
    return [0, 1, 2, 3]


def _names(heading: str) -> tuple[str, str]:
    words = heading.split()[1:]
    identifier = words[0] if words else ""
    name = words[1] if len(words) > 1 and words[1] != "width" else ""
    return identifier, name


def _motif(
    heading: str, fields: str, lines: list[str], i: int, columns: list[int], what: str
) -> tuple[MemeMotif, int]:
    identifier, name = _names(heading)
    given = {m["name"].lower(): m["value"] for m in _FIELD.finditer(fields)}
    rows: list[list[float]] = []
    try:
        width = int(given["w"]) if "w" in given else None
        while i < len(lines) and (width is None or len(rows) < width):
            words = lines[i].split()
            if not words and not rows:
                i += 1
                continue
            if len(words) != 4 or (width is None and not _is_number(words[0])):
                break
            rows.append([float(word) for word in words])
            i += 1
        n_sites = float(given.get("nsites", 20))
        log10_e = log10_of(given["e"]) if "e" in given else math.nan
        llr = re.search(r"llr\s*=\s*(\S+)", heading)
        log_ratio = float(llr[1]) if llr else math.nan
    except ValueError as error:
        raise InputError(f"{what}: motif {identifier!r}: not a number ({error})") from None
    matrix = np.array(rows, float).reshape(-1, 4)
    if not rows or (width is not None and len(rows) != width):
        raise InputError(
            f"{what}: motif {identifier!r} has {len(rows)} rows, its header says {width}; the "
            "file seems truncated or malformed: fetch it again"
        )
    off = np.abs(matrix.sum(axis=1) - 1)
    if (matrix < 0).any() or not np.isfinite(matrix).all() or (off > _TOLERANCE).any():
        raise InputError(
            f"{what}: motif {identifier!r}, row {int(off.argmax()) + 1}: {rows[off.argmax()]}; "
            "needed are four probabilities that sum to 1"
        )
    matrix = matrix[:, columns]
    matrix /= matrix.sum(axis=1, keepdims=True)
    return MemeMotif(identifier, name, matrix, max(n_sites, 1.0), log10_e, log_ratio), i


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def format_meme(
    motifs: Iterable[MemeMotif], background: tuple[float, float, float, float] = (0.25,) * 4
) -> str:
    """MEME-format text of some motifs."""
    frequencies = " ".join(f"{a} {p:.5f}" for a, p in zip("ACGT", background, strict=True))
    parts = [
        "MEME version 5\n\nALPHABET= ACGT\n\nstrands: + -\n\n"
        f"Background letter frequencies\n{frequencies}\n"
    ]
    for motif in motifs:
        rows = "\n".join(" ".join(f"{p:.6f}" for p in row) for row in motif.matrix)
        e_value = "0" if math.isnan(motif.log10_e_value) else text_of_log10(motif.log10_e_value)
        parts.append(
            f"\nMOTIF {motif.identifier} {motif.name}".rstrip(" ") + "\n"
            f"letter-probability matrix: alength= 4 w= {len(motif.matrix)} "
            f"nsites= {motif.n_sites:g} E= {e_value}\n{rows}\n"
        )
    return "".join(parts)
