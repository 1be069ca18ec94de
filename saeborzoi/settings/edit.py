"""Adding an SAE to a settings file without touching anything else in it.

The file stays the user's: comments, order and spacing are kept byte for byte. Reading and checking
settings is `load.py`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Whitespace

from saeborzoi.errors import SettingsError, StoreError
from saeborzoi.files import lock_file, write_file
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import load_settings


def add_sae(settings_file: Path | str, hyperparameters: Hyperparameters) -> str:
    """Add one `[[sae]]` block to a settings file, after the last one that is there.

    Parameters
    ----------
    settings_file
        `dagster_project.toml`. Written whole or not at all; every byte of it stays. Where it is
        mounted by itself and cannot be replaced, it is written in place.
    hyperparameters
        The SAE to add.

    Returns
    -------
    str
        The block, as it stands in the file now.

    Raises
    ------
    SettingsError
        Where the file asks for that SAE already, cannot be read or written, or writes `sae` as an
        inline array, to which no block can be added.
    PartitionKeyError
        Where the settings cannot serve it: no such layer, or no active node.
    """
    path = Path(settings_file).resolve()
    with _one_at_a_time(path):
        settings = load_settings(path)
        settings.require_fits(hyperparameters)
        saes = settings.wanted()
        if hyperparameters in saes:
            raise SettingsError(
                f"{path}: {hyperparameters.key} is asked for already; nothing was added. Change a "
                "value, e.g. the seed"
            )
        # newlines as they are: read_text would turn \r\n into \n
        text = path.read_bytes().decode()
        mode = path.stat().st_mode
        newline = "\r\n" if "\r\n" in text else "\n"
        block = newline.join(_block(hyperparameters))
        content = _inserted(text, block, newline).encode()
        try:
            with write_file(path) as temporary:
                temporary.write_bytes(content)
                _require_added(temporary, path, [*saes, hyperparameters])
                temporary.chmod(mode)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            _write_in_place(path, content, block)
    return block


def _block(hyperparameters: Hyperparameters) -> list[str]:
    """Lines of the `[[sae]]`; JSON's strings and numbers are TOML's."""
    return [
        "[[sae]]",
        *(f"{name} = {json.dumps(value)}" for name, value in hyperparameters.spelled_out().items()),
    ]


def _inserted(text: str, block: str, newline: str) -> str:
    """The text with the block after the last value of the last `[[sae]]`, else at its end.

    Comments that follow that value stay where they are: they introduce the next table.
    """
    complete = text if text.endswith("\n") or not text else text + newline
    document = _document(complete)
    entries = [item for key, item in document.body if key and key.key == "sae"] if document else []
    if document is None or not entries or not isinstance(entries[-1], AoT):
        return f"{complete}{newline}{block}{newline}"
    body = entries[-1].body[-1].value.body
    n_said = max((i + 1 for i, (key, _) in enumerate(body) if key is not None), default=0)
    after = "".join(item.as_string() for _, item in body[n_said:])
    follows = bool(after) or document.body[-1][1] is not entries[-1]
    gap = newline if follows and not after.startswith(("\r", "\n")) else ""
    # as text: tomlkit would write its header as the first one's, e.g. [[ "sae" ]]
    body.insert(n_said, (None, Whitespace(f"{newline}{block}{newline}{gap}")))
    written = document.as_string()
    return written.removesuffix(newline) if follows and complete != text else written


def _document(text: str) -> tomlkit.TOMLDocument | None:
    """The text as tomlkit has it; None where that would write it otherwise than it stands, as it
    brings the blocks of one array together that have other tables between them."""
    try:
        document = tomlkit.parse(text)
    except TOMLKitError:  # it read as TOML before, so that this is tomlkit's
        return None
    return document if document.as_string() == text else None


def _require_added(temporary: Path, path: Path, expected: list[Hyperparameters]) -> None:
    """Refuse an edit that does not read back as what was there and the new SAE."""
    try:
        saes_read = load_settings(temporary).wanted()
    except SettingsError:
        saes_read = []
    if set(saes_read) != set(expected):
        raise SettingsError(
            f"{path}: no [[sae]] block can be added to it, most likely because `sae` is written "
            "as an inline array; write each SAE as a [[sae]] block. Nothing was changed"
        )


def _write_in_place(path: Path, content: bytes, block: str) -> None:
    """Overwrite a file that no other can be renamed to, as Docker mounts a single file.

    Raises
    ------
    SettingsError
        Where it cannot be written; what was there is put back.
    """
    before = path.read_bytes()
    try:
        _overwrite(path, content)
    except OSError as error:
        with contextlib.suppress(OSError):  # read-only: it was never changed
            _overwrite(path, before)
        raise SettingsError(
            f"{path}: is mounted by itself (as by Docker or a ConfigMap) and cannot be written "
            f"({error.strerror}); add to it where it comes from:\n\n{block}"
        ) from None


def _overwrite(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Keep others from editing the file meanwhile; leaves no lock file behind."""
    if not path.parent.is_dir():
        raise SettingsError(f"{path.parent}: cannot be read (no such folder); fix the path")
    lock = path.with_name(f".{path.name}.lock")
    try:
        held = lock_file(lock)
    except StoreError as error:
        raise SettingsError(
            f"{path}: cannot be changed, as its folder cannot be written ({error})"
        ) from None
    with held:
        try:
            yield
        finally:
            # while it is held: whoever waits for it sees that it is gone, and makes it anew
            lock.unlink(missing_ok=True)
