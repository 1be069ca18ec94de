"""The sequence model: how it is loaded, and what can be seen by looking at one of its layers."""
