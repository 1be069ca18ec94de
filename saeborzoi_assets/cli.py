"""Entry point of the command `saeborzoi` alone, whose name installations keep: the commands are in
`saeborzoi_assets.commands`, put together in `commands/cli.py`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from saeborzoi.errors import MissingPackageError
from saeborzoi.extras import extra


def main(arguments: Sequence[str] | None = None) -> int:
    """As `commands.cli.main`; a worker's environment, which has no commands, says what it lacks."""
    try:
        with extra("platform"):
            from saeborzoi_assets.commands import cli
    except MissingPackageError as error:
        print(f"saeborzoi: {error}", file=sys.stderr)
        return 2
    return cli.main(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
