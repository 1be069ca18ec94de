"""Checkpoints of others: no code in them is run, and what cannot be taken is named."""

from __future__ import annotations

import argparse
import datetime
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch

from saeborzoi.errors import InputError
from saeborzoi.sae.checkpoint import (
    import_published,
)
from tests.sae.published import published


class Exploit:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    path, witness = tmp_path / "best_model.pt", tmp_path / "was run"
    torch.save({"model_state_dict": published(), "metrics": Exploit(witness)}, path)
    with pytest.raises(InputError, match=r"would run code when read.*model_state_dict alone"):
        import_published(path, 3)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (PurePosixPath("x"), r"pathlib\.PurePosixPath"),
        (argparse.Namespace(a=1), r"argparse\.Namespace"),
        (datetime.timedelta(1), r"datetime\.timedelta"),
        (torch.nn.Linear(2, 2), r"torch\.nn\.modules\.linear\.Linear"),
    ],
)
def test_what_is_more_than_plain_data_is_named(tmp_path: Path, value: object, name: str) -> None:
    path = tmp_path / "best_model.pt"
    torch.save({"model_state_dict": published(), "config": value}, path)
    with pytest.raises(
        InputError, match=rf"plain values \({name}.*model_state_dict alone"
    ) as error:
        import_published(path, 3)
    assert "\x1b" not in str(error.value)
    assert "two options" not in str(error.value)


@pytest.mark.parametrize(
    "value",
    [np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(True), np.arange(3.0), {"a": [None]}],
)
@pytest.mark.parametrize("is_of_numpy_1", [False, True])
def test_numbers_of_numpy_beside_the_tensors_are_plain_data(
    tmp_path: Path, value: object, is_of_numpy_1: bool
) -> None:
    path = tmp_path / "best_model.pt"
    torch.save({"model_state_dict": published(), "best_loss": value}, path)
    if is_of_numpy_1:
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for part, data in parts.items():
                archive.writestr(part, data.replace(b"numpy._core", b"numpy.core"))
    torch.testing.assert_close(import_published(path, 3).pre_bias, published()["pre_bias"])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "net.sae."])
@pytest.mark.parametrize("key", ["model_state_dict", "state_dict", None])
def test_a_common_prefix_is_left_out_and_said(tmp_path: Path, prefix: str, key: str | None) -> None:
    path = tmp_path / "best_model.pt"
    state = {prefix + name: tensor for name, tensor in published().items()}
    torch.save(state if key is None else {key: state}, path)
    notes: list[str] = []
    sae = import_published(path, 3, notes=notes)
    torch.testing.assert_close(sae.encoder_weight, published()["encoder.weight"])
    assert notes == [f"{prefix!r} before every name was left out"]


def test_two_prefixes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "best_model.pt"
    torch.save({p + name: t for p in ("a.", "b.") for name, t in published().items()}, path)
    with pytest.raises(InputError, match=r"lacks 'encoder\.weight'.*there are a\."):
        import_published(path, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"", "empty"),
        (b"\x40\0\0\0\0\0\0\0{}", "safetensors: name the folder"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"hello", "not a PyTorch file"),
    ],
)
def test_what_is_no_pytorch_file_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "best_model.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        import_published(path, 3)
    assert "would run code" not in str(error.value)


def test_other_archives_are_named(tmp_path: Path) -> None:
    path = tmp_path / "best_model.pt"
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    path.write_bytes((tmp_path / "x.npz").read_bytes())
    with pytest.raises(InputError, match="a zip archive, but not one of PyTorch's"):
        import_published(path, 3)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr("a/constants.pkl", b"")
    with pytest.raises(InputError, match="TorchScript"):
        import_published(path, 3)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(1 << 27))
    with pytest.raises(InputError, match="that unpack to 134,217,728"):
        import_published(path, 3)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(1).expand(10**12), "holds fewer values"),
        (torch.zeros(10, dtype=torch.int8), "of int8"),
        (torch.zeros(10, dtype=torch.bool), "of bool"),
        (torch.zeros(10).to_sparse(), "quantized, sparse or without data"),
        ([0.0] * 10, "a list"),
        (None, "a NoneType"),
    ],
)
def test_a_value_that_is_no_plain_tensor_is_named(
    tmp_path: Path, tensor: object, words: str
) -> None:
    path = tmp_path / "best_model.pt"
    torch.save({"model_state_dict": published(pre_bias=tensor)}, path)
    with pytest.raises(InputError, match=f"'pre_bias' is .*{words}"):
        import_published(path, 3)
