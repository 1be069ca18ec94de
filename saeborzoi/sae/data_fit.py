"""Does an SAE belong to the data that it is used on?

What a checkpoint says of the data that it was trained on, and the refusal where that is not the
layer's training data any more. Which nodes and constants fit is `checkpoint.require_fits`'s
business.
"""

from __future__ import annotations

from pathlib import Path

from saeborzoi.activations.shards import ShardFolder
from saeborzoi.activations.source import Source
from saeborzoi.errors import InputError
from saeborzoi.sae.checkpoint import read_config

_NAMED = 3
"""Files that a message names, at most."""


def model_of(trained: Path) -> str | None:
    """Fingerprint of the model on whose live activations an SAE was trained; None where it was
    trained on shards, or does not say."""
    parts = read_config(trained).get("provenance", {}).get("data_parts") or {}
    return parts.get("model")


def require_trained_on(trained: Path, source: Source, key: str) -> None:
    """Refuse an SAE of the store that was made from other data than there is now.

    A checkpoint that does not say what it was trained on passes.

    Parameters
    ----------
    trained
        Folder with its `cfg.json`.
    source
        The layer's training data.
    key
        Partition key of the SAE, for the message.

    Raises
    ------
    InputError
        Names both fingerprints, the files that changed, and how to go on.
    """
    then = read_config(trained).get("provenance", {})
    now = source.identity()
    of_then = then.get("data_fingerprint")
    if of_then in (None, now["data_fingerprint"]):
        return
    if (
        isinstance(source, ShardFolder)
        and not str(of_then).startswith("x")  # as the first release wrote it
        and of_then == source.sampled_fingerprint()
    ):
        return
    raise InputError(
        f"{trained}: made from other data than {source.name} is now: fingerprint "
        f"{then['data_fingerprint']} then, {now['data_fingerprint']} now"
        f"{_changed(then.get('data_files'), now.get('data_files'))}"
        f"{_other_parts(then.get('data_parts'), now.get('data_parts'))}; materialize trained_sae "
        f"of {key!r} again, or bring the former data back; to use this very SAE on the new data, "
        "copy its folder out of the store and name the copy as `checkpoint` of its [[sae]]"
    )


def _other_parts(then: dict[str, str] | None, now: dict[str, str] | None) -> str:
    """Which parts of a live source are others.

    >>> _other_parts({"model": "1", "layer": "a"}, {"model": "2", "layer": "a"})
    ' (another model: 1 then, 2 now)'
    """
    if then is None or now is None:
        return "" if then is now else " (shards and a live source are not the same data)"
    other = [name for name in now if then.get(name) != now[name]]
    return f" ({'; '.join(f'another {n}: {then.get(n)} then, {now[n]} now' for n in other)})"


def _changed(then: dict[str, int] | None, now: dict[str, int] | None) -> str:
    """What happened to the files, in words, where the checkpoint says which there were.

    >>> _changed({"a": 1, "b": 2}, {"b": 3, "c": 4})
    ' (gone: a; new: c; of another size: b)'
    >>> _changed({"a": 1}, {"a": 1})
    ' (the same files by name and size, with other contents)'
    """
    if then is None or now is None:
        return ""
    parts = [
        f"{what}: {', '.join(names[:_NAMED])}{' ...' if len(names) > _NAMED else ''}"
        for what, names in (
            ("gone", [name for name in then if name not in now]),
            ("new", [name for name in now if name not in then]),
            ("of another size", [n for n in then if n in now and then[n] != now[n]]),
        )
        if names
    ]
    return f" ({'; '.join(parts) or 'the same files by name and size, with other contents'})"
