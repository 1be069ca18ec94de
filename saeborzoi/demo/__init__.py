"""The demo: a synthetic project with a known answer.

A genome with motifs of real transcription factors planted in it, a network whose channels hold
those motifs in superposition, its activations in the published format, and the comparison of
what the pipeline finds with what was planted.
"""

from saeborzoi.demo.make import DATA, make_demo
from saeborzoi.demo.precision import judge, precision_text, untrained_seqlets
from saeborzoi.demo.recovery import read_planted, recovery_table, recovery_text

__all__ = [
    "DATA",
    "judge",
    "make_demo",
    "precision_text",
    "read_planted",
    "recovery_table",
    "recovery_text",
    "untrained_seqlets",
]
