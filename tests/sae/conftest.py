"""Small data from a known dictionary."""

from __future__ import annotations

import pytest

from saeborzoi.sae.training import TrainingData
from tests.sae.small_known import data_in


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    """See `data_in`."""
    return data_in(tmp_path_factory.mktemp("small"))
