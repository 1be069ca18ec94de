"""Entry point of the command `saeborzoi`; the commands are in `saeborzoi_assets.commands`."""

from saeborzoi_assets.commands.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
