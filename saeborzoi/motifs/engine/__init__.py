"""The built-in motif search. README.md beside this file says in which order to read it."""
