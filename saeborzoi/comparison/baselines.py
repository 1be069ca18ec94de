"""What training added: every figure of a trained SAE beside those of what was never trained.

Support against shuffled sequences tells a motif from noise, not a trained dictionary from a random
one: random directions of a layer that knows motifs have motifs, too.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from saeborzoi.settings.hyperparameters import BASELINES


class Measure(NamedTuple):
    """A figure of an SAE: which end is good, and whether the check asks for it."""

    name: str
    better: Literal["lower", "higher"]
    is_asked: bool
    meaning: str


MEASURES = (
    Measure("validation_fvu", "lower", True, "fraction of variance unexplained, validation data"),
    Measure("fvu", "lower", True, "fraction of variance unexplained, training data"),
    Measure("recovered_mean", "higher", True, "loss recovered in the model, over mean ablation"),
    Measure("fidelity_r_log", "higher", True, "r of the model's outputs with the SAE in it"),
    Measure("n_selected", "higher", False, "nodes worth a motif"),
    Measure("n_nodes_with_motif", "higher", False, "nodes with a supported motif"),
    Measure("n_nodes_with_match", "higher", False, "nodes that are named"),
    Measure("named_share", "higher", True, "share of the nodes with a motif that are named"),
    Measure("n_archetypes", "higher", False, "families of motifs found"),
    Measure("n_concepts_found", "higher", False, "classes detected: F1 >= 0.5, lift >= 1.5"),
    Measure("mean_concept_f1", "higher", False, "mean over classes of the best node's F1"),
    Measure("median_odds_ratio", "higher", True, "median enrichment of supported motifs"),
)
"""What is put beside the baselines. Counts of nodes grow with random directions that all see the
same few channels, so the check does not ask for them."""


_MIN_LOWER = 0.05
"""A fraction of variance unexplained is lower where it is by this share of the untrained
dictionary's: those of four seeds differ by 0.5 % (`hg38_chr1`), and some would pass as trained."""


def beside_baselines(figures: pd.DataFrame) -> pd.DataFrame:
    """Table `baseline_comparison`: one row a trained SAE and measure.

    Parameters
    ----------
    figures
        One row an SAE: hyperparameters, its settings, and columns of `MEASURES`; those that are
        not there are passed over.

    Returns
    -------
    DataFrame
        hyperparameters, measure, value, untrained, channels, untrained_key, channels_key, is_better
        (than the untrained dictionary, what is to be low by 5 % at least; None where one of the two
        is not known). The untrained
        dictionary is one of the SAE's layer with its expansion and topk where there is one, else
        the one of the layer that is nearest in size; the raw channels alike. SAEs of a layer
        without a baseline have no row.
    """
    is_baseline = figures["recipe"].isin(BASELINES)
    rows = []
    for sae in figures[~is_baseline].to_dict("records"):
        beside: dict[str, dict[str, Any] | None] = {
            recipe: _nearest(sae, figures[figures["recipe"] == recipe]) for recipe in BASELINES
        }
        if not any(beside.values()):
            continue
        for measure in MEASURES:
            # of a project without a model, nothing is known of what it keeps
            if measure.name not in figures or figures[measure.name].isna().all():
                continue
            value = _number(sae, measure.name)
            control = _number(beside["untrained"], measure.name)
            known = not (np.isnan(value) or np.isnan(control))
            is_lower = value < (1 - _MIN_LOWER) * control
            better = is_lower if measure.better == "lower" else value > control
            rows.append(
                {
                    "hyperparameters": sae["hyperparameters"],
                    "measure": measure.name,
                    "value": value,
                    **{name: _number(baseline, measure.name) for name, baseline in beside.items()},
                    **{
                        f"{name}_key": baseline["hyperparameters"] if baseline else None
                        for name, baseline in beside.items()
                    },
                    "is_better": bool(better) if known else None,
                }
            )
    return pd.DataFrame(rows, columns=_COLUMNS).astype({"is_better": "boolean"})


def no_better(table: pd.DataFrame) -> list[str]:
    """SAEs and what of them is no better than the untrained dictionary's, in words; empty where
    training helped everywhere, or nothing is known.

    Parameters
    ----------
    table
        As `beside_baselines` gives it.
    """
    asked = [measure.name for measure in MEASURES if measure.is_asked]
    worse = table[table["measure"].isin(asked) & ~table["is_better"].fillna(True)]
    return [
        f"{row.hyperparameters}: {row.measure} {row.value:.3g}, untrained {row.untrained:.3g}"
        for row in worse.itertuples()
    ]


_COLUMNS = [
    "hyperparameters", "measure", "value", *BASELINES, *(f"{name}_key" for name in BASELINES),
    "is_better",
]  # fmt: skip


def _nearest(sae: dict[str, Any], of: pd.DataFrame) -> dict[str, Any] | None:
    """The baseline of the SAE's layer most like it: by k, then size, then key."""
    of = of[of["layer"] == sae["layer"]]
    if of.empty:
        return None
    distance = of.assign(
        by_k=(of["topk"] - sae["topk"]).abs(), by_size=(of["expansion"] - sae["expansion"]).abs()
    ).sort_values(["by_k", "by_size", "hyperparameters"])
    return distance.iloc[0].to_dict()


def _number(row: dict[str, Any] | None, name: str) -> float:
    value = None if row is None else row[name]
    return float("nan") if value is None or pd.isna(value) else float(value)
