"""Whatever is in a file: it is refused in the project's own words, or read as it is written.

Each kind of file is changed in a few hundred seeded ways (`mutation.py`). What is accepted is
compared with an independent reading, or comes back the same when it is written again.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from saeborzoi.activations.normalization import read_channel_max
from saeborzoi.errors import SaeBorzoiError
from saeborzoi.genome.coordinates import read_bed, read_windows
from saeborzoi.genome.fasta import Genome
from saeborzoi.genome.fasta_index import read_index, scan_fasta, write_index
from saeborzoi.motifs.meme_format import format_meme, parse_meme, read_meme
from saeborzoi.sae.checkpoint import load_checkpoint, read_config
from saeborzoi.settings.convert import convert_config
from saeborzoi.settings.hyperparameters import Hyperparameters, PartitionKey
from saeborzoi.settings.load import load_settings
from tests.fuzz.mutation import CORPUS, mutants

Look = Callable[[Path], None]
"""Reads a file and asserts that what came out is what stands there."""


def as_lines(data: bytes) -> list[str]:
    return data.removeprefix(b"\xef\xbb\xbf").decode("latin-1").split("\n")


def fasta(path: Path) -> None:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    records = scan_fasta(path, data)
    truth: dict[str, str] = {}
    for line in as_lines(path.read_bytes()):
        if line.startswith(">"):
            name = line[1:].encode("latin-1").decode("utf-8", "replace").split()[0]
            assert name not in truth
            truth[name] = ""
        elif line.strip("\r"):
            truth[name] += line.strip("\r")
    assert {name: record.length for name, record in records.items()} == {
        name: len(letters) for name, letters in truth.items()
    }
    for name, (length, offset, line_bases, line_bytes) in records.items():
        place = np.arange(length)
        place += offset + place // line_bases * (line_bytes - line_bases)
        assert bytes(data[place]).decode() == truth[name]
    index = path.with_suffix(".index")
    if not index.exists():  # once is enough: it is synced to disk
        write_index(index, records)
        assert read_index(index) == records


def rows_of(path: Path) -> list[list[str]]:
    """Fields of each row, without blanks around them."""
    text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode()
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    rows = [[field.strip() for field in line.split("\t")] for line in lines]
    return [
        row
        for row in rows
        if any(row)
        and not row[0].startswith("#")
        and row[0].split()[:1] not in (["track"], ["browser"])
    ]


def bed(path: Path) -> None:
    table = read_bed(path, 6)
    rows = rows_of(path)
    assert table["chrom"].tolist() == [row[0] for row in rows]
    assert table["start_bp"].tolist() == [int(float(row[1])) for row in rows]
    assert table["end_bp"].tolist() == [int(float(row[2])) for row in rows]
    assert table["annotation_class"].tolist() == [row[5] for row in rows]
    assert (table["end_bp"] > table["start_bp"]).all()


def windows(path: Path) -> None:
    table = read_windows(path)
    rows = rows_of(path)
    header = rows[0] if "chunk_ind" in rows[0] else None
    columns = [header.index(c) for c in ("0", "1", "2", "chunk_ind", "inner_ind")] if header else []
    rows = rows[1:] if header else rows
    chrom, start, end = columns[:3] or (0, 1, 2)
    assert table.chrom.tolist() == [row[chrom] for row in rows]
    assert table.start_bp.tolist() == [int(float(row[start])) for row in rows]
    assert table.end_bp.tolist() == [int(float(row[end])) for row in rows]
    if header:
        assert table.shard.tolist() == [int(float(row[columns[3]])) for row in rows]
        assert table.row.tolist() == [int(float(row[columns[4]])) for row in rows]


def meme(path: Path) -> None:
    motifs = read_meme(path)
    numbers = sum(
        len(words) == 4 and all(w.lstrip("-")[:1] in "0123456789." for w in words)
        for words in map(str.split, as_lines(path.read_bytes()))
    )
    n_rows = sum(len(motif.matrix) for motif in motifs)
    assert n_rows <= numbers
    again = parse_meme(format_meme(motifs), "again")
    for one, two in zip(motifs, again, strict=True):
        assert (one.identifier, one.name) == (two.identifier, two.name)
        np.testing.assert_allclose(one.matrix, two.matrix, atol=1e-5)
        np.testing.assert_allclose(one.matrix.sum(axis=1), 1)
        assert math.isfinite(one.n_sites)
        assert one.n_sites >= 1


def settings(path: Path) -> None:
    loaded = load_settings(path)
    document = tomllib.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode())
    assert loaded.project.name == document["project"]["name"]
    assert [layer.n_channels for layer in loaded.layer] == [
        float(layer["n_channels"]) for layer in document["layer"]
    ]
    assert loaded.data.genome.is_absolute()
    for hyperparameters in loaded.wanted():
        assert loaded.parse_key(hyperparameters.key) == hyperparameters
    assert type(loaded).model_validate_json(loaded.model_dump_json()) == loaded


def keys(path: Path) -> None:
    for text in path.read_bytes().decode("utf-8", "surrogateescape").split("\n"):
        parsed = PartitionKey.parse(text)
        assert str(parsed) == text
        if "_x" in parsed.owner:
            assert Hyperparameters.from_key(parsed.owner).key == parsed.owner


def max_json(path: Path) -> None:
    maxima = read_channel_max(path, 3).seen
    truth = {int(k): v for k, v in json.loads(path.read_text(encoding="utf-8-sig")).items()}
    np.testing.assert_array_equal(maxima, np.array([truth[i] for i in range(3)], np.float32))


def cfg_json(path: Path) -> None:
    folder = path.parent / "cfg"
    folder.mkdir(exist_ok=True)
    (folder / "cfg.json").write_bytes(path.read_bytes())
    weights = folder / "sae.safetensors"
    if not weights.exists():
        weights.write_bytes((CORPUS / "safetensors" / "small.safetensors").read_bytes())
    config = read_config(folder)
    assert config == json.loads(path.read_text(encoding="utf-8-sig"))
    sae = load_checkpoint(folder)
    assert sae.k == config["k"]
    assert float(sae.threshold) == pytest.approx(config.get("threshold", 0), rel=1e-6)


def weights(path: Path) -> None:
    folder = path.parent / "weights"
    folder.mkdir(exist_ok=True)
    (folder / "cfg.json").write_text('{"k": 3}')
    (folder / "sae.safetensors").write_bytes(path.read_bytes())
    sae = load_checkpoint(folder)
    tensors = safetensors.numpy.load(path.read_bytes())
    prefix = next(name for name in tensors if name.endswith("b_dec")).removesuffix("b_dec")
    for name, mine in (("W_dec", sae.decoder_weight), ("encoder.bias", sae.encoder_bias)):
        truth = tensors[prefix + name].astype(np.float32)
        np.testing.assert_array_equal(mine.detach().numpy(), truth)


def config_json(path: Path) -> None:
    text = convert_config(path, path.parent / "g.fa")
    made = path.with_suffix(".toml")
    made.write_text(text)
    loaded = load_settings(made)
    config = json.loads(path.read_text(encoding="utf-8-sig"))
    assert loaded.layer[0].n_channels == config["input_channels"]
    assert loaded.layer[0].bp_per_position * config["seq_len"] == 524_288
    (wanted,) = loaded.wanted()
    assert wanted.expansion == config.get("expansion_factor", 4)
    assert wanted.topk == config.get("topk_pct", 0.05)


@pytest.mark.parametrize("share", [0.2, pytest.param(1.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("kind", "look", "n"),
    [
        ("fasta", fasta, 800),
        ("bed", bed, 250),
        ("windows", windows, 250),
        ("meme", meme, 1000),
        ("settings", settings, 800),
        ("keys", keys, 1000),
        ("max_json", max_json, 600),
        ("cfg_json", cfg_json, 500),
        ("safetensors", weights, 500),
        ("config_json", config_json, 500),
    ],
)
def test_own_words_or_the_right_value(
    tmp_path: Path, kind: str, look: Look, n: int, share: float
) -> None:
    accepted = refused = longest = 0
    path = tmp_path / "file"
    for i, data in enumerate(mutants(kind, int(share * n))):
        path.write_bytes(data)
        try:
            look(path)
        except SaeBorzoiError as error:
            refused += 1
            longest = max(longest, len(str(error).replace(str(tmp_path), "")))
        except Exception as error:
            raise AssertionError(f"{kind}, case {i}: {type(error).__name__}: {data!r}") from error
        else:
            accepted += 1
    assert accepted > 20 * share
    assert refused > 20 * share
    assert longest < 3000, "a message shows the whole file"


@pytest.mark.parametrize("name", ["plain.fa", "crlf_no_end.fa", "blank_lines.fa"])
def test_the_corpus_of_fasta_is_a_genome(name: str, tmp_path: Path) -> None:
    with Genome(CORPUS / "fasta" / name, tmp_path) as genome:
        assert sum(genome.chrom_sizes.values()) > 0
