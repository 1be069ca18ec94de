"""Known motifs: JASPAR offline, MEME files with JASPAR's annotation, archetypes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saeborzoi.errors import InputError
from saeborzoi.motifs.databases import load_database, load_databases

MATRIX = "letter-probability matrix: alength= 4 w= 2 nsites= 20 E= 0\n0.2 0.8 0 0\n0 0 0.5 0.5\n"


def test_jaspar_with_families() -> None:
    loaded = load_database("db", "jaspar:JASPAR2024:CORE:vertebrates")
    assert len(loaded.motifs) == 879
    ctcf = next(m for m in loaded.motifs if m.identifier == "MA0139.2")
    assert ctcf.name == "CTCF"
    assert ctcf.family == "More than 3 adjacent zinc fingers"
    assert ctcf.structural_class == "C2H2 zinc finger factors"
    np.testing.assert_allclose(ctcf.matrix.sum(axis=1), 1)
    assert ctcf.n_sites > 100


def test_file_takes_jaspar_annotation_by_identifier(tmp_path: Path) -> None:
    path = tmp_path / "own.meme"
    path.write_text(f"MEME version 4\n\nMOTIF MA0139.2 CTCF\n{MATRIX}\nMOTIF mine\n{MATRIX}")
    known, mine = load_database("db", path).motifs
    assert known.family == "More than 3 adjacent zinc fingers"
    assert (mine.name, mine.family) == ("mine", None)


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    """A process that lives long (the interface, a warm worker) answered from the old one."""
    path = tmp_path / "own.meme"
    path.write_text(f"MEME version 4\n\nMOTIF first\n{MATRIX}")
    assert [m.name for m in load_database("db", path).motifs] == ["first"]
    path.write_text(f"MEME version 4\n\nMOTIF second\n{MATRIX}")
    assert [m.name for m in load_database("db", path).motifs] == ["second"]


def test_archetypes_keep_their_cluster_names(tmp_path: Path) -> None:
    path = tmp_path / "archetypes.meme"
    name = "AC0001:DLX/LHX:Homeodomain"
    path.write_text(f"MEME version 4\n\nMOTIF {name} {name}\n\n{MATRIX}")
    (motif,) = load_database("db", path).motifs
    assert motif[:3] == ("AC0001", "DLX/LHX", "Homeodomain")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("jaspar:JASPAR2023:CORE:vertebrates", "no JASPAR release 'JASPAR2023'.*JASPAR2024"),
        ("jaspar:JASPAR2024:CRE:vertebrates", "no collection 'CRE'; it has CORE"),
        ("jaspar:JASPAR2024:CORE:mice", "no taxonomic group 'mice'.*vertebrates"),
        ("jaspar:JASPAR2024", "needed is jaspar:<release>"),
        ("jaspar:JASPAR2024:UNVALIDATED:diatoms", "holds no motif"),
    ],
)
def test_what_jaspar_lacks_is_refused(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_database("db", source)


def test_identifier_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.meme"
    path.write_text(f"MEME version 4\n\nMOTIF a\n{MATRIX}\nMOTIF a\n{MATRIX}")
    with pytest.raises(InputError, match="'a' stands twice"):
        load_databases({"db": str(path)})


def test_columns_without_a_count_are_uniform() -> None:
    loaded = load_database("db", "jaspar:JASPAR2022:UNVALIDATED:all")
    assert len(loaded.motifs) == 550
    for motif in loaded.motifs:
        np.testing.assert_allclose(motif.matrix.sum(axis=1), 1)
    odd = next(m for m in loaded.motifs if m.identifier == "UN0498.1")
    assert (odd.matrix == 0.25).all(axis=1).any()


def test_a_missing_number_of_sites_changes_no_other_match(tmp_path: Path) -> None:
    path = tmp_path / "known.meme"
    words = ["TGACTCATGTCA", "CCACGTGGAACC", "GATTACAGATTA"]
    text = "MEME version 4\n\n" + "".join(
        f"MOTIF {word}\nletter-probability matrix: nsites= 20\n"
        + "".join(" ".join(["0.03", "0.91"][b == a] for b in "ACGT") + "\n" for a in word)
        for word in words
    )
    path.write_text(text)
    whole = load_database("db", path)
    other = tmp_path / "nan.meme"
    other.write_text(text.replace("nsites= 20", "nsites= nan", 1))
    again = load_database("db", other)
    for a, b in zip(whole.motifs, again.motifs, strict=True):
        np.testing.assert_array_equal(a.matrix, b.matrix)
        assert a.n_sites == b.n_sites
