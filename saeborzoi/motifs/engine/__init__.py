"""The built-in motif search. README.md beside this file says in which order to read it."""

VERSION = "5"
"""Of the search: what column `engine` of table `motif` says."""
