"""MEME motif format and the text output of meme and streme: the only reader and writer.

Reads minimal MEME format (databases), `meme.txt` and `streme.txt`: they share `MOTIF` lines and
letter-probability matrices. What a motif means belongs elsewhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeborzoi.errors import InputError
from saeborzoi.reading import read_text, shown

_MATRIX = re.compile(r"letter-probability matrix:(?P<fields>.*)")
_FIELD = re.compile(r"(?P<name>[A-Za-z]+)\s*=\s*(?P<value>\S+)")
_QUOTED = re.compile(r'"[^"]*"')
_USUAL_SITES = 20.0
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
    if value < 0:
        raise ValueError(f"{number} is below 0")
    if value == 0:
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


def read_meme(path: Path | str) -> list[MemeMotif]:
    """Motifs of a MEME-format file, plain or gzipped.

    Raises
    ------
    InputError
        Where the file is missing, unreadable, truncated, holds no motif or a malformed one.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(
            f"motif file {path}: not there; fix the path in [[data.motif_database]] source"
        )
    return parse_meme(read_text(path, fallback="latin-1"), str(path))


def parse_meme(text: str, what: str) -> list[MemeMotif]:
    """Motifs of MEME-format text; `what` names it in errors. Raises as `read_meme`."""
    motifs: list[MemeMotif] = []
    lines = text.splitlines()
    columns = [0, 1, 2, 3]
    heading = None
    i = 0
    while i < len(lines):
        line = lines[i].strip()
        i += 1
        first = line.split()[:1]
        if first == ["ALPHABET"] or line.startswith("ALPHABET="):
            columns, i = _columns(lines, i, what)
        elif line.startswith("MEME version"):
            columns = [0, 1, 2, 3]  # another file begins, e.g. of some that were joined
        elif first == ["MOTIF"]:
            if heading is not None:
                break
            heading = _heading(line, i, what)
        elif match := _MATRIX.match(line):
            if heading is None:
                raise InputError(
                    f"{what}, line {i}: a letter-probability matrix without a MOTIF line of its "
                    "own; give each matrix its 'MOTIF identifier' line"
                )
            motif, i = _motif(heading, match["fields"], lines, i, columns, what)
            motifs.append(motif)
            heading = None
    if heading is not None:
        raise InputError(
            f"{what}, line {heading.line}: motif {shown(heading.identifier)} has no "
            "letter-probability matrix; the file seems truncated or malformed: fetch it again"
        )
    if not motifs:
        raise InputError(
            f"{what}: no motif in it; needed is MEME format with 'MOTIF' lines and "
            "'letter-probability matrix:' blocks (convert other formats with the MEME suite)"
        )
    return motifs


class _Heading(NamedTuple):
    """What a MOTIF line says, and its 1-based line."""

    identifier: str
    name: str
    llr: str | None
    line: int


def _heading(text: str, line: int, what: str) -> _Heading:
    words = text.split()[1:]
    if not words:
        raise InputError(f"{what}, line {line}: MOTIF without an identifier; write 'MOTIF name'")
    name = words[1] if len(words) > 1 and words[1] != "width" else ""
    for word in (words[0], name):
        if not word.isprintable():
            raise InputError(
                f"{what}, line {line}: the motif's name {shown(word)} holds control characters; "
                "remove them"
            )
    llr = re.search(r"llr\s*=\s*(\S+)", text)
    return _Heading(words[0], name, llr[1] if llr else None, line)


def _columns(lines: list[str], i: int, what: str) -> tuple[list[int], int]:
    """Where A, C, G, T (or U) stand in an alphabet, and the line behind it.

    `i` is the line behind `ALPHABET`, which either names the letters after `=` or begins a block
    with a core letter, or two complementary ones, a line. MEME sorts those for its matrices.
    """
    line, number = lines[i - 1], i
    if "=" in line:
        words = line.partition("=")[2].replace('"', " ").split()
        alphabet = (words[0] if words else "").upper()
    else:
        core: list[str] = []
        while i < len(lines) and lines[i].split()[:2] != ["END", "ALPHABET"]:
            bare = _QUOTED.sub(" ", lines[i]).partition("#")[0]
            if "=" not in bare and bare.strip():
                core += [half.split()[0] for half in bare.split("~") if half.split()]
            i += 1
        if i == len(lines):
            raise InputError(f"{what}, line {number}: ALPHABET without its END ALPHABET")
        i += 1
        alphabet = "".join(sorted(core)).upper()
    bases = alphabet.replace("U", "T")
    if sorted(bases) != list("ACGT"):
        raise InputError(
            f"{what}, line {number}: alphabet {shown(alphabet)}; needed is a DNA (ACGT) or RNA "
            "(ACGU) database"
        )
    return [bases.index(letter) for letter in "ACGT"], i


def _motif(
    heading: _Heading, fields: str, lines: list[str], i: int, columns: list[int], what: str
) -> tuple[MemeMotif, int]:
    """The motif whose matrix begins in line `i` (0-based), and the line behind it."""
    where = f"{what}, line {i}: motif {shown(heading.identifier)}"
    given = {m["name"].lower(): m["value"] for m in _FIELD.finditer(fields)}
    rows: list[list[float]] = []
    first = i
    try:
        width = int(given["w"]) if "w" in given else None
        if int(given.get("alength", 4)) != 4:
            raise InputError(f"{where} has alength= {given['alength'][:40]}; needed is 4, of DNA")
        while i < len(lines):
            words = lines[i].split()
            if words:
                if not _is_number(words[0]):
                    if words[0] != "MOTIF" and len(words) == 4 and all(map(_is_number, words[1:])):
                        raise ValueError(f"{words[0]!r} in row {len(rows) + 1}")
                    break
                if len(words) != 4:
                    raise InputError(
                        f"{what}, line {i + 1}: motif {shown(heading.identifier)} has {len(words)} "
                        "numbers in a row; needed are 4, for A, C, G, T"
                    )
                if len(rows) == 0:
                    first = i
                rows.append([float(word) for word in words])
            i += 1
        n_sites = float(given.get("nsites", _USUAL_SITES))
        if math.isnan(n_sites):  # a converter's missing value
            n_sites = _USUAL_SITES
        if not 0 <= n_sites < math.inf:
            raise ValueError(f"nsites= {given['nsites']}")
        log10_e = log10_of(given["e"]) if "e" in given else math.nan
        log_ratio = float(heading.llr) if heading.llr else math.nan
    except ValueError as error:
        raise InputError(
            f"{where}: not a number of that kind ({str(error)[:200]}); fix it"
        ) from None
    matrix = np.array(rows, float).reshape(-1, 4)
    if not rows or (width is not None and len(rows) != width):
        raise InputError(
            f"{where} has {len(rows)} rows, its header says {width}; the "
            "file seems truncated or malformed: fetch it again"
        )
    off = np.nan_to_num(np.abs(matrix.sum(axis=1) - 1), nan=math.inf)
    off[(matrix < 0).any(axis=1)] = math.inf
    if (off > _TOLERANCE).any():
        row = int(off.argmax())
        raise InputError(
            f"{what}, line {first + row + 1}: motif {shown(heading.identifier)}, row {row + 1}: "
            f"{rows[row]}; needed are four probabilities that sum to 1"
        )
    matrix = matrix[:, columns]
    matrix /= matrix.sum(axis=1, keepdims=True)
    motif = MemeMotif(
        heading.identifier, heading.name, matrix, max(n_sites, 1.0), log10_e, log_ratio
    )
    return motif, i


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def format_meme(
    motifs: Iterable[MemeMotif],
    background: Sequence[float] = (0.25,) * 4,
    both_strands: bool = True,
) -> str:
    """MEME-format text of some motifs.

    The feature browser writes the same text in JavaScript (`export.js`), tested byte for byte.

    Parameters
    ----------
    motifs
        In the order of the text.
    background
        Frequencies of A C G T.
    both_strands
        Whether sites may lie on either strand.
    """
    frequencies = " ".join(f"{a} {p:.5f}" for a, p in zip("ACGT", background, strict=True))
    parts = [
        f"MEME version 5\n\nALPHABET= ACGT\n\nstrands: {'+ -' if both_strands else '+'}\n\n"
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
