"""Training and inference of SAEs on a GPU, without waits of the host.

`buffers.py` holds what lies on the device, `plain.py` computes with it in PyTorch alone,
`fused.py` (with `kernels.py` and `row_selection.py`) by kernels compiled at run time, and
`capability.py` chooses between the two; `trainer.py` is one SAE in training, `selector.py` finds a
finished one's active nodes, `feed.py` brings positions. Everything but the kernels runs on tensors
of a CPU too, where the tests run it.
"""
