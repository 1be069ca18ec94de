"""What the demo's nodes are, by the places where they fire: one planted motif, a mixture, or none.

Recall (`recovery.py`) says how much of the truth was found. This says how much of what was found
is true, and what a dictionary that was never trained has of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from saeborzoi.demo.recovery import read_planted, seqlets_on_instances
from saeborzoi.jobs.job import Progress, silent

if TYPE_CHECKING:
    from saeborzoi.settings.hyperparameters import Hyperparameters
    from saeborzoi.settings.load import Settings

MIN_SHARE = 0.5
"""Of a node's seqlets: a quarter of them holds the middle of some instance by chance, 1 % that of
one motif."""
VERDICTS = ("one planted motif", "a mixture of them", "none that was planted")


def judge(planted: pd.DataFrame, instances: pd.DataFrame, seqlets: pd.DataFrame) -> pd.DataFrame:
    """What each node is, by the places of its seqlets alone.

    Parameters
    ----------
    planted, instances
        As `recovery.read_planted` gives them.
    seqlets
        node, chrom, start_bp, end_bp.

    Returns
    -------
    DataFrame
        One row a node: node, n_seqlets, motif_id (of the planted motif that most of its seqlets
        hold), share_one (of its seqlets, that hold that motif), share_any (that hold any), verdict
        (one of `VERDICTS`: at least half of the seqlets hold one motif; hold any; or neither).
    """
    hits = seqlets_on_instances(planted, instances, seqlets)
    n = seqlets.groupby("node").size().reindex(hits.index)
    # instances keep apart by more than a seqlet's width, nearly always
    share_one, share_any = hits.max(axis=1) / n, (hits.sum(axis=1) / n).clip(upper=1)
    verdict = np.select([share_one >= MIN_SHARE, share_any >= MIN_SHARE], VERDICTS[:2], VERDICTS[2])
    return pd.DataFrame(
        {
            "node": hits.index.to_numpy(np.int64),
            "n_seqlets": n.to_numpy(np.int64),
            "motif_id": hits.idxmax(axis=1).to_numpy() if len(hits) else [],
            "share_one": share_one.to_numpy(float),
            "share_any": share_any.to_numpy(float),
            "verdict": verdict,
        }
    )


def untrained_seqlets(
    settings: Settings, hyperparameters: Hyperparameters, progress: Progress = silent
) -> pd.DataFrame:
    """Seqlets of the selected nodes of the untrained dictionary beside an SAE.

    The very stages of the pipeline, without files between them: two passes over the data, seconds.
    """
    from saeborzoi.activations.normalization import channel_max
    from saeborzoi.genome.coordinates import Genome
    from saeborzoi.genome.windows import windows_of
    from saeborzoi.nodes.seqlets import make_seqlets
    from saeborzoi.nodes.top_activations import top_activations
    from saeborzoi.sae.schedule import Schedule
    from saeborzoi.sae.training import TrainingData, TrainingLoop
    from saeborzoi.sources.positions import plans_of

    layer, selection = settings.layer_named(hyperparameters.layer), settings.selection
    with (
        plans_of(settings, layer, validation=False) as (plan, _),
        Genome(settings.data.genome) as g,
    ):
        maxima = channel_max(plan.source).used
        sae = TrainingLoop(TrainingData(plan, None, maxima, ""), Schedule()).initial(
            hyperparameters.untrained()
        )
        scan = top_activations(
            sae, plan, selection.n_top, selection.strong_fraction, progress=progress
        )
        seqlets, judged = make_seqlets(
            scan.top,
            scan.statistics.set_index("node")["n_nonzero"],
            windows_of(genome=g, **layer.train.where),
            g,
            width_bp=layer.seqlet_width,
            **layer.geometry,
            **selection.model_dump(),
        )
    selected = judged.loc[judged["selected"], "node"]
    return seqlets[seqlets["node"].isin(selected)].reset_index(drop=True)


def judge_untrained(folder: Path, settings_file: Path) -> pd.DataFrame:
    """`judge` of the untrained dictionary beside the demo's first SAE, on one core: the others have
    jobs.

    Parameters
    ----------
    folder
        Of the demo's data.
    """
    from saeborzoi.demo.network import one_thread
    from saeborzoi.settings.load import load_settings

    settings = load_settings(settings_file)
    with one_thread():
        seqlets = untrained_seqlets(settings, settings.wanted()[0])
    return judge(*read_planted(folder), seqlets)


def precision_text(
    trained: pd.DataFrame,
    untrained: pd.DataFrame,
    with_motif: pd.Index,
    with_match: pd.Index,
    unmatched: pd.DataFrame,
) -> str:
    """What the nodes are, for a terminal: counts, and precision beside the untrained dictionary's.

    Parameters
    ----------
    trained, untrained
        As `judge` gives them, of the selected nodes.
    with_motif, with_match
        Trained nodes with a supported motif, and those of them whose motif has a match.
    unmatched
        View `unmatched_node`: node and kind of the others.
    """
    node = trained["node"]
    groups = {
        "selected": trained,
        "with a motif": trained[node.isin(with_motif)],
        "named": trained[node.isin(with_match)],
        "untrained": untrained,
    }
    counts = {
        name: [len(of), *((of["verdict"] == verdict).sum() for verdict in VERDICTS),
               of.loc[of["verdict"] == VERDICTS[0], "motif_id"].nunique()]
        for name, of in groups.items()
    }  # fmt: skip
    rows = ["nodes", *(f"  {verdict}" for verdict in VERDICTS), "planted motifs with such a node"]
    width = max(map(len, rows))
    lines = [" " * width + "".join(f"{name:>14}" for name in counts)]
    lines += [
        f"{row:{width}}" + "".join(f"{counts[name][i]:>14}" for name in counts)
        for i, row in enumerate(rows)
    ]
    precision = ", ".join(
        f"{_percent(of)} of {words}"
        for words, of in (
            ("the nodes with a motif", groups["with a motif"]),
            ("those named", groups["named"]),
            ("an untrained dictionary's selected nodes", untrained),
        )
    )
    kinds = unmatched["kind"].value_counts()
    if len(kinds):
        of_kind = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        lines.append(f"motif, but no match: {of_kind}")
    lines.append(f"precision: one planted motif is what {precision} detect")
    return "\n".join(lines)


def _percent(judged: pd.DataFrame) -> str:
    if judged.empty:
        return "none"
    return f"{(judged['verdict'] == VERDICTS[0]).mean():.0%}"
