"""A loop that TorchJD drives, watched by a probe: its Jacobians and weights are read, and no backward pass is added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtlviz.errors import ProbeError

if TYPE_CHECKING:
    import torch

    from mtlviz.probe import Probe


def jacobian(probe: Probe) -> list[torch.Tensor | None] | None:
    """The `.jac` fields of what a probe measures, for its `step`, taken before `jac_to_grad` frees them.

        mtl_backward(list(losses.values()), features=z)            # or backward(...): fills .jac
        taken = mv.interop.torchjd.jacobian(probe)
        weights = jac_to_grad(model.trunk.parameters(), aggregator)  # frees .jac, fills .grad
        probe.step(losses, weights=weights, jacobian=taken)
        optimizer.step(); optimizer.zero_grad()

    Give the probe's tasks in the order of the losses: the rows of `.jac`, and the weights, have no names. An aggregator
    that does not weigh (GradDrop, trimmed mean) returns None for weights: log NaN then, `weights=[math.nan] * T`, for 1
    would stand there as that of a plain sum. Keep `jac_to_grad` from the heads' parameters, as TorchJD's examples do.

    With `autogram` there is no `.jac`, but a graph that is still alive; `losses` is a tensor (T,) there:
        weights = weighting(engine.compute_gramian(losses))
        probe.step(losses, weights=weights)
        losses.backward(weights)

    Returns: None on a step that the probe does not record, so that nothing outlives `jac_to_grad` there.

    Raises: ProbeError where no parameter has a `.jac`.
    """
    if not probe.recording:
        return None
    taken = [getattr(parameter, "jac", None) for parameter in probe.parameters]
    if all(part is None for part in taken):
        raise ProbeError(
            "no shared parameter has a .jac: call jacobian(probe) after TorchJD's backward() or mtl_backward(), and "
            "before jac_to_grad(), which frees them (unless retain_jac=True)"
        )
    return taken
