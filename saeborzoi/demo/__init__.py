"""The demo: a synthetic project with a known answer.

A genome with motifs of real transcription factors planted in it, a network whose channels hold
those motifs in superposition, its activations in the published format, and the comparison of
what the pipeline finds with what was planted.
"""

from saeborzoi.demo.make import DATA, make_demo
from saeborzoi.demo.precision import judge, judge_untrained, precision_text
from saeborzoi.demo.recovery import read_planted, recovery_table, recovery_text

__all__ = [
    "DATA",
    "judge",
    "judge_untrained",
    "make_demo",
    "precision_text",
    "read_planted",
    "recovery_table",
    "recovery_text",
]
