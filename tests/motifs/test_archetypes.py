"""Clusters of known motifs: what a biologist would put together, and what it is called."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from saeborzoi.motifs.archetypes import archetypes, whole_correlation
from saeborzoi.motifs.databases import Target, load_database


@pytest.fixture(scope="module")
def jaspar() -> dict[str, list[str]]:
    """Archetype of JASPAR's vertebrates to its factors."""
    targets = load_database("known", "jaspar:JASPAR2024:CORE:vertebrates").motifs
    of = archetypes(targets)
    members: dict[str, list[str]] = defaultdict(list)
    for target in targets:
        members[of[target.identifier]].append(target.name)
    return members


def test_jaspar_falls_into_the_families_that_people_speak_of(jaspar: dict[str, list[str]]) -> None:
    for name, inside, outside in (
        ("E-box", {"MAX", "USF1", "TFEB", "MITF"}, {"TCF3", "NEUROD1"}),
        ("AP-1", {"FOSL2", "BATF", "FOSL1::JUN", "JUND"}, {"CREB1", "ATF2"}),
        ("CRE", {"CREB1", "ATF2", "JUND"}, {"FOSL2", "BATF"}),
        ("FOX", {"FOXA1", "FOXC2", "Foxo1"}, {"SOX2"}),
        ("GATA", {"GATA1", "GATA4"}, set()),
        ("Ets", {"ETS1", "ELF1", "Spi1"}, {"IRF8"}),
    ):
        assert inside <= set(jaspar[name]), name
        assert not outside & set(jaspar[name]), name
    assert 150 < len(jaspar) < 300
    assert sum(map(len, jaspar.values())) == 879


def test_an_archetype_that_a_file_brings_is_kept_and_no_other_takes_its_name() -> None:
    site = np.eye(4)[[2, 0, 3, 0, 0, 2]]
    brought = Target("AC0001", "GATA", "GATA", None, site, 20.0, archetype="GATA")
    bare = [Target(f"M{i}", f"GATA{i}", None, None, site, 20.0) for i in (1, 2)]
    assert archetypes([brought, *bare]) == {
        "AC0001": "GATA",
        "M1": "GATA/GATA1",
        "M2": "GATA/GATA1",
    }
    assert archetypes([brought]) == {"AC0001": "GATA"}


def test_correlation_is_of_the_whole_motifs_on_either_strand() -> None:
    site = np.eye(4)[[2, 0, 3, 0, 0, 2]]
    twice = np.concatenate([site, site])
    even = np.full((3, 4), 0.25)
    alike = whole_correlation([site, site[::-1, ::-1], twice, np.concatenate([even, site]), even])
    assert alike[0, 1] == pytest.approx(1, abs=1e-6)
    assert alike[0, 3] == pytest.approx(1, abs=1e-6)
    # half of the longer one hangs over
    assert alike[0, 2] == pytest.approx(np.sqrt(0.5), abs=1e-6)
    assert alike[0, 4] == 0
    assert (alike == alike.T).all()
