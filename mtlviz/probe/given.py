"""Gradients that a loop took itself: they are read, and no backward pass is made for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mtlviz.errors import ProbeError

_CHUNK = 2**20  # numbers of a row that are in double precision at a time


class Given:
    """Reads a Jacobian in parts, one (T, *shape) per shared parameter, and makes its Gramians without joining them.

    groups: name -> parameters, as the log's layers stand.
    """

    def __init__(self, groups: Mapping[str, Sequence[nn.Parameter]]) -> None:
        self.parameters = tuple(p for parameters in groups.values() for p in parameters)
        self._group = [k for k, parameters in enumerate(groups.values()) for _ in parameters]
        self._groups = len(groups)

    def read(self, jacobian: Any, tasks: int) -> list[torch.Tensor | None]:
        """The parts as (T, n) each; None where a parameter has no gradient.

        Raises: ProbeError for another count of parts or another shape.
        """
        if isinstance(jacobian, torch.Tensor) or not isinstance(jacobian, Sequence):
            raise ProbeError(
                f"jacobian must be a sequence of tensors, one for each of probe.parameters, "
                f"got {type(jacobian).__name__}"
            )
        if len(jacobian) != len(self.parameters):
            raise ProbeError(
                f"jacobian needs a tensor (or None) for each of the {len(self.parameters)} probe.parameters, in their "
                f"order; got {len(jacobian)}"
            )
        rows: list[torch.Tensor | None] = []
        for place, (part, parameter) in enumerate(zip(jacobian, self.parameters, strict=True)):
            if part is None:
                rows.append(None)
                continue
            wanted = (tasks, *parameter.shape)
            if not isinstance(part, torch.Tensor) or tuple(part.shape) != wanted:
                came = tuple(part.shape) if isinstance(part, torch.Tensor) else type(part).__name__
                raise ProbeError(
                    f"jacobian: part {place} must be {wanted}, a row per task of the parameter's shape; got {came}"
                )
            rows.append(part.detach().reshape(tasks, -1))
        return rows

    def gramians(self, rows: Sequence[torch.Tensor | None], tasks: int, device: torch.device) -> torch.Tensor:
        """(K, T, T) float64 Gramians of the groups."""
        cube = torch.zeros(self._groups, tasks, tasks, dtype=torch.float64, device=device)
        for group, part in zip(self._group, rows, strict=True):
            for start in range(0, 0 if part is None else part.shape[1], _CHUNK):
                assert part is not None
                columns = part[:, start : start + _CHUNK].double()
                cube[group].addmm_(columns, columns.T)
        return cube

    def parts(self, whole: torch.Tensor) -> list[torch.Tensor | None]:
        """(T, n) each of a `whole`."""
        return list(whole.split([p.numel() for p in self.parameters], dim=1))

    def whole(self, rows: Sequence[torch.Tensor | None], tasks: int, like: torch.dtype) -> torch.Tensor:
        """(T, P), a copy; zeros where there is no gradient."""
        pairs = zip(rows, self.parameters, strict=True)
        return torch.cat([p.new_zeros(tasks, p.numel()) if r is None else r for r, p in pairs], dim=1).to(like)
