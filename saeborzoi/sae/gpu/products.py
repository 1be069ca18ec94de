"""Products of half-precision matrices whose sums and results are float32."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """``out = a @ b``, (m, k) and (k, n) half, `out` (m, n) half or float32, or all with one more
    axis in front.

    On a CPU, and where PyTorch cannot give float32 (before 2.8), half precision is widened first.
    """
    multiply = torch.bmm if a.ndim == 3 else torch.mm
    widens = _widens(a.device.type)
    if out.dtype == a.dtype and a.device.type != "cpu":
        multiply(a, b, out=out)
    elif widens:
        multiply(a, b, out_dtype=torch.float32, out=out)  # type: ignore[call-overload]
    else:
        out.copy_(multiply(a.float(), b.float()))


@cache
def _widens(device: str) -> bool:
    """Whether a product of half-precision matrices can come out in float32 on a device."""
    if device == "cpu":
        return False
    # sums stay float32 within a product, too
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    a = torch.ones(1, 8, 8, dtype=torch.float16, device=device)
    out = torch.empty(1, 8, 8, device=device)
    try:
        torch.bmm(a, a, out_dtype=torch.float32, out=out)  # type: ignore[call-overload]
    except (TypeError, RuntimeError, NotImplementedError):
        return False
    return True
