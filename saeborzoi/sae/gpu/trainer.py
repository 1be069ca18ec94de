"""One SAE in training on a GPU: nothing waits for the device but who reads figures.

A step is matrix products and, between them, the parts of a layer (`plain.py` or `fused.py`). On a
GPU it is recorded once in a CUDA graph and replayed; several processes run it without, as their
sums travel in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from saeborzoi.sae.distributed import Group
from saeborzoi.sae.gpu.buffers import HALF, Batch, Progress, Weights
from saeborzoi.sae.gpu.capability import choose_layer
from saeborzoi.sae.gpu.plain import Constants, to_half
from saeborzoi.sae.gpu.products import product
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.recipe import TrainingRecipe
from saeborzoi.sae.trainer_base import TrainerBase, WindowSums
from saeborzoi.settings.hyperparameters import Hyperparameters


class DeviceTrainer(TrainerBase):
    """One SAE in training, all of whose state is on a device.

    Parameters
    ----------
    sae, hyperparameters, recipe, n_steps, batch_size, variance
        See `TrainerBase`; the SAE's parameters become views of larger tensors until `release`.
    raw
        (batch_size / processes, n_channels) on the device, as stored: where a batch stands when
        `train_step` is called. SAEs of one pass share it.
    group
        Processes that train it together.

    Notes
    -----
    A loss that is not finite is refused on the device: the number of its step is kept there, and
    nothing moves from then on. Whoever reads figures or state is told.
    """

    def __init__(
        self,
        sae: SparseAutoencoder,
        hyperparameters: Hyperparameters,
        recipe: TrainingRecipe,
        n_steps: int,
        batch_size: int,
        variance: float,
        raw: Tensor,
        group: Group | None = None,
    ) -> None:
        super().__init__(sae, hyperparameters, recipe, n_steps, batch_size, variance)
        self._group = group or Group()
        C, n = sae.n_channels, len(raw)
        n_aux = max(1, recipe.aux_rows // self._group.size) if recipe.aux_weight else 0
        gain = C / variance
        constants = Constants(
            learning_rate=hyperparameters.learning_rate,
            n_steps=n_steps,
            rise=max(1.0, recipe.warmup * n_steps) if recipe.warmup else 0.0,
            fall=recipe.decay * n_steps,
            betas=recipe.betas,
            eps=recipe.eps,
            unit_norm=recipe.unit_norm,
            gain=gain,
            gradient_scale=2 / (n * C * len(sae.group_ends) * gain),
            batch_size=batch_size,
            dead_after=self.dead_after,
            n_dead_kept=max(1, C // 2),
        )
        self.weights, self.batch = Weights(sae), Batch(sae, raw, n_aux)
        self.progress = Progress(sae.n_nodes, raw.device)
        self.layer, why = choose_layer(self.weights, self.batch, self.progress, constants)
        self.how = f"{self.layer.name} ({why})"
        """Which layer trains, and why."""
        self.since_fired = self.progress.since_fired
        self._gain = gain
        self._aux_z = torch.zeros(len(self.batch.residual), sae.n_nodes, dtype=HALF).to(raw.device)
        self._n_positions = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._beside = torch.cuda.Stream() if raw.device.type == "cuda" else None

    # -- a step ---------------------------------------------------------------------------------

    def train_step(self, raw: Tensor) -> None:
        """Move the SAE by one batch, in a while; see the class for a loss that is not finite."""
        if raw.data_ptr() != self.batch.raw.data_ptr():
            self.batch.raw.copy_(raw, non_blocking=True)
        if self._graph is not None:
            self._graph.replay()
        else:
            self.run()
        self.n_done += 1
        self._n_positions += self.batch_size

    @torch.no_grad()
    def run(self) -> None:
        """The work of a step, one part after another."""
        b, w = self.batch, self.weights
        self.layer.prepare()
        product(b.y, w.encoder_half.T, b.h)
        self.layer.select()
        if self.sae.variant == "batch_topk":
            self._keep_largest_of_batch()
        self.layer.decode()
        with self._beside_the_products():
            self._figures()
        self._gradients()
        self._join()
        if self._group.size > 1:
            self._group.average((b.gradient, b.pre_bias_sum))
        # pre_bias enters the output, and (subtracted) the encoder's input
        C = self.sae.n_channels
        b.pre_bias_sum.sub_(b.gradient[0, :, C] @ w.encoder[:, :C])
        if self.recipe.aux_weight:
            self._revive()
        self.layer.update()

    def _keep_largest_of_batch(self) -> None:
        """Keep the k x positions largest activations of the whole batch, and what equals the last
        of them (Bussmann et al. 2024). Counting each of the 32,768 values that a half float above 0
        can have takes one pass, and the counts of processes add up."""
        kept = self.batch.kept
        counts = torch.zeros(2**15, dtype=torch.int64, device=kept.device)
        bits = (kept >> 16).to(torch.int64)
        counts.index_add_(0, bits.flatten(), torch.ones_like(bits.flatten()))
        counts[0] = 0
        self._group.add(counts)
        reach = counts.flip(0).cumsum(0).flip(0)
        # the largest value that enough reach; with fewer than enough all stay
        limit = (reach >= self.sae.k * len(kept) * self._group.size).sum() - 1
        kept.copy_(kept.where(bits >= limit, 0))

    def _figures(self) -> None:
        b, p = self.batch, self.progress
        torch.sum(b.error, 0, dtype=torch.float64, out=p.total[0])
        p.total[1] = (b.kept > 0).sum()
        torch.sum(b.std, 0, dtype=torch.float64, out=p.total[2])
        torch.sum(b.s[0, :, : self.sae.n_channels], 0, dtype=torch.float32, out=b.pre_bias_sum)
        self._group.add(p.total)
        self._group.largest(b.fired)
        self.layer.advance()
        if self.sae.variant == "batch_topk":
            bits = (b.kept >> 16).where(b.kept > 0, 2**15 - 1).amin().to(torch.int16)
            p.lowest.copy_(-self._group.largest(-bits.view(HALF).float()))
            past = torch.where(p.done > 1, self.threshold_memory, 0.0)
            threshold = self.sae.threshold * past + p.lowest * (1 - past)
            moves = (p.rates[2] > 0) & torch.isfinite(p.lowest)
            self.sae.threshold.copy_(threshold.where(moves, self.sae.threshold))

    def _gradients(self) -> None:
        """Of the weights: two products, in one go where there is one dictionary."""
        b = self.batch
        if len(b.group_ends) == 1:
            product(b.zs.mT, b.ys, b.gradient)
            return
        product(b.slope.T, b.y, b.gradient[0])
        start = 0
        for group, end in enumerate(b.group_ends):
            product(b.z[:, start:end].T, b.s[group], b.gradient[1, start:end])
            start = end

    def _revive(self) -> None:
        """The gradient of AuxK: the dead nodes that fit it best reconstruct the residual (Gao et
        al. 2024, section A.2). Exactly 0 where no node is dead.

        The loss is scaled to the size of the main loss, however small the residual is: otherwise
        Adam's second moment of a node would change by orders of magnitude when the node comes to
        life.
        """
        b, w, z = self.batch, self.weights, self._aux_z
        assert b.aux_encoder is not None
        assert b.aux_decoder is not None
        n, C = b.residual.shape
        self.layer.select_dead(z)
        error = torch.empty(n, C, device=z.device)
        product(z, w.decoder_half, error)
        residual = b.residual.float()
        error.sub_(residual)
        unexplained = self._group.mean(residual.square().mean()).clamp_min(1e-12)
        per_row = len(b.z) * len(b.group_ends) * self._gain / n
        weight = per_row * self.recipe.aux_weight * self.variance / C
        slope = to_half(error * (weight / unexplained))
        to_nodes = torch.empty(z.shape, device=z.device)
        product(slope, w.decoder_half.T, to_nodes)
        product(to_half(to_nodes.where(z > 0, 0)).T, b.y[:n], b.aux_encoder)
        product(z.T, slope, b.aux_decoder)
        if self._group.size > 1:
            self._group.average((b.aux_encoder, b.aux_decoder))

    @contextlib.contextmanager
    def _beside_the_products(self) -> Iterator[None]:
        if self._beside is None or self._group.size > 1:  # collectives keep to one order
            yield
            return
        self._beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._beside):
            yield

    def _join(self) -> None:
        if self._beside is not None:
            torch.cuda.current_stream().wait_stream(self._beside)

    def prepare(self) -> None:
        """Compile and allocate what a step needs, by two steps that are undone; on a GPU that no
        other process shares the training with, record it in a CUDA graph.

        Raises
        ------
        torch.OutOfMemoryError
            Where the device does not hold a step; none that follows takes more.
        """
        state = [
            tensor
            for part in (self.weights, self.progress)
            for tensor in vars(part).values()
            if isinstance(tensor, Tensor)
        ] + [self.sae.threshold]
        before = [tensor.clone() for tensor in state]
        if self._beside is None:
            self.run()
        else:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self.run()
                self.run()
            torch.cuda.current_stream().wait_stream(stream)
            if self._group.size == 1:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    self.run()
                self._graph = graph
        for tensor, value in zip(state, before, strict=True):
            tensor.copy_(value)

    # -- what the host reads --------------------------------------------------------------------

    def window(self) -> WindowSums:
        """See `TrainerBase`; waits for the steps so far."""
        failed = int(self.progress.failed)
        if failed:
            self.data_is_finite = failed > 0
            raise self.not_finite(abs(failed))
        squared_error, n_active = self.progress.sums.tolist()
        return WindowSums(squared_error, round(n_active), self._n_positions)

    def set_window(self, window: WindowSums) -> None:
        """See `TrainerBase`."""
        self.progress.sums.copy_(torch.tensor(window[:2], dtype=torch.float64))
        self._n_positions = window.n_positions

    def moments(self) -> list[dict[str, Tensor]]:
        """See `TrainerBase`."""
        return self.weights.moments(self.n_done) if self.n_done else []

    def set_moments(self, moments: list[dict[str, Tensor]]) -> None:
        """See `TrainerBase`."""
        self.weights.set_moments(moments)
        self.weights.refresh()
        self.progress.done.fill_(self.n_done)

    def release(self) -> SparseAutoencoder:
        """See `TrainerBase`; there are no steps after it, and the step's memory is given back."""
        sae = super().release()
        for parameter in sae.parameters():
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        self._graph = None
        del self.weights, self.batch, self.layer, self._aux_z
        return sae
