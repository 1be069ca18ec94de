"""Coordinates, sequences and intervals of a genome, 0-based and half-open throughout."""
