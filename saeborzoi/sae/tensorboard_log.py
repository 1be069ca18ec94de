"""The training log as TensorBoard reads it: `tensorboard --logdir <work folder>`."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

_FIGURES = ("loss", "fvu", "l0", "dead_fraction", "learning_rate", "positions_per_s")


class TensorboardLog:
    """Appends rows of a training log to event files; a context manager.

    Parameters
    ----------
    folder
        Where; None writes nothing. Neither is anything written where TensorBoard is not installed
        (extra `platform`), which is said.
    log
        Rows that exist already, of a training that goes on: events after them are void.
    """

    def __init__(self, folder: Path | None, log: list[dict[str, Any]]) -> None:
        self._n_written = len(log)
        self._writer = None
        if folder is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter  # slow to import
            except ModuleNotFoundError:
                # a convenience: the log itself goes into the catalogue
                print(f"no event files for TensorBoard in {folder}: it is not installed here")
                return
            self._writer = SummaryWriter(
                str(folder), purge_step=log[-1]["step"] + 1 if log else None
            )

    def __enter__(self) -> TensorboardLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def catch_up(self, log: list[dict[str, Any]]) -> None:
        """Write the rows that are new."""
        if self._writer is not None:
            for row in log[self._n_written :]:
                for figure in _FIGURES:
                    if row[figure] is not None:
                        tag = f"{figure}/{row['split']}"
                        self._writer.add_scalar(tag, row[figure], row["step"])
        self._n_written = len(log)
