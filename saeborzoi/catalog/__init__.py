"""The DuckDB catalogue and the store of artifacts beside it. Knows no Dagster."""
