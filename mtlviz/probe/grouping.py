"""What the tasks share, from a module or an iterable of parameters, grouped into layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from mtlviz.errors import ProbeError, unknown

GROUPINGS = ("whole", "blocks", "layers", "tensors")
WHOLE = "whole"
FROZEN = "frozen at the start"

Groups = Mapping[str, list[nn.Parameter]]


def module_of(shared: object) -> nn.Module | None:
    """The module itself, without the wrapper of `torch.compile` or DistributedDataParallel; None if it is none."""
    if not isinstance(shared, nn.Module):
        return None
    inner: Any = shared
    while True:
        if isinstance(getattr(inner, "_orig_mod", None), nn.Module):
            inner = inner._orig_mod
        elif isinstance(inner, nn.parallel.DistributedDataParallel | nn.DataParallel):
            inner = inner.module
        else:
            return inner


def groups(shared: nn.Module | Iterable[nn.Parameter], by: str | None) -> dict[str, list[nn.Parameter]]:
    """The shared parameters by layer; a tied parameter belongs to the first layer that has it.

    by: "layers", the modules that own them; "blocks", the parts that the module is built of (containers are opened);
        "tensors", each by itself; "whole". None is "layers" for a module, and "whole" for an iterable, which has no
        layers; its tensors may still be told apart.

    Layers in which nothing trains now stand together as `FROZEN`, so that what is unfrozen later counts.

    Raises: ProbeError where nothing trains, what came is neither, or the grouping does not exist or does not fit.
    """
    if by is not None and by not in GROUPINGS:
        raise ProbeError(unknown("grouping of layers", by, GROUPINGS))
    module = module_of(shared)
    named = _named(shared) if module is None else list(module.named_parameters())
    if not any(p.requires_grad for _, p in named):
        raise ProbeError(
            f"shared needs parameters that train; of its {len(named)} none does. Give the module (or the parameters) "
            "that the tasks share, before it is frozen"
        )
    by = by or ("whole" if module is None else "layers")
    if module is None and by in ("blocks", "layers"):
        raise ProbeError(f'an iterable of parameters has no {by}; give the module itself, or layers="tensors"')
    if by == "whole":
        return {WHOLE: [p for _, p in named]}
    names = {id(p): name for name, p in named} if module is None or by == "tensors" else _owners(module, by)
    found: dict[str, list[nn.Parameter]] = {}
    for _, parameter in named:
        found.setdefault(names[id(parameter)], []).append(parameter)
    training = {name: own for name, own in found.items() if any(p.requires_grad for p in own)}
    frozen = [p for name, own in found.items() if name not in training for p in own]
    return training | ({FROZEN: frozen} if frozen else {})


def _named(shared: object) -> list[tuple[str, nn.Parameter]]:
    """Names and parameters of an iterable of parameters, or of pairs as `named_parameters()` gives them."""
    if isinstance(shared, torch.Tensor | str | Mapping) or not isinstance(shared, Iterable):
        raise ProbeError(
            f"shared needs a module or an iterable of parameters, as model.backbone or list(parameters); got "
            f"{type(shared).__name__}"
        )
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for place, item in enumerate(shared):
        name, parameter = item if isinstance(item, tuple) and len(item) == 2 else (f"parameter {place}", item)
        if isinstance(parameter, nn.Module):
            raise ProbeError("shared is an iterable of modules; give one module of them: nn.ModuleList([...])")
        if not isinstance(name, str) or not isinstance(parameter, torch.Tensor) or not parameter.is_leaf:
            raise ProbeError(f"shared needs parameters, or (name, parameter) pairs; item {place} is {item!r:.80}")
        found.setdefault(id(parameter), (name, parameter))  # type: ignore[arg-type]
    if not found:
        raise ProbeError("shared is empty (was it a generator that is used up?); give a module or list(parameters)")
    if len({name for name, _ in found.values()}) < len(found):
        raise ProbeError("two shared parameters have the same name; give each a name of its own")
    return list(found.values())


def _owners(module: nn.Module, by: str) -> dict[int, str]:
    """The layer or block of each parameter, by its id."""
    parts = _blocks(module, "") if by == "blocks" else module.named_modules()
    owners: dict[int, str] = {}
    taken: set[str] = set()
    for path, part in parts:
        own = [p for p in part.parameters(recurse=by == "blocks" and part is not module) if id(p) not in owners]
        if own:
            name = path or type(module).__name__
            while name in taken:  # a child may be called what its parent's class is called
                name += " (inner)"
            taken.add(name)
            owners |= {id(p): name for p in own}
    return owners


def _blocks(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """The blocks of a module with their paths, in its order; first the module itself, for parameters of its own."""
    children = [(name, child) for name, child in module.named_children() if any(True for _ in child.parameters())]
    yield path, module
    for name, child in children:
        inner = f"{path}.{name}" if path else name
        alone = len(children) == 1 and not any(True for _ in module.parameters(recurse=False))
        if (type(child) in (nn.Sequential, nn.ModuleList, nn.ModuleDict) or alone) and any(
            any(True for _ in grandchild.parameters()) for grandchild in child.children()
        ):
            yield from _opened(child, inner)
        else:
            yield inner, child


def _opened(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """The blocks below a module that is opened; it stays whole where it has parameters of its own."""
    if any(True for _ in module.parameters(recurse=False)):
        yield path, module
    else:
        yield from (pair for pair in _blocks(module, path) if pair[1] is not module)
