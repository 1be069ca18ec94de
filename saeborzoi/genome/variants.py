"""Variants on the genome: checked against it, one form each.

Reading files is in `variant_files.py`, the letters of both alleles in `alleles.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.errors import InputError
from saeborzoi.genome.fasta import Genome
from saeborzoi.genome.variant_files import read_rows
from saeborzoi.reading import shown

_LETTERS = frozenset("ACGT")
_MITOCHONDRIA = ("M", "MT")
_MANY = 0.05
"""Where more of the reference alleles differ, it is another assembly rather than a slip."""
_BLOCK_BP = 1024
_GIVEN = 60
"""Letters that are kept of what a file has for a variant with a too long allele."""
COLUMNS = (
    "variant", "name", "chrom", "start_bp", "end_bp", "ref", "alt", "kind", "given", "line",
    "is_swapped",
)  # fmt: skip


class Variants(NamedTuple):
    """The variants of a file, and what was left out of it.

    Attributes
    ----------
    table
        One row a variant, ordered by place: variant (`chrom:pos:ref:alt`, pos counts from 1, the
        allele left-aligned and as short as it can be), name (rsid, or ""), chrom (as the genome
        names it), start_bp and end_bp (0-based, half-open: what the reference allele covers), ref,
        alt, kind (SNP, MNV, insertion, deletion or delins), given (as it stands in the file), line,
        is_swapped (the file has the genome's letter as the alternative one).
    skipped
        line, name, given, reason: what was not used, and why.
    notes
        What a user should know of the whole, in words.
    """

    table: pd.DataFrame
    skipped: pd.DataFrame
    notes: tuple[str, ...]


def read_variants(
    path: Path | str, genome: Genome, *, allow_swapped: bool = False, max_allele_bp: int = 1000
) -> Variants:
    """Variants of a VCF or a table, checked against the genome.

    Parameters
    ----------
    path
        See `variant_files.read_rows`.
    genome
        The reference.
    allow_swapped
        Turn a variant whose alternative allele is the genome's, instead of refusing it.
    max_allele_bp
        A variant with a longer allele is skipped.

    Raises
    ------
    InputError
        Where the file cannot be read, no chromosome is the genome's, a reference allele is not
        what stands there, or nothing is left; names file and line.
    """
    path = Path(path)
    rows = read_rows(path)
    rows["given"] = keys_of(rows["chrom"], rows["pos"], rows["ref"], rows["alt"])
    rows["reason"] = ""
    names, note = _reconciled(path, rows["chrom"].unique().tolist(), genome)
    rows["chrom"] = rows["chrom"].map(names)
    notes = [note] if note else []
    _skip(rows, rows["chrom"].isna(), "its chromosome is not in the genome")
    _skip_unfit_alleles(rows, max_allele_bp)
    used = rows[rows["reason"] == ""].copy()
    if len(used):
        used = _used(path, rows, used, genome, allow_swapped)
    skipped = rows.loc[rows["reason"] != "", ["line", "name", "given", "reason"]]
    if used.empty:
        some = skipped["reason"].value_counts()
        raise InputError(
            f"{path}: none of its {len(rows):,} variants can be used: "
            + "; ".join(f"{n:,} x {reason}" for reason, n in some.items())
        )
    if len(skipped):
        notes.append(f"{len(skipped):,} of {len(rows):,} variants are skipped, see their reasons")
    if used["is_swapped"].any():
        notes.append(
            f"{int(used['is_swapped'].sum()):,} variants are turned: the genome has their "
            "alternative allele"
        )
    return Variants(
        used[list(COLUMNS)].reset_index(drop=True), skipped.reset_index(drop=True), tuple(notes)
    )


def _used(
    path: Path, rows: pd.DataFrame, used: pd.DataFrame, genome: Genome, allow_swapped: bool
) -> pd.DataFrame:
    """Those that fit the genome, once each, in its order; `rows` gets the others' reasons."""
    used["start_bp"] = used["pos"].astype(np.int64) - 1
    used, in_n = _checked(path, used, genome, allow_swapped)
    _skip(rows, rows.index.isin(in_n), "the genome holds N there")
    if used.empty:
        return used
    _normalize(used, genome)
    repeated = used.duplicated("variant")
    if repeated.any():
        first = used.drop_duplicates("variant").set_index("variant")["line"]
        rows.loc[used.index[repeated], "reason"] = [
            f"the same variant as in line {first[variant]}"
            for variant in used.loc[repeated, "variant"]
        ]
        used = used[~repeated]
    order = {chrom: i for i, chrom in enumerate(genome.chrom_sizes)}
    return used.iloc[np.lexsort((used["start_bp"], used["chrom"].map(order)))]


def parse_variant(text: str, genome: Genome) -> str:
    """The key that a variant has in the tables, from `"1:12345:A:G"` as people write it.

    Raises
    ------
    InputError
        Where it is no such text, or does not fit the genome.
    """
    parts = text.strip().replace("-", ":").replace(",", "").split(":")
    if len(parts) != 4 or not parts[1].isdigit():
        raise InputError(
            f"variant {text!r}: needed is chrom:pos:ref:alt, as in '1:12345:A:G'; pos counts from 1"
        )
    where = Path(f"variant {text}")
    chrom = _reconciled(where, [parts[0]], genome)[0][parts[0]]
    rows = pd.DataFrame(
        {
            "line": [1], "name": [""], "chrom": [chrom], "start_bp": [int(parts[1]) - 1],
            "ref": [parts[2].upper()], "alt": [parts[3].upper()], "reason": [""],
        }
    )  # fmt: skip
    _skip_unfit_alleles(rows, 1 << 30)
    if rows["reason"].iloc[0]:
        raise InputError(f"variant {text!r}: {rows['reason'].iloc[0]}")
    rows, in_n = _checked(where, rows, genome, True)
    if len(in_n):
        raise InputError(f"variant {text!r}: the genome holds N there")
    _normalize(rows, genome)
    return str(rows["variant"].iloc[0])


def keys_of(chrom: pd.Series, pos: pd.Series, ref: pd.Series, alt: pd.Series) -> pd.Series:
    """Keys of variants, `chrom:pos:ref:alt`; pos counts from 1."""
    return chrom.astype(str) + ":" + pos.astype(str) + ":" + ref.astype(str) + ":" + alt.astype(str)


def _skip(rows: pd.DataFrame, which: NDArray[np.bool_] | pd.Series, reason: str) -> None:
    rows.loc[np.asarray(which, bool) & (rows["reason"] == "").to_numpy(), "reason"] = reason


def _skip_unfit_alleles(rows: pd.DataFrame, max_allele_bp: int) -> None:
    ref, alt = rows["ref"], rows["alt"]
    _skip(rows, alt.isin(["", "."]), "no alternative allele")
    _skip(rows, alt.isin(["*", "<*>"]), "the allele * (deleted by another variant)")
    _skip(rows, alt.str.contains(r"[\[\]]"), "a breakend; symbolic alleles have no sequence")
    _skip(rows, alt.str.startswith("<"), "a symbolic allele, which has no sequence")
    for name, allele in (("reference", ref), ("alternative", alt)):
        _skip(
            rows,
            ~allele.str.fullmatch("[ACGT]+"),
            f"its {name} allele has other letters than A, C, G, T",
        )
        too_long = (allele.str.len() > max_allele_bp) & (rows["reason"] == "")
        rows.loc[too_long, "reason"] = [
            f"its {name} allele has {len(text):,} bp, more than the {max_allele_bp:,} of "
            "max_allele_bp"
            for text in allele[too_long]
        ]
        if "given" in rows:
            # tables hold ten thousand of them
            rows.loc[too_long, "given"] = rows.loc[too_long, "given"].str.slice(0, _GIVEN) + "..."
    _skip(rows, ref == alt, "both alleles are the same")


def _reconciled(
    path: Path, names: Sequence[str], genome: Genome
) -> tuple[dict[str, str | None], str]:
    """The genome's name of each chromosome, None where it has none, and a note where they differ.

    Raises
    ------
    InputError
        Where the genome has none of them.
    """
    sizes = genome.chrom_sizes
    genome_names: dict[str, str | None] = {}
    for name in names:
        bare = name[3:] if name[:3].lower() == "chr" else name
        others = _MITOCHONDRIA if bare in _MITOCHONDRIA else (bare,)
        offers = [name, *others, *(f"chr{other}" for other in others)]
        genome_names[name] = next((offer for offer in offers if offer in sizes), None)
    here = ", ".join(list(sizes)[:5]) + (", ..." if len(sizes) > 5 else "")
    if not any(genome_names.values()):
        raise InputError(
            f"{path}: its chromosomes are {', '.join(map(shown, names[:5]))}, the genome's {here}; "
            "bring variants of this assembly, or rename the chromosomes (1 and chr1, MT and chrM "
            "are taken as the same)"
        )
    moved = [(a, b) for a, b in genome_names.items() if b is not None and a != b]
    if not moved:
        return genome_names, ""
    return genome_names, f"{moved[0][0]!r} of the file is {moved[0][1]!r} of the genome" + (
        f", and so on for {len(moved):,} chromosomes" if len(moved) > 1 else ""
    )


def _checked(
    path: Path, used: pd.DataFrame, genome: Genome, allow_swapped: bool
) -> tuple[pd.DataFrame, pd.Index]:
    """Those whose reference allele stands in the genome, and the index of those on N."""
    genome_alleles = _genome_alleles(used, genome, used["ref"])
    in_n = used.index[genome_alleles.str.contains("N", regex=False)]
    is_same = genome_alleles == used["ref"]
    used = used.assign(is_swapped=False)
    wrong = ~is_same & ~used.index.isin(in_n)
    if wrong.any() and allow_swapped:
        swapped = wrong & (_genome_alleles(used, genome, used["alt"]) == used["alt"])
        used.loc[swapped, ["ref", "alt"]] = used.loc[swapped, ["alt", "ref"]].to_numpy()
        used.loc[swapped, "is_swapped"] = True
        wrong &= ~swapped
    if wrong.any():
        row, genome_allele = used[wrong].iloc[0], genome_alleles[wrong].iloc[0]
        n, share = int(wrong.sum()), wrong.mean()
        what = "nothing, it ends before" if not genome_allele else shown(genome_allele)
        raise InputError(
            f"{path}, line {row['line']}: the reference allele is {shown(row['ref'])}, but at "
            f"{row['chrom']}:{row['start_bp'] + 1} the genome {genome.path} has {what}"
            + (f"; so it is for {n:,} of {len(used):,} variants" if n > 1 else "")
            + (
                ": they are of another assembly; lift them over, or name its FASTA in [data]"
                if share > _MANY and n > 1
                else "; fix or remove it"
            )
            + ("" if allow_swapped else ", or set allow_swapped where alleles are swapped")
        )
    return used[~used.index.isin(in_n)], in_n


def _genome_alleles(used: pd.DataFrame, genome: Genome, like: pd.Series) -> pd.Series:
    """What stands in the genome at each variant, as long as `like`; "" beyond the end."""
    alleles = pd.Series("", index=used.index, dtype=object)
    size = used["chrom"].map(genome.chrom_sizes)
    n_bp = like.str.len()
    is_inside = (used["start_bp"] >= 0) & (used["start_bp"] + n_bp <= size)
    inside = used[is_inside]
    if len(inside):
        start = inside["start_bp"].to_numpy(np.int64)
        alleles[is_inside] = genome.fetch(
            inside["chrom"].to_numpy(object), start, start + n_bp[is_inside].to_numpy(np.int64)
        )
    return alleles


def _normalize(used: pd.DataFrame, genome: Genome) -> None:
    """Adds `kind`, `end_bp` and `variant`; alleles become left-aligned and as short as can be."""
    single = (used["ref"].str.len() == 1) & (used["alt"].str.len() == 1)
    used["kind"] = np.where(single, "SNP", "")
    longer = used.loc[~single, ["chrom", "start_bp", "ref", "alt"]]
    before: dict[tuple[str, int], str] = {}
    forms = [
        normalized(int(start), ref, alt, _LettersBefore(genome, chrom, before))
        for chrom, start, ref, alt in longer.itertuples(index=False)
    ]
    for name, values in zip(
        ("start_bp", "ref", "alt", "kind"), zip(*forms, strict=True), strict=False
    ):
        used.loc[~single, name] = list(values)
    used["start_bp"] = used["start_bp"].astype(np.int64)
    used["end_bp"] = used["start_bp"] + used["ref"].str.len().astype(np.int64)
    used["variant"] = keys_of(used["chrom"], used["start_bp"] + 1, used["ref"], used["alt"])


class _LettersBefore:
    """Single letters of a chromosome, each block of it read once."""

    def __init__(self, genome: Genome, chrom: str, blocks: dict[tuple[str, int], str]) -> None:
        self._genome, self._chrom, self._blocks = genome, chrom, blocks

    def __call__(self, at_bp: int) -> str:
        block, offset = divmod(at_bp, _BLOCK_BP)
        key = (self._chrom, block)
        if key not in self._blocks:
            first = np.array([block * _BLOCK_BP])
            letters = self._genome.padded([self._chrom], first, _BLOCK_BP)[0]
            self._blocks[key] = letters.tobytes().decode()
        return self._blocks[key][offset]


def normalized(
    start_bp: int, ref: str, alt: str, letter: Callable[[int], str]
) -> tuple[int, str, str, str]:
    """A variant's one form: as far left and as short as it can be, and its kind.

    The algorithm of Tan, Abecasis and Kang (2015): while both alleles end alike, the last letter
    goes, and where one is empty the letter before comes to both; then what they begin with alike
    goes, one letter of each staying.

    >>> genome = "GCACACAT"
    >>> normalized(4, "ACA", "A", genome.__getitem__)
    (0, 'GCA', 'G', 'deletion')
    >>> normalized(0, "GCA", "GTA", genome.__getitem__)
    (1, 'C', 'T', 'SNP')
    """
    while ref[-1] == alt[-1] and (start_bp or min(len(ref), len(alt)) > 1):
        ref, alt = ref[:-1], alt[:-1]
        if not ref or not alt:
            start_bp -= 1
            ref, alt = letter(start_bp) + ref, letter(start_bp) + alt
    while min(len(ref), len(alt)) > 1 and ref[0] == alt[0]:
        start_bp, ref, alt = start_bp + 1, ref[1:], alt[1:]
    if len(ref) == len(alt):
        return start_bp, ref, alt, "SNP" if len(ref) == 1 else "MNV"
    if ref[0] != alt[0] and ref[-1] != alt[-1]:
        return start_bp, ref, alt, "delins"
    return (
        start_bp,
        ref,
        alt,
        "insertion" if len(ref) == 1 else ("deletion" if len(alt) == 1 else "delins"),
    )
