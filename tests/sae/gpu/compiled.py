"""Compile every kernel for a card that is not here, and print what each takes of it.

    python -m tests.sae.gpu.compiled 90     # sm_90: Hopper

Triton's wheel brings the assembler.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

HALF, FLOAT, INT, LONG, DOUBLE = "*fp16", "*fp32", "*i32", "*i64", "*fp64"


class Shape(NamedTuple):
    """Of an SAE: channels, padded, nodes, entries of a position and nested dictionaries."""

    C: int
    CP: int
    N: int
    K: int
    groups: int


SHAPES = {
    "608 -> 2432, k 30": Shape(608, 640, 2432, 30, 1),
    "608 -> 2432, batch_topk": Shape(608, 640, 2432, 120, 1),
    "608 -> 2432, matryoshka": Shape(608, 640, 2432, 30, 3),
    "1056 -> 4224, k 52": Shape(1056, 1088, 4224, 52, 1),
}


def compiled(
    fn: Any, types: dict[str, str], constants: dict[str, Any], warps: int, arch: int
) -> bytes:
    """The kernel's binary for an architecture."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {a: "constexpr" if a in constants else types[a] for a in fn.arg_names}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, a in enumerate(fn.arg_names)
        if signature[a].startswith("*")
    }
    of_place = {(fn.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn, signature, constexprs=of_place, attrs=aligned)
    kernel = triton.compile(
        source, target=GPUTarget("cuda", arch, 32), options={"num_warps": warps}
    )
    binary: bytes = kernel.asm["cubin"]
    return binary


def resources(cubin: bytes) -> dict[str, int]:
    """Registers and bytes of stack (what did not fit the registers) of a kernel."""
    import triton.backends.nvidia as nvidia

    tool = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    numbers = re.search(r"REG:(\d+) STACK:(\d+)", text)
    assert numbers is not None, text
    return {"registers": int(numbers[1]), "stack": int(numbers[2])}


def main(arch: int) -> dict[str, dict[str, dict[str, int]]]:
    """Resources of each kernel, of each shape."""
    import triton

    from saeborzoi.sae.gpu import kernels
    from saeborzoi.sae.gpu.fused import decode_block, tiles

    adam = {"EPS": 1e-12, "BETA1": 0.9, "BETA2": 0.999}
    result = {}
    for name, s in SHAPES.items():
        row, of_k = triton.next_power_of_2(s.CP), triton.next_power_of_2(s.K)
        channels = {"C": s.C, "CP": s.CP}
        first, second = tiles(s.N)
        block, warps = decode_block(of_k)
        work: dict[str, tuple[dict[str, str], dict[str, Any], int]] = {
            "prepare": (
                {"RAW": HALF, "SCALE": FLOAT, "PRE_BIAS": FLOAT, "Y": HALF, "MEAN": FLOAT,
                 "STD": FLOAT},
                {**channels, "BLOCK": row, "EPS": 1e-5}, 1,
            ),
            "select": (
                {"H": HALF, "KEPT": INT, "Z": HALF, "SLOPE": HALF},
                {"N": s.N, "K": s.K, "KP": of_k, "R1": first, "R2": second, "CLEAR": True}, 1,
            ),
            "decode": (
                {"RAW": HALF, "SCALE": FLOAT, "PRE_BIAS": FLOAT, "MEAN": FLOAT, "STD": FLOAT,
                 "KEPT": INT,
                 "DECODER": HALF, "ENDS": INT, "S": HALF, "Z": HALF, "SLOPE": HALF,
                 "FIRED": INT, "ERROR": FLOAT,
                 "RESIDUAL": HALF, "gain": "fp32"},
                {**channels, "B": 4096, "N": s.N, "K": s.K, "KP": of_k, "CB": block,
                 "GROUPS": s.groups, "N_AUX": 1024, "EPS": 1e-5}, warps,
            ),
            "score": (
                {"Y": FLOAT, "ENCODER": FLOAT, "BIAS": FLOAT, "KEPT": INT, "SCORE": FLOAT},
                {"K": s.K + 8, "KP": triton.next_power_of_2(s.K + 8), "C": s.C,
                 "CB": decode_block(triton.next_power_of_2(s.K + 8))[0]},
                decode_block(triton.next_power_of_2(s.K + 8))[1],
            ),
            "advance": (
                {"DONE": LONG, "FAILED": LONG, "SUMS": DOUBLE, "TOTAL": DOUBLE, "RATES": FLOAT,
                 "peak": "fp32",
                     "n_steps": "i32", "rise": "fp32", "fall": "fp32"},
                {"LOG_BETA1": -0.105, "LOG_BETA2": -0.001, "RISES": True, "FALLS": True}, 1,
            ),
            "select_dead": (
                {"H": HALF, "SINCE": LONG, "FIRED": INT, "Z": HALF, "dead_after": "i32",
                 "n_positions": "i32"},
                {"N": s.N, "K": s.C // 2, "BLOCK": triton.next_power_of_2(s.N)}, 4,
            ),
            "update": (
                dict.fromkeys(
                    ("ENCODER", "G_ENCODER", "A_ENCODER", "M_ENCODER", "V_ENCODER", "DECODER",
                     "G_DECODER", "A_DECODER", "M_DECODER", "V_DECODER", "RATES"), FLOAT,
                ) | {"ENCODER16": HALF, "DECODER16": HALF, "SINCE": LONG, "FIRED": INT,
                 "n_positions": "i32",
                         "scale": "fp32"},
                {**channels, "N": s.N, "BLOCK": row, "ROWS": 4, "AUX": True, "UNIT": True, **adam},
                8,
            ),
            "update_vector": (
                {"W": FLOAT, "G": FLOAT, "M": FLOAT, "V": FLOAT, "RATES": FLOAT, "scale": "fp32",
                 "n": "i32"},
                {"BLOCK": 256, **adam}, 4,
            ),
        }  # fmt: skip
        result[name] = {
            kernel: resources(compiled(getattr(kernels, kernel), *arguments, arch))
            for kernel, arguments in work.items()
        }
    return result


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1])), indent=1))
