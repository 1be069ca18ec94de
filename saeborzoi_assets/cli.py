"""Entry point of the command `saeborzoi` alone, whose name installations keep: the commands are in
`saeborzoi_assets.commands`, put together in `commands/cli.py`."""

from saeborzoi_assets.commands.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
