"""What a person reads on Dagster's pages."""

from __future__ import annotations

import pandas as pd

from saeborzoi.pipeline import ARTIFACT
from saeborzoi_assets.described import description_of
from saeborzoi_assets.shown import rounded, table


def test_figures_are_rounded_and_what_is_not_known_is_left_out() -> None:
    used = {"backend": "local", "elapsed_s": 13.2, "cpu_s": 14.0, "peak_memory_mb": 412.4}
    figures = rounded({"fvu": 0.09902002871838841, "validation_fvu": None, "n": 7, "compute": used})
    assert figures == {"fvu": 0.09902, "n": 7, "took": "13 s, 14 s of CPU, 412 MB, local"}


def test_a_table_shows_no_nan_and_an_empty_one_is_no_table() -> None:
    frame = pd.DataFrame(
        {
            "cluster": [0],
            "name": [None],
            "p_value": [float("nan")],
            "is_better": pd.array([None], "boolean"),
        }
    )
    shown = table(frame)
    assert shown is not None
    assert str(shown.value).splitlines()[-1] == "| 0 |  |  |  |"
    assert table(frame[:0]) is None


def test_a_description_says_what_it_costs_what_changes_it_and_where_to_read_on() -> None:
    text = description_of(ARTIFACT["seqlets"], "Intervals.")
    assert text.startswith("Intervals.\n\n**Made** one a node of an SAE, in the step `nodes`")
    assert "about 5 s, and 0.07 s a node" in text
    assert "`[[sae]]`, `[selection]`, `[[layer]]` seqlet_width" in text
    assert "docs/artifacts.md" in text
