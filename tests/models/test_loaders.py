"""Loading is strict and safe: what is not the model is refused in words."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from saeborzoi.errors import InputError
from saeborzoi.models.loaders import load_model
from saeborzoi.models.model import fingerprint_of_tensors, same_weights
from saeborzoi.models.tensors import load_strictly, load_tensors
from tests.models.nets import Padded, make, model_of

NETS = "tests.models.nets"


def test_a_model_is_in_evaluation_mode_and_frozen_though_its_loader_forgot() -> None:
    model = model_of("padded")
    assert not any(part.training for part in model.module.modules())
    assert not any(p.requires_grad for p in model.module.parameters())
    x = torch.zeros(2, 4, 256)
    x[0, 0] = x[1, 1] = 1
    # batch norm in training mode would make a sequence depend on its neighbours
    assert torch.allclose(model.predict(x)[:1], model.predict(x[:1]), atol=1e-6)
    assert model.predict(x).shape == (2, 3, 128)


def test_a_users_function_comes_from_a_package_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "def load(weights, width=5):\n"
        "    assert weights.suffix == '.pth'\n"
        "    module = nn.Conv1d(4, 3, width)\n"
        "    module.load_state_dict(torch.load(weights, weights_only=True))\n"
        "    return nn.Sequential(module)\n"
    )
    weights = nn.Conv1d(4, 3, 7).state_dict()
    torch.save(weights, tmp_path / "own.pth")
    model = load_model(
        f"{tmp_path}/own.py:load",
        weights=str(tmp_path / "own.pth"),
        arguments={"width": 7},
        input_bp=50,
        device="cpu",
    )
    assert torch.equal(model.module[0].weight, weights["weight"])
    assert model.input_bp == 50


@pytest.mark.parametrize(
    ("loader", "options", "message"),
    [
        ("nothing", {}, "needed is 'borzoi-pytorch:<folder>'"),
        ("no.such.package:load", {}, "cannot be imported"),
        ("missing.py:load", {}, "missing.py cannot be imported"),
        (f"{NETS}:paded", {}, "the nearest there is 'padded'"),
        (f"{NETS}:padded", {"arguments": {"wieghts": "x"}}, "fix `arguments`"),
        (f"{NETS}:no_module", {}, "returned a str"),
        (f"{NETS}:failing", {}, "RuntimeError: the file is elsewhere"),
        (f"{NETS}:bare", {}, "set input_bp"),
        (f"{NETS}:padded", {"device": "tpu7"}, "is no device"),
        ("keras-h5:x.h5", {"weights": Path("y.h5")}, "has its path in `loader`"),
    ],
)
def test_a_loader_that_gives_no_model_is_refused(
    loader: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as error:
        load_model(loader, **{"device": "cpu", **options})  # type: ignore[arg-type]
    assert message in str(error.value)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="sees no GPU here"):
        load_model(f"{NETS}:padded", device="cuda")


def test_missing_and_unexpected_tensors_are_named() -> None:
    tensors = make(Padded).state_dict()
    tensors["other.weight"] = tensors.pop("conv.weight")
    tensors["dna.bias"] = tensors["dna.bias"][:3]
    with pytest.raises(InputError) as error:
        load_strictly(make(Padded), tensors, "w.pth")
    text = str(error.value)
    assert "w.pth" in text
    assert "missing: conv.weight" in text
    assert "not expected: other.weight" in text
    assert "dna.bias (3,) instead of (16,)" in text


def test_pickled_code_is_not_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "was_run",))  # type: ignore[return-value]

    path = tmp_path / "evil.pth"
    torch.save({"weight": Evil()}, path)
    with pytest.raises(InputError, match="could run any code"):
        load_tensors(path)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError):
        load_tensors(path)
    assert not (tmp_path / "was_run").exists()


def test_files_without_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_tensors(tmp_path / "missing.pth")
    torch.save({"weight": [1, 2]}, tmp_path / "list.pth")
    with pytest.raises(InputError, match="no plain state_dict"):
        load_tensors(tmp_path / "list.pth")
    (tmp_path / "half.safetensors").write_bytes(b"\x10")
    with pytest.raises(InputError, match="cannot be read"):
        load_tensors(tmp_path / "half.safetensors")


def test_tensors_that_were_never_filled_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tests.models.nets as nets

    def meta() -> nn.Module:
        with torch.device("meta"):
            return Padded()

    def damaged() -> nn.Module:
        module = make(Padded)
        module.conv.weight.data[0, 0, 0] = torch.nan
        return module

    monkeypatch.setattr(nets, "padded", meta)
    with pytest.raises(InputError, match="was never filled"):
        load_model(f"{NETS}:padded", device="cpu", input_bp=256)
    monkeypatch.setattr(nets, "padded", damaged)
    with pytest.raises(InputError, match=r"conv\.weight holds NaN"):
        load_model(f"{NETS}:padded", device="cpu", input_bp=256)


def test_the_fingerprint_is_of_every_tensor(tmp_path: Path) -> None:
    module = make(Padded)
    before = fingerprint_of_tensors(module)
    assert before == fingerprint_of_tensors(make(Padded)) == model_of("padded").fingerprint
    assert before != fingerprint_of_tensors(make(Padded, seed=1))
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    copy = make(Padded, seed=2)
    load_strictly(copy, load_tensors(tmp_path / "w.safetensors"), "w")
    assert fingerprint_of_tensors(copy) == before
    module.norm.running_var[3] += 1e-6
    assert fingerprint_of_tensors(module) != before
    same_weights(model_of("padded"), before, "the SAE")
    with pytest.raises(InputError, match="other weights"):
        same_weights(model_of("padded"), fingerprint_of_tensors(module), "the SAE")


def test_another_length_than_the_models_is_refused() -> None:
    # attention keeps the positions of the first length, and would go on with them
    model = model_of("attending")
    with pytest.raises(InputError, match="128 bp, but the model takes 256 bp"):
        model.predict(torch.zeros(1, 4, 128))


def test_outputs_that_are_not_as_the_loader_says_are_refused() -> None:
    model = model_of("attending")
    with pytest.raises(InputError, match=r"shape \(1, 64, 8\).*\(1, 8, 64\)"):
        model.predict(torch.zeros(1, 4, 256))
    with pytest.raises(InputError, match="no outputs"):
        model_of("numbered").predict(torch.zeros(1, 4, 128))
