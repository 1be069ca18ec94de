"""The errors that a user can cause. Every message names the thing, what was seen, what is
needed and how to fix it. Beside them `counted`, for what they say; nothing else belongs here."""

from __future__ import annotations


def counted(n: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "SAE"), counted(1200, "SAE")
    ('1 SAE', '1,200 SAEs')
    """
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


class SaeBorzoiError(Exception):
    """Base of every error that this project raises on purpose."""


class SettingsError(SaeBorzoiError):
    """`dagster_project.toml` is missing, malformed or asks for something impossible."""


class PartitionKeyError(SaeBorzoiError):
    """A partition key does not parse, or names a layer or node that does not exist."""


class InputError(SaeBorzoiError):
    """A file that the user brings (shard, FASTA, BED, motif database, checkpoint) is unusable."""


class StoreError(SaeBorzoiError):
    """The artifact store cannot be written, is full, or lacks an artifact that is needed."""


class CatalogError(SaeBorzoiError):
    """The catalogue is locked, damaged or of another version."""


class TrainingError(SaeBorzoiError):
    """Training had to stop: non-finite loss, or a checkpoint that does not fit."""


class MissingProgramError(SaeBorzoiError):
    """An external program (meme, streme, tomtom, sbatch) was asked for and cannot be run."""


class MissingPackageError(SaeBorzoiError, ImportError):
    """A package of an extra of the installation is needed and not installed."""


class ComputeError(SaeBorzoiError):
    """A stage's process or SLURM job did not end with a result."""
