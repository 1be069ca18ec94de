"""The published training step, restated densely from its formulas; the reference of ratios."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PublishedSae(nn.Module):
    """sae-borzoi's autoencoder: layer norm, ReLU, the k largest, everything dense."""

    def __init__(self, n_channels: int, n_nodes: int, k: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(n_channels, n_nodes, bias=False)
        self.decoder = nn.Linear(n_nodes, n_channels, bias=False)
        self.pre_bias = nn.Parameter(torch.zeros(n_channels))
        self.latent_bias = nn.Parameter(torch.zeros(n_nodes))
        self.k = k

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction of (n, n_channels) positions divided by the channel maxima, and z."""
        mu = x.mean(-1, keepdim=True)
        std = (x - mu).std(-1, keepdim=True)
        y = (x - mu) / (std + 1e-5)
        h = torch.relu(self.encoder(y - self.pre_bias) + self.latent_bias)
        top = torch.topk(h, self.k, dim=-1)
        z = torch.zeros_like(h).scatter_(-1, top.indices, top.values)
        return (self.decoder(z) + self.pre_bias) * std + mu, z

    def infer(self, x: Tensor) -> Tensor:
        """z of (n, n_channels) positions; inference has no ReLU, and reconstructs too."""
        mu = x.mean(-1, keepdim=True)
        std = (x - mu).std(-1, keepdim=True)
        h = self.encoder((x - mu) / (std + 1e-5) - self.pre_bias) + self.latent_bias
        top = torch.topk(h, self.k, dim=-1)
        z = torch.zeros_like(h).scatter_(-1, top.indices, top.values)
        (self.decoder(z) + self.pre_bias) * std + mu
        return z


def dense_step(sae: PublishedSae, optimizer: torch.optim.Optimizer, x: Tensor) -> dict[str, float]:
    """One published step: MSE, Adam, and the metrics that are taken at every step."""
    x_hat, z = sae(x)
    mse = nn.functional.mse_loss(x_hat, x)
    l1 = z.abs().mean()
    z = z.detach()
    metrics = {
        "sparsity": float((z == 0).float().mean(1).mean()),
        "mean_activation": float(z.abs().mean()),
        "std_activation": float(z.abs().std()),
    }
    optimizer.zero_grad()
    mse.backward()
    optimizer.step()
    return {"mse": float(mse.detach()), "l1": float(l1.detach()), **metrics}
