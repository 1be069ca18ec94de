"""Asks about a model without loading it here: a process of its own does; see `__main__.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saeborzoi import errors
from saeborzoi.settings.model_sections import Model
from saeborzoi.settings.sections import Layer


def ask_model(
    model: Model,
    layers: Sequence[Layer] = (),
    modules: bool = False,
    genome: tuple[Path, Path | None] | None = None,
) -> dict[str, Any]:
    """What `saeborzoi.sources.__main__.describe` says of a model.

    Parameters
    ----------
    genome
        FASTA, and folder for its index, on which layers' shards are compared with the model.

    Raises
    ------
    SaeBorzoiError
        What loading it raised there; `ComputeError` where the process died.
    """
    request = {
        "model": model.model_dump(mode="json"),
        "layers": [layer.model_dump(mode="json", exclude_none=True) for layer in layers],
        "modules": modules,
        "genome": None if genome is None else [None if p is None else str(p) for p in genome],
    }
    done = subprocess.run(
        [sys.executable, "-m", "saeborzoi.sources"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = "\n".join(done.stderr.splitlines()[-5:])
        raise errors.ComputeError(
            f"[model] loader {model.loader!r}: the process that loads it ended with code "
            f"{done.returncode} and no answer; its last words:\n{last}\nload the model in Python "
            "to see why"
        ) from None
    if "error" in answer:
        raise getattr(errors, answer["type"], errors.InputError)(answer["error"])
    return answer
