"""What a function takes where nothing is said is what the settings take where nothing is said."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from saeborzoi.motifs.matching import match
from saeborzoi.motifs.options import DiscoveryOptions
from saeborzoi.nodes.embedding import embed_nodes
from saeborzoi.nodes.overlaps import annotation_overlaps
from saeborzoi.nodes.seqlets import make_seqlets
from saeborzoi.sae.schedule import Schedule
from saeborzoi.settings.sae_sections import Training
from saeborzoi.settings.sections import Embedding, Matching, Motifs, Overlaps, Section, Selection


@pytest.mark.parametrize(
    ("function", "section"),
    [
        (embed_nodes, Embedding),
        (annotation_overlaps, Overlaps),
        (make_seqlets, Selection),
        (match, Matching),
        (DiscoveryOptions, Motifs),
    ],
)
def test_defaults_are_those_of_the_settings(
    function: Callable[..., Any], section: type[Section]
) -> None:
    parameters = inspect.signature(function).parameters
    taken = {name: parameters[name].default for name in section.model_fields}
    assert taken == section().model_dump()


def test_defaults_of_a_training_are_those_of_the_settings() -> None:
    assert Schedule(**Training().schedule) == Schedule()
    chosen = dict.fromkeys(Training().schedule, 7)
    assert Schedule(**Training(**chosen).schedule) == Schedule(**chosen)
