"""The real `meme` and `streme` as engines: one run a node, its text output parsed.

Where the programs are is in `programs.py`, the format in `meme_format.py`.
"""

from __future__ import annotations

import math
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saeborzoi.errors import MissingProgramError
from saeborzoi.motifs.meme_format import parse_meme
from saeborzoi.motifs.options import DiscoveryOptions
from saeborzoi.motifs.programs import find_program
from saeborzoi.motifs.sequences import Found

_SEED = "0"
"""Of the programs that want one: a node's motifs depend on nothing drawn at random."""


def run_program(
    sequences: Sequence[str],
    options: DiscoveryOptions,
    background: NDArray[np.float64],
) -> list[Found]:
    """Motifs of one node by `options.engine`, `meme` or `streme`.

    Parameters
    ----------
    sequences
        Seqlets of the node, A C G T.
    background
        (4,) float64; handed to the program where the options ask for the genome's, otherwise
        the program takes it from the sequences, as it does by itself.

    Returns
    -------
    Motifs in the program's order. STREME scans both strands, and its E-values (from sequences
    that it holds out) are not comparable with MEME's.

    Raises
    ------
    MissingProgramError
        Where the program cannot be run or fails.
    InputError
        Where its output cannot be parsed.
    """
    program = find_program(options.engine, options.executable, "[motifs]", "builtin")
    with tempfile.TemporaryDirectory(prefix="saeborzoi-motifs-") as folder:
        fasta = Path(folder, "seqlets.fa")
        fasta.write_text("".join(f">s{i}\n{s}\n" for i, s in enumerate(sequences)))
        command = _command(str(program), fasta, options)
        if options.background == "genome":
            frequencies = Path(folder, "background.txt")
            frequencies.write_text(
                "".join(f"{a} {p:.6f}\n" for a, p in zip("ACGT", background, strict=True))
            )
            command += ["-bfile" if options.engine == "meme" else "--bfile", str(frequencies)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise MissingProgramError(
                f"{program} cannot be run ({error.strerror}); fix that or set [motifs] engine = "
                '"builtin"'
            ) from None
    if done.returncode:
        raise MissingProgramError(
            f"{program} ended with {done.returncode}: {done.stderr.strip()[-500:]}; fix that or "
            'set [motifs] engine = "builtin"'
        )
    if "MOTIF" not in done.stdout:
        return []
    return [
        Found(motif.matrix, round(motif.n_sites), motif.llr, motif.log10_e_value)
        for motif in parse_meme(done.stdout, f"output of {program}")
        if not math.isnan(motif.log10_e_value)
    ]


def _command(program: str, fasta: Path, options: DiscoveryOptions) -> list[str]:
    if options.engine == "meme":
        command = [program, str(fasta), "-dna", "-text", "-nostatus", "-seed", _SEED]
        command += ["-nmotifs", str(options.n_motifs), "-minw", str(options.min_width)]
        if options.max_width:
            command += ["-maxw", str(options.max_width)]
        return [*command, "-revcomp"] if options.strands == "both" else command
    command = [program, "--p", str(fasta), "--dna", "--text", "--seed", _SEED]
    command += ["--nmotifs", str(options.n_motifs), "--minw", str(options.min_width)]
    return [*command, "--maxw", str(options.max_width)] if options.max_width else command
