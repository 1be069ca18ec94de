"""Comparison of a project's SAEs with each other: figures, plots and the page."""
