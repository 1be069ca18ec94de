"""SAEs are written as sparsify lays them out, and foreign ones come in without running code."""

from __future__ import annotations

import json
import types
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from saeborzoi.errors import InputError
from saeborzoi.sae.checkpoint import (
    export_published,
    import_published,
    load_checkpoint,
    read_config,
    require_fits,
    save_checkpoint,
)
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.settings.hyperparameters import Hyperparameters
from tests.sae.published import published


@pytest.fixture
def sae() -> SparseAutoencoder:
    made = SparseAutoencoder(10, 40, 3, "batch_topk")
    with torch.no_grad():
        for i, parameter in enumerate(made.parameters()):
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
            )
    made.channel_max.copy_(torch.arange(1.0, 11.0))
    made.threshold.fill_(0.25)
    return made


def test_a_checkpoint_comes_back_as_it_was(sae: SparseAutoencoder, tmp_path: Path) -> None:
    save_checkpoint(sae, tmp_path, data_fingerprint="abc")
    back = load_checkpoint(tmp_path, 10)
    for name, tensor in sae.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    assert (back.k, back.variant) == (3, "batch_topk")
    assert json.loads((tmp_path / "cfg.json").read_text())["provenance"] == {
        "data_fingerprint": "abc"
    }


def test_the_layout_is_sparsify_s(sae: SparseAutoencoder, tmp_path: Path) -> None:
    save_checkpoint(sae, tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / "sae.safetensors")
    assert {name: tuple(t.shape) for name, t in tensors.items()} == {
        "encoder.weight": (40, 10), "encoder.bias": (40,), "W_dec": (40, 10), "b_dec": (10,),
    }  # fmt: skip
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert {name: config[name] for name in ("d_in", "num_latents", "k", "expansion_factor")} == {
        "d_in": 10, "num_latents": 40, "k": 3, "expansion_factor": 4,
    }  # fmt: skip


def test_a_folder_of_sparsify_s_is_read(tmp_path: Path) -> None:
    """sparsify knows nothing of channel maxima and variants."""
    weights = {"encoder.weight": torch.randn(8, 4), "encoder.bias": torch.zeros(8),
               "W_dec": torch.randn(8, 4), "b_dec": torch.zeros(4)}  # fmt: skip
    safetensors.torch.save_file(weights, tmp_path / "sae.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps({"k": 2, "d_in": 4, "num_latents": 8}))
    sae = load_checkpoint(tmp_path)
    assert (sae.n_nodes, sae.k, sae.variant) == (8, 2, "topk")
    assert sae.channel_max.tolist() == [1, 1, 1, 1]


def test_whole_numbers_beyond_64_bits_are_numbers(sae: SparseAutoencoder, tmp_path: Path) -> None:
    save_checkpoint(sae, tmp_path)
    file = tmp_path / "cfg.json"
    many = {"threshold": 2**70, "channel_max": [2**70] * 10}
    file.write_text(json.dumps({**json.loads(file.read_text()), **many}))
    back = load_checkpoint(tmp_path)
    assert float(back.threshold) == back.channel_max.max() == 2.0**70


def test_best_model_of_sae_borzoi_computes_the_same(tmp_path: Path) -> None:
    state = published()
    metrics = {"val_mse": np.float64(0.5), "val_l1": 0.1}
    path = tmp_path / "best_model.pt"
    torch.save({"epoch": 3, "model_state_dict": state, "metrics": metrics}, path)
    sae = import_published(path, k=3, n_channels=10)
    x = torch.randn(6, 10, generator=torch.Generator().manual_seed(1))
    mu, s = x.mean(1, keepdim=True), x.std(1, keepdim=True)
    y = (x - mu) / (s + 1e-5) - state["pre_bias"]
    h = torch.relu(y @ state["encoder.weight"].T + state["latent_bias"])  # type: ignore[attr-defined]
    z = torch.where(h >= h.topk(3).values[:, -1:], h, 0)
    y_hat = z @ state["decoder.weight"].T + state["pre_bias"]  # type: ignore[attr-defined]
    torch.testing.assert_close(sae(x), y_hat * s + mu, rtol=1e-5, atol=1e-5)


def test_export_has_the_published_names_and_comes_back(
    sae: SparseAutoencoder, tmp_path: Path
) -> None:
    path = tmp_path / "best_model.pt"
    export_published(sae, path)
    state = torch.load(path, weights_only=True)["model_state_dict"]
    assert {name: tuple(t.shape) for name, t in state.items()} == {
        "encoder.weight": (40, 10), "decoder.weight": (10, 40), "pre_bias": (10,),
        "latent_bias": (40,), "temperature": (),
    }  # fmt: skip
    back = import_published(path, 3)
    for name, parameter in sae.named_parameters():
        assert torch.equal(dict(back.named_parameters())[name], parameter), name


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("signed", True, "signed True, needed is False"),
        ("signed", None, "signed None, needed is False"),
        ("skip_connection", True, "skip_connection True"),
        ("activation", "groupmax", "activation 'groupmax'"),
        ("activation", None, "activation None"),
        ("squared", True, "squared true, which is not known here"),
        ("architecture", "jumprelu", "architecture 'jumprelu'"),
        ("normalize_activations", "none", None),
    ],
)
def test_settings_that_compute_something_else_are_refused(
    tmp_path: Path, field: str, value: object, words: str | None
) -> None:
    config = {"k": 3, "d_in": 4, "multi_topk": True, "normalize_decoder": True, "signed": False}
    (tmp_path / "cfg.json").write_text(json.dumps({**config, field: value}))
    if words is None:
        assert read_config(tmp_path)["k"] == 3
        return
    with pytest.raises(InputError, match=words):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "no field 'k'"),
        ("3", "no field 'k'"),
        ('{"k": Infinity}', "Infinity is not a number of JSON"),
        ('{"k": 3, "k": 4}', "'k' stands twice"),
        ("[" * 10**5, "nested too deeply"),
        ("\ufeff{}", "no field 'k'"),
    ],
)
def test_a_configuration_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "cfg.json").write_text(text)
    with pytest.raises(InputError, match=words):
        read_config(tmp_path)


def test_safetensors_of_another_kind_or_with_a_prefix(
    sae: SparseAutoencoder, tmp_path: Path
) -> None:
    save_checkpoint(sae, tmp_path)
    path = tmp_path / "sae.safetensors"
    state = safetensors.torch.load_file(path)
    safetensors.torch.save_file({f"module.{name}": t for name, t in state.items()}, path)
    torch.testing.assert_close(load_checkpoint(tmp_path).encoder_weight, sae.encoder_weight.data)
    state["encoder.bias"] = state["encoder.bias"].to(torch.int8)
    safetensors.torch.save_file(state, path)
    with pytest.raises(InputError, match=r"'encoder\.bias' is of int8"):
        load_checkpoint(tmp_path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match="not safetensors, but a Git LFS pointer"):
        load_checkpoint(tmp_path)


def test_unusable_published_files(tmp_path: Path) -> None:
    path = tmp_path / "best_model.pt"
    with pytest.raises(InputError, match="cannot be read"):
        import_published(path, 3)
    path.write_bytes(b"no zip at all")
    with pytest.raises(InputError, match=r"best_model\.pt"):
        import_published(path, 3)
    torch.save({"model_state_dict": published()}, path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="cannot be read"):
        import_published(path, 3)
    state = published()
    del state["pre_bias"]
    torch.save({"model_state_dict": state}, path)
    with pytest.raises(InputError, match="lacks 'pre_bias'"):
        import_published(path, 3)
    torch.save({"model_state_dict": published(**{"pre_bias": torch.zeros(9)})}, path)
    with pytest.raises(InputError, match=r"pre_bias has shape \(9,\), needed is \(10,\)"):
        import_published(path, 3)
    torch.save({"model_state_dict": published(**{"pre_bias": torch.full((10,), torch.nan)})}, path)
    with pytest.raises(InputError, match="pre_bias holds NaN"):
        import_published(path, 3)
    torch.save({"model_state_dict": published()}, path)
    with pytest.raises(InputError, match="an SAE on 10 channels, but the layer has 12"):
        import_published(path, 3, n_channels=12)


def test_unusable_folders(sae: SparseAutoencoder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cfg\.json: cannot be read"):
        load_checkpoint(tmp_path)
    save_checkpoint(sae, tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())

    def with_config(**changes: object) -> Path:
        (tmp_path / "cfg.json").write_text(json.dumps({**config, **changes}))
        return tmp_path

    with pytest.raises(InputError, match="format 99, this version reads up to 1"):
        load_checkpoint(with_config(saeborzoi_format=99))
    with pytest.raises(InputError, match="2 channel maxima for 10 channels"):
        load_checkpoint(with_config(channel_max=[1, 2]))
    with_config()
    (tmp_path / "cfg.json").write_text("{}")
    with pytest.raises(InputError, match="not the configuration of an SAE"):
        load_checkpoint(tmp_path)
    with_config()
    weights = safetensors.torch.load_file(tmp_path / "sae.safetensors")
    (tmp_path / "sae.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match=r"sae\.safetensors: cannot be read"):
        load_checkpoint(tmp_path)
    del weights["b_dec"]
    safetensors.torch.save_file(weights, tmp_path / "sae.safetensors")
    with pytest.raises(InputError, match="no tensor 'b_dec'"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"expansion": 8}, "nodes 40, but l_x8_k0.3_lr0.003_s0_batch_topk has 80"),
        ({"topk": 0.4}, r"active nodes a position \(k\) 3, but"),
        ({"variant": "topk"}, "variant batch_topk, but"),
    ],
)
def test_an_sae_of_other_hyperparameters_is_refused(
    sae: SparseAutoencoder, changes: dict[str, object], words: str
) -> None:
    fields = {"layer": "l", "topk": 0.3, "variant": "batch_topk", **changes}
    maxima = sae.channel_max.numpy()
    with pytest.raises(InputError, match=words):
        require_fits(sae, Path("sae"), Hyperparameters.model_validate(fields), maxima)


def test_an_sae_of_other_normalization_constants_is_refused(sae: SparseAutoencoder) -> None:
    h = Hyperparameters(layer="l", topk=0.3, variant="batch_topk")
    maxima = sae.channel_max.numpy().copy()
    require_fits(sae, Path("sae"), h, maxima)
    maxima[4] = 7
    with pytest.raises(InputError, match=r"other normalization constants \(channel 4: 5, now 7\)"):
        require_fits(sae, Path("sae"), h, maxima)


def test_tensors_beyond_the_memory_are_refused(
    tmp_path: Path, sae: SparseAutoencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best_model.pt"
    export_published(sae, path)
    save_checkpoint(sae, tmp_path)
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=500))
    with pytest.raises(InputError, match="of memory are free"):
        import_published(path, 3)
    with pytest.raises(InputError, match="of memory are free"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": None}, "k is null; needed is a whole number of at least 1"),
        ({"k": 0}, "k is 0"),
        ({"k": True}, "k is true"),
        ({"k": 2.5}, r"k is 2\.5"),
        ({"k": "3"}, 'k is "3"'),
        ({"k": 10**6}, "of which k = 1000000 are to be active"),
        ({"threshold": None}, "threshold is null"),
        ({"threshold": {}}, "threshold is {}"),
        ({"threshold": 10**400}, "threshold is 1000"),
        ({"saeborzoi_format": None}, "saeborzoi_format is null"),
        ({"saeborzoi_format": "1"}, "saeborzoi_format is"),
        ({"variant": None}, "variant is null; needed is one of topk"),
        ({"variant": "gated"}, "variant is"),
        ({"channel_max": None}, "channel_max is null"),
        ({"channel_max": [0.0] * 10}, "channel_max is"),
        ({"channel_max": [[1]] * 10}, "channel_max is"),
        ({"d_in": 11}, "d_in 11, but sae.safetensors has 10"),
        ({"num_latents": 7}, "num_latents 7, but"),
    ],
)
def test_a_field_that_holds_what_it_cannot_is_named(
    sae: SparseAutoencoder, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    save_checkpoint(sae, tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(InputError, match=words) as error:
        load_checkpoint(tmp_path)
    assert str(tmp_path) in str(error.value)
