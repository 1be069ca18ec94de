"""SAEs as runs of an experiment tracker, MLflow or Weights & Biases.

A run holds hyperparameters, figures of the summary, the training log step by step, and plots. The
catalogue stays what counts; nothing is read back.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from saeborzoi import plots
from saeborzoi.extras import extra
from saeborzoi.figures import png_of
from saeborzoi.settings.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from saeborzoi.project import Sae

TrackerName = Literal["mlflow", "wandb"]


class SaeRun(NamedTuple):
    """One SAE as a tracker shows it.

    Attributes
    ----------
    name
        Partition key.
    parameters
        Its hyperparameters.
    metrics
        Figure of the summary to its value; what is not known is left out.
    steps
        Step to its metrics, e.g. ``validation/fvu``, ascending.
    figures
        Name to plot.
    """

    name: str
    parameters: dict[str, Any]
    metrics: dict[str, float]
    steps: dict[int, dict[str, float]]
    figures: dict[str, Figure]


def sae_run(sae: Sae) -> SaeRun:
    """What of an SAE a tracker is told."""
    log, nodes = sae.table("training_log"), sae.table("node")
    steps: dict[int, dict[str, float]] = {}
    for row in log.sort_values("step").to_dict("records"):
        figures_of_step = steps.setdefault(int(row["step"]), {})
        for figure in ("loss", "fvu", "l0", "dead_fraction", "learning_rate"):
            if row[figure] == row[figure] and row[figure] is not None:
                figures_of_step[f"{row['split']}/{figure}"] = float(row[figure])
    figures: dict[str, Figure] = {}
    if len(log):
        figures["training"] = plots.training_curves(log)
    if len(nodes):
        figures["activation_frequency"] = plots.activation_frequency(nodes)
    if len(motifs := sae.table("motif")):
        figures["motifs"] = plots.motif_logos(motifs)
    parameters = sae.hyperparameters.model_dump()
    return SaeRun(sae.key, parameters, _metrics(sae.summary.to_dict()), steps, figures)


def push(run: SaeRun, tracker: TrackerName, experiment: str) -> str:
    """Make a run of a tracker; where it goes is the tracker's own configuration
    (``MLFLOW_TRACKING_URI``; ``WANDB_MODE``, ``WANDB_DIR``).

    Parameters
    ----------
    experiment
        MLflow's experiment, or the project of Weights & Biases.

    Returns
    -------
    str
        Where the run is.

    Raises
    ------
    MissingPackageError
        Where the tracker's package is not installed.
    """
    return _PUSH[tracker](run, experiment)


def _to_mlflow(run: SaeRun, experiment: str) -> str:
    with extra("mlflow"):
        import mlflow

    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name=run.name) as started:
        mlflow.log_params(run.parameters)
        mlflow.log_metrics(run.metrics)
        for step, metrics in run.steps.items():
            mlflow.log_metrics(metrics, step=step)
        for name, figure in run.figures.items():
            mlflow.log_figure(figure, f"{name}.png")
        return f"{mlflow.get_tracking_uri()}, run {started.info.run_id}"


def _to_wandb(run: SaeRun, experiment: str) -> str:
    with extra("wandb"):
        import wandb
    with extra("notebook"):
        from PIL import Image

    def picture(figure: Figure) -> Any:
        # of Matplotlib's figures wandb knows those of pyplot alone
        return wandb.Image(Image.open(io.BytesIO(png_of(figure))))

    with wandb.init(project=experiment, name=run.name, config=run.parameters) as started:
        for step, metrics in run.steps.items():
            started.log(metrics, step=step)
        started.log({name: picture(figure) for name, figure in run.figures.items()})
        started.summary.update(run.metrics)
        return started.url or str(started.dir)


_PUSH: dict[TrackerName, Callable[[SaeRun, str], str]] = {
    "mlflow": _to_mlflow,
    "wandb": _to_wandb,
}


def _metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of the summary that are no hyperparameter."""
    return {
        name: float(value)
        for name, value in summary.items()
        if name not in Hyperparameters.model_fields
        and isinstance(value, int | float)
        and value == value
    }
