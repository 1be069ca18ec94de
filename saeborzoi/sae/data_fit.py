"""Does an SAE belong to the data that it is used on?

What a checkpoint says of the data that it was trained on, and the refusal where that is not the
layer's training data any more. Which nodes and constants fit is `checkpoint.require_fits`'s
business.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saeborzoi.activations.shards import ShardFolder
from saeborzoi.errors import InputError
from saeborzoi.sae.checkpoint import read_config

_NAMED = 3
"""Files that a message names, at most."""


def identity_of(folder: ShardFolder, cache: Path | None = None) -> dict[str, Any]:
    """What `cfg.json` says of training data: `data_fingerprint`, and `data_files`, name to bytes.

    Neither place nor time of a file enters: a copy elsewhere is the same data. `cache` keeps the
    digests of files, as in `fingerprint_files`.
    """
    return {
        "data_fingerprint": folder.fingerprint(cache),
        "data_files": {shard.path.name: shard.path.stat().st_size for shard in folder.shards},
    }


def require_trained_on(
    source: Path, folder: ShardFolder, key: str, cache: Path | None = None
) -> None:
    """Refuse an SAE of the store that was made from other data than there is now.

    A checkpoint that does not say what it was trained on passes.

    Parameters
    ----------
    source
        Folder with its `cfg.json`.
    folder
        The layer's training shards.
    key
        Partition key of the SAE, for the message.
    cache
        As in `identity_of`.

    Raises
    ------
    InputError
        Names both fingerprints, the files that changed, and how to go on.
    """
    then = read_config(source).get("provenance", {})
    now = identity_of(folder, cache)
    of_then = then.get("data_fingerprint")
    if of_then in (None, now["data_fingerprint"]):
        return
    if not str(of_then).startswith("x") and of_then == folder.sampled_fingerprint():
        return
    raise InputError(
        f"{source}: made from other data than {folder.folder} holds now: fingerprint "
        f"{then['data_fingerprint']} then, {now['data_fingerprint']} now"
        f"{_changed(then.get('data_files'), now['data_files'])}; materialize trained_sae of "
        f"{key!r} again, or bring the former shards back; to use this very SAE on the new data, "
        "copy its folder out of the store and name the copy as `checkpoint` of its [[sae]]"
    )


def _changed(then: dict[str, int] | None, now: dict[str, int]) -> str:
    """What happened to the files, in words, where the checkpoint says which there were.

    >>> _changed({"a": 1, "b": 2}, {"b": 3, "c": 4})
    ' (gone: a; new: c; of another size: b)'
    >>> _changed({"a": 1}, {"a": 1})
    ' (the same files by name and size, with other contents)'
    """
    if then is None:
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
