"""Write the demo: genome, annotation, shards of activations, the truth and a settings file."""

from __future__ import annotations

import gzip
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.demo.genome import CHROM_SIZES, DemoGenome, make_genome
from saeborzoi.demo.motifs import PlantedMotif, planted_motifs
from saeborzoi.errors import SettingsError
from saeborzoi.files import write_file
from saeborzoi.jobs.job import Progress, silent
from saeborzoi.settings.load import FILE_NAME

if TYPE_CHECKING:  # imports torch
    from saeborzoi.demo.network import DemoNetwork

SEED = 20_240_501
PAD_BP = 1_024
WINDOW_BP = 8_192
STRIDE_BP = 7_168
"""Windows overlap by 1,024 bp."""
DATA = "demo"
"""Folder of the data beside the settings file."""
_SHARD_ROWS = 52
_VALIDATION = "chr3"


def make_demo(folder: Path | str, progress: Progress = silent) -> Path:
    """Write the demo project; the same files every time.

    Parameters
    ----------
    folder
        Gets the settings file, and a folder `demo` with everything else. Is made where it is
        missing; what else lies in it stays.
    progress
        Told of every step.

    Returns
    -------
    Path
        The settings file, `dagster_project.toml`.

    Raises
    ------
    SettingsError
        Where the folder holds the settings of another project.
    StoreError
        Where the folder cannot be written.
    """
    folder = Path(folder)
    settings_file, data = folder / FILE_NAME, folder / DATA
    settings_text = resources.files("saeborzoi.demo").joinpath(FILE_NAME).read_text()
    if settings_file.exists() and settings_file.read_text() != settings_text:
        raise SettingsError(
            f"{settings_file} is not the demo's (or was changed); give the demo a folder of its "
            "own, or remove that file"
        )
    from saeborzoi.demo.network import DemoNetwork, one_thread

    rng = np.random.default_rng(SEED)
    progress("demo: genome", 0, 1)
    motifs = planted_motifs()
    genome = make_genome(motifs, rng)
    _write_genome(data / "genome" / "genome.fa.gz", genome)
    for name, elements in genome.elements.groupby("annotation"):
        _write_bed(data / "annotation" / f"{name}.bed", elements, "annotation_class")
    windows = _windows()
    _write_truth(data, motifs, genome, windows)
    progress("demo: genome", 1, 1)
    with one_thread():
        network = DemoNetwork(motifs, genome.sequence["chr1"], rng)
        for is_validation, name in ((False, "train"), (True, "validation")):
            of_set = windows[(windows["chrom"] == _VALIDATION) == is_validation]
            _write_shards(data / "activations" / name, of_set, genome, network, progress)
        _write_model(data / "model", motifs, network)
    if not settings_file.exists():
        with write_file(settings_file) as temporary:
            temporary.write_text(settings_text)
    return settings_file


def _windows() -> pd.DataFrame:
    """Windows along every chromosome, the last one moved back to its end."""
    rows = []
    for chrom, size in CHROM_SIZES.items():
        starts = [*range(0, size - WINDOW_BP, STRIDE_BP), size - WINDOW_BP]
        rows += [(chrom, start, start + WINDOW_BP) for start in starts]
    return pd.DataFrame(rows, columns=["chrom", "start_bp", "end_bp"])


def _write_shards(
    folder: Path,
    windows: pd.DataFrame,
    genome: DemoGenome,
    network: DemoNetwork,
    progress: Progress,
) -> None:
    """`activations_<i>.h5` and `train_seqs.bed` as sae-borzoi writes them."""
    from saeborzoi.demo.network import BP_PER_POSITION, N_CHANNELS

    n_positions = (WINDOW_BP + 2 * PAD_BP) // BP_PER_POSITION
    n = len(windows)
    for shard, first in enumerate(range(0, n, _SHARD_ROWS)):
        rows = windows.iloc[first : first + _SHARD_ROWS]
        with (
            write_file(folder / f"activations_{shard}.h5") as temporary,
            h5py.File(temporary, "w") as file,
        ):
            data = file.create_dataset(
                "activations",
                (len(rows), n_positions, N_CHANNELS),
                np.float16,
                chunks=(1, n_positions, N_CHANNELS),
                track_times=False,  # or each run would make another file
            )
            for i, (chrom, start, end) in enumerate(rows.itertuples(index=False)):
                data[i] = network(_padded(genome.sequence[chrom], start, end))
        progress(f"demo: {folder.name} activations", min(first + _SHARD_ROWS, n), n)
    table = windows.reset_index(drop=True)
    table.columns = pd.Index(["0", "1", "2"])
    table["chunk_ind"], table["inner_ind"] = np.divmod(np.arange(n), _SHARD_ROWS)
    with write_file(folder / "train_seqs.bed") as temporary:
        table.to_csv(temporary, sep="\t", lineterminator="\n")


def _write_model(folder: Path, motifs: list[PlantedMotif], network: DemoNetwork) -> None:
    """`network.safetensors` and `tracks.txt`, for `saeborzoi.demo.network:load`."""
    from safetensors.torch import save

    from saeborzoi.demo.network import TRACKS

    names = [motif.target.name for motif in motifs]
    module = network.module(names)
    tensors = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    with write_file(folder / "network.safetensors") as temporary:
        temporary.write_bytes(save(tensors))
    with write_file(folder / TRACKS) as temporary:
        temporary.write_text("\n".join(names) + "\n")


def _padded(sequence: NDArray[np.uint8], start: int, end: int) -> NDArray[np.uint8]:
    """What the network sees of a window: 4 stands for what is beyond the chromosome."""
    low, high = start - PAD_BP, end + PAD_BP
    letters = sequence[max(low, 0) : high]
    after = max(high - len(sequence), 0)
    return np.pad(letters, (max(-low, 0), after), constant_values=4)


def _write_genome(path: Path, genome: DemoGenome, line_bp: int = 64) -> None:
    upper, lower = (np.frombuffer(letters, np.uint8) for letters in (b"ACGT", b"acgt"))
    with (
        write_file(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as file,
    ):
        for chrom, codes in genome.sequence.items():
            letters = np.where(genome.is_soft_masked[chrom], lower[codes], upper[codes])
            lines = np.full((len(codes) // line_bp, line_bp + 1), ord("\n"), np.uint8)
            lines[:, :line_bp] = letters.reshape(-1, line_bp)
            file.write(f">{chrom}\n".encode() + lines.tobytes())


def _write_bed(path: Path, table: pd.DataFrame, class_column: str) -> None:
    """Six columns, the class in the last, as sae-borzoi's annotation."""
    bed = table[["chrom", "start_bp", "end_bp", class_column, class_column]].copy()
    bed.insert(4, "score", ".")
    with write_file(path) as temporary:
        bed.to_csv(temporary, sep="\t", header=False, index=False, lineterminator="\n")


def _write_truth(
    folder: Path, motifs: list[PlantedMotif], genome: DemoGenome, windows: pd.DataFrame
) -> None:
    """`planted.tsv`, a row a motif, and `planted.bed`, a row an instance."""
    instances = genome.instances
    scanned = instances[instances["chrom"] != _VALIDATION]
    n_scanned = scanned["motif_id"].value_counts()
    table = pd.DataFrame(
        {
            "motif_id": [motif.target.identifier for motif in motifs],
            "name": [motif.target.name for motif in motifs],
            "family": [motif.target.family for motif in motifs],
            "consensus": [motif.consensus for motif in motifs],
            "width_bp": [len(motif.matrix) for motif in motifs],
            "information_content_bits": [round(m.information_content_bits, 2) for m in motifs],
            "n_instances": [int(n_scanned[motif.target.identifier]) for motif in motifs],
            "annotation": [motif.annotation for motif in motifs],
            "annotation_class": [motif.annotation_class for motif in motifs],
        }
    )
    with write_file(folder / "planted.tsv") as temporary:
        table.to_csv(temporary, sep="\t", index=False, lineterminator="\n")
    bed = instances[["chrom", "start_bp", "end_bp", "motif_id"]].assign(score=0, strand="+")
    with write_file(folder / "planted.bed") as temporary:
        bed.to_csv(temporary, sep="\t", header=False, index=False, lineterminator="\n")
