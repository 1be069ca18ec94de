"""Science of saeborzoi: arrays and files in, arrays and files out. Knows no Dagster."""

__version__ = "0.1.0"
