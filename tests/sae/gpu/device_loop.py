"""The loop that trains on a GPU, on whatever device there is."""

from __future__ import annotations

from saeborzoi.activations.loader import TrainingStream
from saeborzoi.sae.gpu.feed import DeviceStream
from saeborzoi.sae.training import TrainingLoop


class DeviceLoop(TrainingLoop):
    """As on a GPU, on a CPU too."""

    def _feed(self, stream: TrainingStream, batch_size: int) -> DeviceStream:
        return DeviceStream(stream, batch_size, self.device, self.group)
