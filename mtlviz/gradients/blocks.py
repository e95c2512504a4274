"""What is kept of the T task gradients of one layer: their rows, or the inputs and cotangents that make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

COLUMNS = 1 << 14  # of a piece in float64: 2.6 MB at T=20


class Block(Protocol):
    """The gradients of T tasks on one layer of P_k parameters, in whatever form; a zero row where there is none."""

    @property
    def size(self) -> int:
        """P_k."""

    def gramian(self) -> torch.Tensor:
        """(T, T) float64 inner products."""

    def rows(self) -> torch.Tensor:
        """(T, P_k), in the dtype of the parameters."""

    def weighted(self, weights: torch.Tensor, *, out: torch.Tensor, exact: bool = False) -> None:
        """Writes Σ_t w_t g_t of weights (T,) float64 into `out` (P_k,). exact: summed over the tasks in float64."""


@dataclass(frozen=True)
class Rows:
    """The rows g_t themselves: values (T, P_k)."""

    values: torch.Tensor

    @property
    def size(self) -> int:
        """P_k."""
        return self.values.shape[1]

    def gramian(self) -> torch.Tensor:
        """(T, T), a piece of the columns at a time."""
        return gramian_of(self.values)

    def rows(self) -> torch.Tensor:
        """(T, P_k)."""
        return self.values

    def weighted(self, weights: torch.Tensor, *, out: torch.Tensor, exact: bool = False) -> None:
        """wᵀ of the rows."""
        if not exact:
            torch.mv(self.values.T, weights.to(self.values.dtype), out=out)
            return
        for into, piece in zip(out.split(COLUMNS), self.values.split(COLUMNS, dim=1), strict=True):
            into.copy_(weights @ piece.double())


@dataclass(frozen=True)
class Ghost:
    """The factors of the rows of an affine layer: g_t = (D_tᵀ X, and for the bias D_tᵀ 1).

    inputs: X (N, in), a row for each sample and place. cotangents: D (T, N, out). bias: whether there is one.

    G += ((XXᵀ + 1) D) · D, summed over (N, out), in float64: no (T, P_k) is ever needed.
    """

    inputs: torch.Tensor
    cotangents: torch.Tensor
    bias: bool = True

    @property
    def size(self) -> int:
        """P_k = out (in + 1), or out · in without a bias."""
        return self.cotangents.shape[2] * (self.inputs.shape[1] + self.bias)

    def gramian(self) -> torch.Tensor:
        """(T, T)."""
        D, K = self.cotangents.double(), self._kernel()
        products = torch.bmm(K.expand(len(D), *K.shape), D)
        return D.flatten(1) @ products.flatten(1).T

    def _kernel(self) -> torch.Tensor:
        """XXᵀ + 1 (N, N) in float64."""
        X = self.inputs.double()
        return torch.mm(X, X.T).add_(float(self.bias))

    def rows(self) -> torch.Tensor:
        """(T, P_k)."""
        rows = self.inputs.new_empty(len(self.cotangents), self.size)
        for d, row in zip(self.cotangents, rows, strict=True):
            self._write(d, row)
        return rows

    def weighted(self, weights: torch.Tensor, *, out: torch.Tensor, exact: bool = False) -> None:
        """(Σ_t w_t D_t)ᵀ X, and its sums for the bias."""
        D = self.cotangents.flatten(1)
        summed = weights @ D.double() if exact else weights.to(D.dtype) @ D
        self._write(summed.to(D.dtype).view(self.cotangents.shape[1:]), out)

    def _write(self, d: torch.Tensor, out: torch.Tensor) -> None:
        """dᵀ X (out, in) and the sums of d (N, out), side by side."""
        size = d.shape[1] * self.inputs.shape[1]
        torch.mm(d.T, self.inputs, out=out[:size].view(d.shape[1], -1))
        if self.bias:
            torch.sum(d, dim=0, out=out[size:])


def gramian_of(rows: torch.Tensor) -> torch.Tensor:
    """(T, T) float64 inner products of rows (T, P), converted a piece at a time."""
    if rows.shape[1] <= COLUMNS:
        exact = rows.double()
        return exact @ exact.T
    gramian = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for piece in rows.split(COLUMNS, dim=1):
        exact = piece.double()
        gramian.addmm_(exact, exact.T)
    return gramian


def jacobian_of(blocks: Sequence[Block], out: torch.Tensor | None = None) -> torch.Tensor:
    """J (T, P) of all layers side by side."""
    return torch.cat([block.rows() for block in blocks], dim=1, out=out)
