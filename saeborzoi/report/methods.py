"""The methods paragraph of a report: what was done, in words, with numbers and versions, and what
to cite for it. Everything is read from the settings and the results; nothing is assumed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from saeborzoi import __version__
from saeborzoi.settings.sections import SHAPES

if TYPE_CHECKING:
    import pandas as pd

    from saeborzoi.settings.load import Settings

REFERENCES = {
    "topk": "Gao L. et al. Scaling and evaluating sparse autoencoders. arXiv:2406.04093 (2024).",
    "batch_topk": "Bussmann B., Leask P., Nanda N. BatchTopK sparse autoencoders. "
    "arXiv:2412.06410 (2024).",
    "matryoshka": "Bussmann B. et al. Learning multi-level features with Matryoshka sparse "
    "autoencoders. arXiv:2503.17547 (2025).",
    "jumprelu": "Rajamanoharan S. et al. Jumping ahead: improving reconstruction fidelity with "
    "JumpReLU sparse autoencoders. arXiv:2407.14435 (2024).",
    "borzoi": "Linder J. et al. Predicting RNA-seq coverage from DNA sequence as a unifying model "
    "of gene regulation. Nature Genetics 57, 949-961 (2025).",
    "meme": "Bailey T. L., Elkan C. Fitting a mixture model by expectation maximization to "
    "discover motifs in biopolymers. ISMB 2, 28-36 (1994).",
    "streme": "Bailey T. L. STREME: accurate and versatile sequence motif discovery. "
    "Bioinformatics 37, 2834-2840 (2021).",
    "tomtom": "Gupta S. et al. Quantifying similarity between motifs. Genome Biology 8, R24 "
    "(2007).",
    "jaspar": "Rauluseviciute I. et al. JASPAR 2024: 20th anniversary of the open-access database "
    "of transcription factor binding profiles. Nucleic Acids Research 52, D174-D182 (2024).",
    "fdr": "Benjamini Y., Hochberg Y. Controlling the false discovery rate. Journal of the Royal "
    "Statistical Society B 57, 289-300 (1995).",
    "umap": "McInnes L., Healy J., Melville J. UMAP: uniform manifold approximation and projection "
    "for dimension reduction. arXiv:1802.03426 (2018).",
}


class Methods:
    """Sentences and the references that they need, in the order in which they are first cited."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self._cited: list[str] = []

    def say(self, sentence: str, *cited: str) -> None:
        """Add a sentence; `cited` are keys of `REFERENCES`."""
        numbers = []
        for key in cited:
            if key not in self._cited:
                self._cited.append(key)
            numbers.append(str(self._cited.index(key) + 1))
        marks = f" [{', '.join(numbers)}]" if numbers else ""
        self.sentences.append(f"{sentence}{marks}.")

    @property
    def text(self) -> str:
        """The paragraph."""
        return " ".join(self.sentences)

    @property
    def references(self) -> list[str]:
        """What is cited, 1 first."""
        return [REFERENCES[key] for key in self._cited]


def methods_of(
    settings: Settings, saes: pd.DataFrame, engines: Iterable[str], libraries: dict[str, str]
) -> Methods:
    """What was done.

    Parameters
    ----------
    settings
        Of the project.
    saes
        Rows of table `sae` that the report is about.
    engines
        Motif engines with version, as table `motif` names them.
    libraries
        Package to version, as the results' provenance names them.
    """
    methods = Methods()
    layers = {layer.name: layer for layer in settings.layer}
    for name, rows in saes.groupby("layer"):
        layer = layers.get(str(name))
        is_borzoi = name in SHAPES or (
            settings.model is not None and settings.model.loader.startswith("borzoi-pytorch")
        )
        where = f", one position every {layer.bp_per_position} bp" if layer else ""
        n_channels = int(rows["n_channels"].iloc[0])
        variants = sorted(set(rows["variant"].astype(str)))
        methods.say(
            f"Sparse autoencoders ({', '.join(variants)}) were trained on the activations of "
            f"layer {name} ({n_channels:,} channels{where}), each channel divided by its maximum: "
            + "; ".join(
                f"{row['n_nodes']:,} nodes with {row['k']:,} active at a position, learning rate "
                f"{row['learning_rate']:g}, seed {row['seed']}, {row['n_positions']:,} positions"
                for row in rows.to_dict("records")
            ),
            *(["borzoi"] if is_borzoi else []),
            *(variant for variant in variants if variant in REFERENCES),
        )
    selection = settings.selection
    widths = sorted({layers[name].seqlet_width for name in saes["layer"] if name in layers})
    methods.say(
        f"The {selection.n_top:,} strongest positions of each node gave its seqlets "
        f"({', '.join(map(str, widths))} bp of the reference); nodes that fire at fewer than "
        f"{selection.min_nonzero:,} positions, or have fewer than {selection.min_strong:,} "
        f"positions above {selection.strong_fraction:g} of the {selection.strong_statistic} of "
        "those, were left out"
    )
    motifs = settings.motifs
    names = sorted(engines)
    methods.say(
        f"Up to {motifs.n_motifs} motifs a node were discovered "
        f"({', '.join(names) or motifs.engine}; {motifs.strands} strand"
        f"{'s' if motifs.strands == 'both' else ''}, E at most {motifs.max_e_value:g})",
        *(engine for engine in ("meme", "streme") if motifs.engine == engine),
    )
    methods.say(
        "A motif counts as supported where it is enriched at least twofold over shuffled seqlets "
        "and over the seqlets of other nodes; supported motifs that are alike form families",
        "fdr",
    )
    matching = settings.matching
    databases = settings.data.motif_database
    methods.say(
        f"Motifs were matched with {', '.join(database.name for database in databases)} "
        f"({matching.engine}; p, q and E at most {matching.max_p_value:g}, "
        f"{matching.max_q_value:g} and {matching.max_e_value:g}, correlation at least "
        f"{matching.min_similarity:g})",
        "tomtom",
        *(["jaspar"] if any("jaspar" in database.source.lower() for database in databases) else []),
    )
    if settings.data.annotation:
        methods.say(
            "Overlaps of seqlets with "
            + ", ".join(annotation.name for annotation in settings.data.annotation)
            + f" were compared with {settings.overlaps.n_shuffles} shuffled copies"
        )
    methods.say(
        f"Nodes were laid out by UMAP of where they fire ({settings.embedding.n_neighbors} "
        f"neighbours, minimal distance {settings.embedding.min_dist:g})",
        "umap",
    )
    versions = ", ".join(f"{name} {version}" for name, version in sorted(libraries.items()))
    methods.say(f"Made with saeborzoi {__version__}" + (f" ({versions})" if versions else ""))
    return methods


def libraries_of(artifacts: Iterable[Path]) -> dict[str, str]:
    """Library to version, as the artifacts' provenance names it; all of them where they differ."""
    versions_of_library: dict[str, set[str]] = {}
    for folder in artifacts:
        file = folder / "provenance.json"
        if file.is_file():
            for name, version in json.loads(file.read_text()).get("libraries", {}).items():
                versions_of_library.setdefault(name, set()).add(version)
    return {name: " and ".join(sorted(versions)) for name, versions in versions_of_library.items()}
