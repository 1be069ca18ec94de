"""Channel maxima are the published ones, but never a divisor that flips signs."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from saeborzoi.activations.normalization import channel_max, read_channel_max
from saeborzoi.activations.shards import ShardFolder
from saeborzoi.errors import InputError


def test_maxima_are_over_all_shards_and_positions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(5, 3000, 6)).astype(np.float16)
    data[4, 2999, 2] = 50
    data[..., 3] = -abs(data[..., 3])
    data[..., 4] = 0
    for shard, rows in enumerate((slice(0, 3), slice(3, 5))):
        with h5py.File(tmp_path / f"activations_{shard}.h5", "w") as file:
            file["a"] = data[rows]
    maxima = channel_max(ShardFolder.open(tmp_path))
    expected = data.astype(np.float32).max((0, 1))
    np.testing.assert_array_equal(maxima.seen, expected)
    assert maxima.replaced == [3, 4]
    np.testing.assert_array_equal(maxima.used, np.where(expected > 0, expected, 1))
    table = maxima.table().set_index("channel")
    assert table.loc[3, "activation_max"] == 1
    assert table.loc[3, "activation_max_seen"] == expected[3]


def test_the_published_file_is_indexed_by_key(tmp_path: Path) -> None:
    path = tmp_path / "conv1d_1_max.json"
    path.write_text(json.dumps({"10": 10.5, "2": 2.0, **{str(i): i for i in (9, 8, 7, 6)},
                                **{str(i): -1.0 for i in (0, 1, 3, 4, 5)}}))  # fmt: skip
    maxima = read_channel_max(path, 11)
    assert maxima.used[[10, 2, 9]].tolist() == [10.5, 2.0, 9.0]
    assert maxima.replaced == [0, 1, 3, 4, 5]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "max.json"
    path.write_text(json.dumps({"0": 0.1, "1": 3.0}))
    once = read_channel_max(path, 2)
    path.write_text(json.dumps(once.published_json()))
    np.testing.assert_array_equal(read_channel_max(path, 2).used, once.used)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[1, 2]", "not the normalization constants"),
        ('{"0": 1, "2": 2}', "no channel '2'"),
        ('{"0": 1, "one": 2}', "not the normalization constants"),
        ('{"0": 1, "1": NaN}', "NaN is not a number of JSON"),
        ('{"0": 1, "1": true}', "channel '1': true"),
        ('{"0": 1, "1": null}', "channel '1': null"),
        ('{"0": 1, "1": 1e300}', "no number of float32"),
        ('{"0": 1, "1": 1' + "0" * 400 + "}", "no number of float32"),
        ('{"0": 1, "0": 2, "1": 1}', "the key '0' stands twice"),
        ('{"0": 1, "1": 2, "01": 1}', "channel 1 stands twice"),
        ('{"0": 1, "-1": 2}', "no channel '-1'"),
        ('{"0": 1, "\u0661": 2}', "no channel"),
        ("[" * 100_000, "nested too deeply"),
        ('{"0": 1, "1": "much"}', "not the normalization constants"),
        ('{"1": 1}', "channel 0 is missing of 2"),
    ],
)
def test_unusable_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "max.json"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_channel_max(path, 2)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_channel_max(tmp_path / "nowhere.json", 2)
