"""Looking after a project: checks of its files, tracing and cleaning of its results."""
