"""Letter frequencies of a genome."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from saeborzoi.errors import InputError
from saeborzoi.motifs import background


@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
def test_headings_and_other_letters_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(background, "_CHUNK", chunk)
    text = b">chrA GGGG > CCCC\nAAaa\nNNCG\n>chrB\ntA\n>chrC TTT"
    for name, data in ((f"g{chunk}.fa", text), (f"g{chunk}.fa.gz", gzip.compress(text))):
        path = tmp_path / name
        path.write_bytes(data)
        # 5 A, 1 C, 1 G, 1 T over both strands
        np.testing.assert_allclose(background.genome_frequencies(path), np.array([6, 2, 2, 6]) / 16)


def test_a_genome_that_changes_is_counted_again(tmp_path: Path) -> None:
    path = tmp_path / "g.fa"
    for letters, at in (("AAAA", 0.5), ("CCCC", 0.0)):
        path.write_text(f">c\n{letters}\n")
        assert background.genome_frequencies(path)[0] == at


def test_unreadable_genomes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        background.genome_frequencies(tmp_path / "none.fa")
    (tmp_path / "empty.fa").write_text(">c\nNNNN\n")
    with pytest.raises(InputError, match="holds no A, C, G or T"):
        background.genome_frequencies(tmp_path / "empty.fa")
    (tmp_path / "cut.fa.gz").write_bytes(gzip.compress(b">c\nACGT\n" * 50)[:-9])
    with pytest.raises(InputError, match="cannot be read"):
        background.genome_frequencies(tmp_path / "cut.fa.gz")


def test_letters_of_sequences_are_counted_on_one_strand_or_both() -> None:
    np.testing.assert_array_equal(
        background.letter_shares(["AAC", "aNG"], False), [0.6, 0.2, 0.2, 0]
    )
    np.testing.assert_allclose(background.letter_shares(["AAC", "aNG"], True), [0.3, 0.2, 0.2, 0.3])
    np.testing.assert_array_equal(background.letter_shares([], True), [0.25] * 4)
