"""What a table of the catalogue is declared with."""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """One column: SQL type and what it means, with its unit."""

    name: str
    type: str
    comment: str


class Table(NamedTuple):
    """One table: its grain, in words, and its columns; `key` is unique."""

    name: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]


HYPERPARAMETERS = Column("hyperparameters", "VARCHAR", "partition key of the SAE")
NODE = Column("node", "INTEGER", "node of the SAE, 0 ... n_nodes-1")


def table(name: str, grain: str, key: str, *columns: Column | tuple[str, str, str]) -> Table:
    """A table; `key` has its columns with blanks between them."""
    return Table(name, grain, tuple(key.split()), tuple(Column(*column) for column in columns))
