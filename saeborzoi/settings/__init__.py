"""The settings file `dagster_project.toml`: its sections, how it is read and edited, and the
hyperparameters that name each SAE."""
