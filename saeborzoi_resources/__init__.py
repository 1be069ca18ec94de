"""Doors to the outside: catalogue, store, compute. Knows the science, imports no asset."""
