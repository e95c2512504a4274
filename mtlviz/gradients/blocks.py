"""What is kept of the T task gradients of one layer: their rows, or the inputs and cotangents that make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

COLUMNS = 1 << 14  # of a piece in float64: 2.6 MB at T=20


class Block(Protocol):
    """The gradients of T tasks on one layer of P_k parameters, in whatever form; a zero row where there is none."""

    def gramian(self) -> torch.Tensor:
        """(T, T) float64 inner products."""

    def rows(self) -> torch.Tensor:
        """(T, P_k), in the dtype of the parameters."""

    def weighted(self, weights: torch.Tensor, *, exact: bool = False) -> torch.Tensor:
        """Σ_t w_t g_t (P_k,) of weights (T,) float64. exact: summed over the tasks in float64."""


@dataclass(frozen=True)
class Rows:
    """The rows g_t themselves: values (T, P_k)."""

    values: torch.Tensor

    def gramian(self) -> torch.Tensor:
        """(T, T), a piece of the columns at a time."""
        return gramian_of(self.values)

    def rows(self) -> torch.Tensor:
        """(T, P_k)."""
        return self.values

    def weighted(self, weights: torch.Tensor, *, exact: bool = False) -> torch.Tensor:
        """(P_k,)."""
        if not exact:
            return weights.to(self.values.dtype) @ self.values
        pieces = [weights @ piece.double() for piece in self.values.split(COLUMNS, dim=1)]
        return torch.cat(pieces).to(self.values.dtype)


@dataclass(frozen=True)
class Ghost:
    """The factors of the rows of an affine layer: g_t = (D_tᵀ X, and for the bias D_tᵀ 1).

    inputs: X (N, in), a row for each sample and place. cotangents: D (T, N, out). weight, bias: whether these train, in
    the order in which the layer has them.

    G += ((XXᵀ + 1) D) · D, summed over (N, out), in float64: no (T, P_k) is ever needed.
    """

    inputs: torch.Tensor
    cotangents: torch.Tensor
    weight: bool = True
    bias: bool = True

    def gramian(self) -> torch.Tensor:
        """(T, T)."""
        D = self.cotangents.double()
        K = self._kernel()
        products = torch.empty_like(D)
        for d, product in zip(D, products, strict=True):
            torch.mm(K, d, out=product)
        return D.flatten(1) @ products.flatten(1).T

    def _kernel(self) -> torch.Tensor:
        """XXᵀ + 1 (N, N) in float64."""
        if not self.weight:
            return torch.ones(len(self.inputs), len(self.inputs), dtype=torch.float64, device=self.inputs.device)
        X = self.inputs.double()
        return torch.mm(X, X.T).add_(float(self.bias))

    def rows(self) -> torch.Tensor:
        """(T, P_k)."""
        return torch.stack([self._of(d) for d in self.cotangents])

    def weighted(self, weights: torch.Tensor, *, exact: bool = False) -> torch.Tensor:
        """(Σ_t w_t D_t)ᵀ X and its sums for the bias, as one (P_k,)."""
        D = self.cotangents.flatten(1)
        summed = weights @ D.double() if exact else weights.to(D.dtype) @ D
        return self._of(summed.to(D.dtype).view(self.cotangents.shape[1:]))

    def _of(self, d: torch.Tensor) -> torch.Tensor:
        parts = [(d.T @ self.inputs).flatten()] if self.weight else []
        if self.bias:
            parts.append(d.sum(0))
        return torch.cat(parts) if len(parts) > 1 else parts[0]


def gramian_of(rows: torch.Tensor) -> torch.Tensor:
    """(T, T) float64 inner products of rows (T, P), converted a piece at a time."""
    gramian = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for piece in rows.split(COLUMNS, dim=1):
        exact = piece.double()
        gramian.addmm_(exact, exact.T)
    return gramian


def jacobian_of(blocks: Sequence[Block], out: torch.Tensor | None = None) -> torch.Tensor:
    """J (T, P) of all layers side by side."""
    return torch.cat([block.rows() for block in blocks], dim=1, out=out)
