"""meme and streme as engines, played back from recorded output; what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from saeborzoi.errors import InputError, MissingProgramError
from saeborzoi.motifs.discovery import check_discovery_engine, discover
from saeborzoi.motifs.meme_format import text_of_log10
from saeborzoi.motifs.options import DiscoveryOptions
from tests.motifs.test_matching import player

RECORDED = json.loads((Path(__file__).parent / "data" / "meme_parity.json").read_text())
NAME = "w14_CTCF_both_75"


def meme_txt(motifs: list[dict]) -> str:
    """meme.txt with recorded motifs."""
    parts = ["MEME version 5.5.8 (Release date: x)\n\nALPHABET= ACGT\n"]
    for number, motif in enumerate(motifs, 1):
        e_value = text_of_log10(motif["log10_evalue"])
        name = f"{motif['consensus']} MEME-{number}"
        rows = "\n".join(" " + "  ".join(f"{p:.6f}" for p in row) for row in motif["matrix"])
        parts.append(
            f"MOTIF {name}\twidth = {motif['width']:3d}  sites = {motif['sites']:3d}  "
            f"llr = {motif['llr']:.0f}  p-value = 1.0e-900  E-value = {e_value}\n"
            f"\tMotif {name} position-specific probability matrix\n{'-' * 80}\n"
            f"letter-probability matrix: alength= 4 w= {motif['width']} nsites= "
            f"{motif['sites']} E= {e_value}\n{rows}\n{'-' * 80}\n"
        )
    return "\n".join(parts)


def seqlets() -> pd.DataFrame:
    texts = RECORDED[NAME]["sequences"].split()
    return pd.DataFrame(
        {
            "node": 7,
            "rank": range(len(texts)),
            "activation": np.linspace(2, 1, len(texts)),
            "sequence": texts,
        }
    )


def test_recorded_meme_output(tmp_path: Path) -> None:
    program = player(tmp_path / "meme", meme_txt(RECORDED[NAME]["motifs"]))
    options = DiscoveryOptions(engine="meme", executable=program)
    motifs = discover(seqlets(), options)
    assert motifs["engine"].tolist() == ["meme 5.5.8"] * 2
    assert motifs["width_bp"].tolist() == [11, 11]
    assert motifs["n_sites"].tolist() == [505, 117]
    assert motifs["llr"].tolist() == [3484, 950]
    np.testing.assert_allclose(motifs["log10_e_value"], [-851.796, -152.77], atol=0.05)
    assert motifs["is_significant"].all()
    np.testing.assert_allclose(np.vstack(motifs["matrix"][0]).sum(axis=1), 1)


def test_e_value_beyond_floats_and_the_artefact(tmp_path: Path) -> None:
    first = {**RECORDED[NAME]["motifs"][0], "log10_evalue": -1833.7}
    rng = np.random.default_rng(0)
    second = {
        **first,
        "width": 14,
        "sites": 1000,
        "log10_evalue": -114.0,
        "matrix": rng.dirichlet([9, 7, 7, 9], 14).tolist(),
    }
    program = player(tmp_path / "meme", meme_txt([first, second]))
    motifs = discover(seqlets(), DiscoveryOptions(engine="meme", executable=program))
    assert motifs["log10_e_value"].iloc[0] == pytest.approx(-1833.7, abs=0.05)
    assert motifs["suspect"].tolist()[1] == "composition"
    assert motifs["is_significant"].tolist() == [True, False]


STREME_TXT = """\
MEME version 5.5.8 (Release date: x)
ALPHABET= ACGT
strands: + -

MOTIF 1-TGATAAG STREME-1
letter-probability matrix: alength= 4 w= 3 nsites= 428 E= 1.2e-003
 0.1 0.1 0.1 0.7
 0.1 0.1 0.7 0.1
 0.7 0.1 0.1 0.1

MOTIF 2-CAC STREME-2
letter-probability matrix: alength= 4 w= 3 nsites= 20 S= 2.7e-5
 0.1 0.7 0.1 0.1
 0.7 0.1 0.1 0.1
 0.1 0.7 0.1 0.1
"""


def test_recorded_streme_output(tmp_path: Path) -> None:
    options = DiscoveryOptions(engine="streme", executable=player(tmp_path / "streme", STREME_TXT))
    motifs = discover(seqlets(), options)
    # a motif without an E-value (S: a score on the training sequences) is left out
    assert motifs["n_sites"].tolist() == [428]
    assert motifs["log10_e_value"].iloc[0] == pytest.approx(np.log10(1.2e-3))
    assert np.isnan(motifs["llr"].iloc[0])
    assert motifs["engine"].tolist() == ["streme 5.5.8"]


def test_no_motif_found(tmp_path: Path) -> None:
    options = DiscoveryOptions(
        engine="streme", executable=player(tmp_path / "streme", "MEME version 5\n")
    )
    assert discover(seqlets(), options).empty


def test_command_line(tmp_path: Path) -> None:
    program = tmp_path / "meme"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    program.chmod(0o755)
    genome = tmp_path / "g.fa"
    genome.write_text(">c\nACGT\n")
    for engine in ("meme", "streme"):
        options = DiscoveryOptions(
            engine=engine,
            executable=program,
            strands="both",
            max_width=20,
            n_motifs=3,
            background="genome",
        )
        discover(seqlets(), options, genome=genome)
    calls = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    meme, streme = (call for call in calls if "--version" not in call)
    assert {"-dna", "-text", "-revcomp", "-bfile"} < set(meme)
    assert meme[meme.index("-nmotifs") + 1] == "3"
    assert meme[meme.index("-maxw") + 1] == "20"
    assert {"--dna", "--text", "--bfile"} < set(streme)
    assert "-revcomp" not in streme


def test_missing_programs_are_refused_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for engine in ("meme", "streme"):
        with pytest.raises(
            MissingProgramError, match=f'{engine} is not on PATH; install.*engine = "builtin"'
        ):
            check_discovery_engine(DiscoveryOptions(engine=engine))
    with pytest.raises(MissingProgramError, match="no program at"):
        check_discovery_engine(DiscoveryOptions(engine="meme", executable=tmp_path / "meme"))
    program = tmp_path / "meme"
    program.write_text("")
    with pytest.raises(MissingProgramError, match="not executable; chmod"):
        check_discovery_engine(DiscoveryOptions(engine="meme", executable=program))
    program.write_text("#!/bin/false\n")
    program.chmod(0o755)
    with pytest.raises(MissingProgramError, match="--version failed"):
        check_discovery_engine(DiscoveryOptions(engine="meme"))
    assert check_discovery_engine(DiscoveryOptions()).startswith("builtin ")


def test_program_that_fails_and_unreadable_output(tmp_path: Path) -> None:
    options = DiscoveryOptions(engine="meme", executable=player(tmp_path / "meme", "", status=2))
    with pytest.raises(MissingProgramError, match="ended with 2: out of luck"):
        discover(seqlets(), options)
    options = DiscoveryOptions(
        engine="meme", executable=player(tmp_path / "cut", "MOTIF A MEME-1\n")
    )
    with pytest.raises(
        InputError, match=r"output of .*cut, line 1: motif 'A' has no letter-probability"
    ):
        discover(seqlets(), options)
