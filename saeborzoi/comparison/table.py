"""Which SAE is best.

Tables in, tables out: what is read from the catalogue and where files lie is the asset's business.
SAEs are compared within their layer only, as FVU of different layers means different things.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from saeborzoi.settings.hyperparameters import BASELINES

SHOWN = [
    "hyperparameters", "is_pareto", "fvu", "validation_fvu", "l0", "dead_fraction", "n_nodes",
    "n_nodes_done", "n_selected", "n_nodes_with_motif", "n_archetypes", "mean_log10_q",
    "recurrence_seeds", "recurrence_settings", "n_archetypes_only_here", "training_s",
]  # fmt: skip
"""Columns of `sae_comparison` that people read first; the key holds the hyperparameters."""
OF_MODEL = ["recovered_mean", "fidelity_r_log"]
"""Those that only SAEs have that were tried in their model."""


def shown(comparison: pd.DataFrame) -> pd.DataFrame:
    """What people read first of table `sae_comparison`."""
    of_model = OF_MODEL if comparison[OF_MODEL].notna().any(axis=None) else []
    return comparison[[*SHOWN, *of_model]]


def pareto_front(costs: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other point beats: as good in every cost and better in one.

    Parameters
    ----------
    costs
        (n, n_costs), smaller is better; a point with NaN is not on the front and beats none.

    Examples
    --------
    >>> pareto_front([[1, 3], [2, 2], [2, 3], [float("nan"), 0]])
    array([ True,  True, False, False])
    """
    costs = np.asarray(costs, dtype=float)
    known = ~np.isnan(costs).any(axis=1)
    with np.errstate(invalid="ignore"):
        no_worse = (costs[:, None] <= costs[None]).all(axis=2)
        better = (costs[:, None] < costs[None]).any(axis=2)
    beats = no_worse & better & known[:, None] & known[None]
    return np.asarray(known & ~beats.any(axis=0))


def comparison_table(
    summary: pd.DataFrame, archetypes: pd.DataFrame, pairs: pd.DataFrame
) -> pd.DataFrame:
    """Table `sae_comparison`: one row an SAE, best first within its layer.

    Parameters
    ----------
    summary
        View `sae_summary`.
    archetypes
        View `archetype_by_sae`.
    pairs
        Table `sae_stability`.

    Returns
    -------
    DataFrame
        Columns as in the catalogue; the baselines follow the trained SAEs of their layer. The
        Pareto fronts are of the trained SAEs of a layer; they use the validation FVU where each
        of them has one, else the training FVU.
    """
    table = summary.copy()
    table["is_pareto"] = table["is_pareto_with_dead"] = False
    is_baseline = table["recipe"].isin(BASELINES)
    table["compared"] = table["fvu"]
    for _, rows in table[~is_baseline].groupby("layer"):
        fvu = fvu_column(rows)
        table.loc[rows.index, "compared"] = rows[fvu]
        table.loc[rows.index, "is_pareto"] = pareto_front(rows[[fvu, "l0"]])
        table.loc[rows.index, "is_pareto_with_dead"] = pareto_front(
            rows[[fvu, "l0", "dead_fraction"]]
        )
    only = archetypes.loc[archetypes["n_saes"] == 1, "saes"]
    alone = only.map(lambda keys: keys[0]).value_counts()
    table["n_archetypes_only_here"] = table["hyperparameters"].map(alone).fillna(0).astype(int)
    both = pd.concat(
        pairs[[f"hyperparameters_{side}", f"share_{side}", "differs_in"]].set_axis(
            ["hyperparameters", "share", "differs_in"], axis=1
        )
        for side in "ab"
    )
    is_seed = both["differs_in"] == "seed"
    for name, rows in (("seeds", both[is_seed]), ("settings", both[~is_seed])):
        share = rows.groupby("hyperparameters")["share"]
        table[f"n_{name}"] = table["hyperparameters"].map(share.size()).fillna(0).astype(int)
        table[f"recurrence_{name}"] = table["hyperparameters"].map(share.mean()).astype(float)
    table["is_baseline"] = is_baseline
    table = table.sort_values(
        ["layer", "is_baseline", "compared", "hyperparameters"], na_position="last"
    )
    return table.drop(columns=["compared", "is_baseline"]).reset_index(drop=True)


def fvu_column(rows: pd.DataFrame) -> str:
    """The FVU that SAEs of a layer are compared by: never one's training with another's
    validation."""
    return "validation_fvu" if rows["validation_fvu"].notna().all() else "fvu"


def archetypes_by_settings(archetypes: pd.DataFrame) -> pd.DataFrame:
    """Archetypes that only some settings found, those found by most SAEs first.

    Parameters
    ----------
    archetypes
        View `archetype_by_sae`.

    Returns
    -------
    DataFrame
        layer, archetype, factors (text), only_with, n_saes, n_saes_of_layer, n_nodes,
        best_q_value. An archetype that every SAE of the layer found is not there.
    """
    some = archetypes[
        (archetypes["only_with"] != "") & (archetypes["n_saes"] < archetypes["n_saes_of_layer"])
    ]
    some = some.sort_values(
        ["n_saes", "n_nodes", "best_q_value", "archetype"], ascending=[False, False, True, True]
    )
    some = some.assign(factors=some["factors"].map(", ".join))
    return some[
        ["layer", "archetype", "factors", "only_with", "n_saes", "n_saes_of_layer", "n_nodes",
         "best_q_value"]
    ].reset_index(drop=True)  # fmt: skip


def concepts_found(concepts: pd.DataFrame, order: list[str]) -> pd.DataFrame:
    """F1 of the best node of each class, by SAE; the class that some SAE detects best first.

    Parameters
    ----------
    concepts
        Table `concept`.
    order
        Partition keys of the SAEs, as the columns stand.

    Returns
    -------
    DataFrame
        annotation, annotation_class, and a column an SAE that was scored: F1, NaN where it meets
        no element.
    """
    keys = ["annotation", "annotation_class", "hyperparameters"]
    wide = concepts.set_index(keys)["f1"].unstack()
    wide = wide.reindex(columns=[key for key in order if key in wide.columns])
    best = wide.max(axis=1).fillna(0)
    wide = wide.loc[best.sort_values(ascending=False, kind="stable").index]
    return wide.reset_index().rename_axis(columns=None)
