"""The layerwise engine against a plain loop of autograd.grad, over random modules and hard cases."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mtlviz.errors import ProblemError
from mtlviz.gradients import ghost
from mtlviz.gradients.blocks import Ghost, Rows, gramian_of, jacobian_of
from mtlviz.gradients.layers import Layer, layers_of, spans_of
from mtlviz.gradients.layerwise import Layerwise

WIDTH = 12


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


class Attending(nn.Module):
    """Attention, whose output projection is used without being called."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.reshape(len(x), 3, 4)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].flatten(1)


class Tokens(nn.Module):
    """Words looked up, and a Linear over (B, 3, ·) that is its own output too."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.each = nn.Embedding(7, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        words = self.words((10 * x[:, :3]).long().abs() % 7)
        return x + self.each(words).flatten(1)


class Tied(nn.Module):
    """One weight in two modules, and used once more besides."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.two.weight = self.one.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(self.three(self.two(torch.tanh(self.one(x)))), self.three.weight)


def _convolving(strided: bool) -> nn.Module:
    first = nn.Conv1d(1, 4, 3, padding=1, bias=not strided) if strided else nn.Conv1d(1, 4, 3, padding="valid")
    second = nn.Conv1d(4, 6, 4, stride=3, dilation=2)
    return nn.Sequential(
        nn.Unflatten(1, (1, WIDTH)), first, nn.ReLU(inplace=True), second, nn.Flatten(), nn.LazyLinear(WIDTH)
    )


def _planes() -> nn.Module:
    first, second = nn.Conv2d(1, 6, (2, 3), padding=1), nn.Conv2d(6, 4, 2, stride=2)
    return nn.Sequential(
        nn.Unflatten(1, (1, 3, 4)), first, nn.ELU(inplace=True), second, nn.Flatten(), nn.LazyLinear(WIDTH)
    )


PARTS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(WIDTH, WIDTH),
    "no bias": lambda: nn.Linear(WIDTH, WIDTH, bias=False),
    "in place": lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(inplace=True)),
    "activation": nn.Tanh,
    "norm": lambda: nn.LayerNorm(WIDTH),
    "batch norm": lambda: nn.BatchNorm1d(WIDTH),
    "residual": lambda: Residual(nn.Sequential(nn.Linear(WIDTH, 5), nn.GELU(), nn.Linear(5, WIDTH))),
    "conv": lambda: _convolving(strided=False),
    "conv strided": lambda: _convolving(strided=True),
    "planes": _planes,
    "attention": Attending,
    "tokens": Tokens,
    "tied": Tied,
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH)),
    "frozen": lambda: nn.Linear(WIDTH, WIDTH).requires_grad_(False),
}


class Trunk(nn.Module):
    """Parts in a row, of which one may be passed again; returns what each part gave."""

    def __init__(self, names: list[str], repeated: int | None) -> None:
        super().__init__()
        self.parts = nn.ModuleList(PARTS[name]() for name in names)
        self.order = [*range(len(names)), *([] if repeated is None else [repeated % len(names)])]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        given = []
        for number in self.order:
            x = self.parts[number](x)
            given.append(x.clone())
        return given


@st.composite
def trunks(draw: st.DrawFn) -> tuple[Trunk, torch.Tensor, list[int]]:
    """A trunk that learns, inputs (B, 12), and of which part's output each of some tasks is a function."""
    names = ["linear", *draw(st.lists(st.sampled_from(list(PARTS)), min_size=1, max_size=4))]
    torch.manual_seed(draw(st.integers(0, 10**6)))
    trunk = Trunk(names, draw(st.none() | st.integers(0, 4)))
    x = torch.randn(draw(st.sampled_from([2, 5, 20])), WIDTH)
    trunk(x)
    tasks = draw(st.lists(st.integers(0, len(trunk.order) - 1), min_size=1, max_size=4))
    return trunk.to(torch.float64), x.double(), tasks


def losses_of(given: list[torch.Tensor], tasks: list[int]) -> list[torch.Tensor]:
    """A different scalar for each task."""
    return [
        (given[part] * torch.linspace(-1, 1 + t, WIDTH).to(given[part])).tanh().square().mean()
        for t, part in enumerate(tasks)
    ]


def plain(losses: list[torch.Tensor], layers: tuple[Layer, ...]) -> torch.Tensor:
    """J (T, P) by a plain loop."""
    parameters = [p for layer in layers for p in layer.parameters]
    rows = []
    for loss in losses:
        grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        rows.append(
            torch.cat(
                [
                    torch.zeros_like(p).flatten() if g is None else g.flatten()
                    for p, g in zip(parameters, grads, strict=True)
                ]
            )
        )
    return torch.stack(rows)


def force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtlviz.gradients.ghost.costs", lambda *_, **__: (0.0, 1.0))


@settings(max_examples=60, deadline=None)
@given(trunks(), st.booleans(), st.booleans())
def test_blocks_are_those_of_a_plain_loop(
    situation: tuple[Trunk, torch.Tensor, list[int]], by_factors: bool, single: bool
) -> None:
    trunk, x, tasks = situation
    if single:
        trunk, x = trunk.float(), x.float()
    engine = Layerwise(trunk)
    with pytest.MonkeyPatch.context() as patch:
        if by_factors:
            force(patch)
        with engine.tape.running():
            losses = losses_of(trunk(x), tasks)
        J = plain(losses, engine.parts)
        found = engine.measured([(loss, None) for loss in losses], retain=True)
    rtol, atol = (2e-4, 1e-5) if single else (1e-10, 1e-13)
    torch.testing.assert_close(jacobian_of(found.blocks), J, rtol=rtol, atol=atol)
    weights = torch.linspace(-1, 2, len(tasks), dtype=torch.float64)
    for span, block, gramian in zip(
        spans_of(engine.parts).values(), found.blocks, [b.gramian() for b in found.blocks], strict=True
    ):
        part = J[:, span].double()
        scale = float(part.square().sum()) + 1e-12
        torch.testing.assert_close(gramian / scale, part @ part.T / scale, rtol=rtol, atol=atol)
        out = torch.empty_like(J[0, span])
        for exact in (True, False):
            block.weighted(weights, out=out, exact=exact)
            torch.testing.assert_close(out.double(), weights @ part, rtol=rtol, atol=10 * atol)
    assert found.used == tuple(any(column) for column in zip(*reached(losses, engine), strict=True))


def reached(losses: list[torch.Tensor], engine: Layerwise) -> list[list[bool]]:
    """Which parameters each loss depends on."""
    every = [torch.autograd.grad(loss, engine.parameters, retain_graph=True, allow_unused=True) for loss in losses]
    return [[grad is not None for grad in grads] for grads in every]


def two_losses(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    z = module(x)
    return [(z * torch.linspace(-1, t, z[0].numel(), dtype=z.dtype).view(z.shape[1:])).square().mean() for t in (1, 3)]


def checked(module: nn.Module, x: torch.Tensor) -> Layerwise:
    """Gramians by the engine and by the plain loop on one graph."""
    engine = Layerwise(module)
    engine.watch()
    losses = two_losses(module, x)
    J = plain(losses, engine.parts)
    found = engine.gramians(losses)
    for span, gramian in zip(spans_of(engine.parts).values(), found, strict=True):
        torch.testing.assert_close(gramian, J[:, span].double() @ J[:, span].double().T, rtol=1e-5, atol=1e-9)
    return engine


def ways(module: nn.Module, x: torch.Tensor) -> dict[str, str]:
    return checked(module, x).ways


@pytest.mark.parametrize(
    ("name", "way"), [("linear", "ghost"), ("no bias", "ghost"), ("conv", "ghost"), ("tied", "rows")]
)
def test_the_form_is_the_one_that_was_forced(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    module, x = PARTS[name](), torch.randn(6, WIDTH)
    module(x)
    assert set(ways(module, x).values()) == {way}


def test_attention_by_rows_where_its_projection_is_never_called(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    module = nn.Sequential(Attending(), nn.Linear(WIDTH, 3))
    assert ways(module, torch.randn(6, WIDTH)) == {"0.attention": "rows", "0.attention.out_proj": "rows", "1": "ghost"}


def test_the_rule_takes_factors_for_wide_layers_and_rows_for_narrow_ones() -> None:
    engine = checked(nn.Sequential(nn.Linear(200, 300), nn.Linear(300, 100), nn.Linear(100, 4)), torch.randn(16, 200))
    assert engine.ways == {"0": "ghost", "1": "ghost", "2": "rows"}
    assert engine.name == "layerwise (2 ghost, 1 rows)"


def test_the_cost_by_hand() -> None:
    layer = layers_of(nn.Linear(5, 3))[0]
    by_factors, by_rows = ghost.costs(layer, 4, 2, weighted=False)
    assert by_factors == 3 * (16 * 5 + 2 * 16 * 3) + 6 * 4 * 4 * 3  # XXᵀ, times D, products
    assert by_rows == 2 * 4 * 15 + 6 * 4 * 15
    assert ghost.costs(layer, 4, 2, weighted=True) == (by_factors + 4 * 15, by_rows + 2 * 15)


def test_factors_are_more_accurate_than_rows_in_float32() -> None:
    torch.manual_seed(0)
    X, D = torch.randn(16, 500), torch.randn(3, 16, 400)
    exact = Ghost(X.double(), D.double()).gramian()
    assert float((Ghost(X, D).gramian() - exact).abs().max() / exact.abs().max()) < 1e-14
    assert float((Rows(Ghost(X, D).rows()).gramian() - exact).abs().max() / exact.abs().max()) > 1e-10


def test_a_gramian_in_pieces() -> None:
    rows = torch.randn(3, 40_000)
    torch.testing.assert_close(gramian_of(rows), rows.double() @ rows.double().T, rtol=1e-12, atol=1e-10)


def test_missing_losses_are_nan_and_detached_ones_zero() -> None:
    module = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 2))
    engine = Layerwise(module)
    engine.watch()
    loss = module(torch.randn(4, 20)).square().mean()
    found = engine.gramians([loss, None, torch.tensor(3.0)])
    assert found.shape == (2, 3, 3)
    assert found.dtype == torch.float64
    assert torch.isnan(found[:, 1, :]).all()
    assert torch.isnan(found[:, :, 1]).all()
    assert (found[:, 0, 0] > 0).all()
    assert not found[:, 2, [0, 2]].any()


def test_a_loss_that_is_no_scalar_is_refused() -> None:
    module = nn.Linear(3, 2)
    with pytest.raises(ProblemError, match=r"must be a scalar, got one of shape \(5, 2\)"):
        Layerwise(module).gramians([module(torch.randn(5, 3))])


def test_a_graph_that_is_gone_is_told() -> None:
    module = nn.Sequential(nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 1))
    engine = Layerwise(module)
    engine.watch()
    loss = module(torch.randn(5, 30)).square().mean()
    loss.backward()
    with pytest.raises(ProblemError, match="before your own backward"):
        engine.gramians([loss])


def test_an_input_that_was_written_over_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    module, x = nn.Linear(8, 3), torch.randn(4, 8)
    engine = Layerwise(module)
    engine.watch()
    loss = module(x).square().mean()
    x.add_(1)
    with pytest.raises(ProblemError, match=r"input \(4, 8\) of a Linear was changed in place"):
        engine.gramians([loss])


def test_nothing_is_left_alive_nor_on_the_module() -> None:
    module = nn.Sequential(nn.Linear(50, 60), nn.ReLU(inplace=True), nn.Linear(60, 4))
    engine = Layerwise(module)
    engine.watch()
    inputs = torch.randn(8, 50)
    between = module[1](module[0](inputs))
    losses = [between.square().mean(), module[2](between).sum()]
    engine.gramians(losses)
    alive = [weakref.ref(tensor) for tensor in (inputs, between, *losses)]
    del inputs, between, losses
    gc.collect()
    assert not any(ref() is not None for ref in alive)
    kept = module(torch.randn(8, 50))
    assert len(engine.tape) == 2
    inputs = torch.randn(8, 50)
    alive, others = weakref.ref(inputs), module(inputs)
    del inputs
    assert alive() is not None
    engine.rest()
    assert len(engine.tape) == 0
    assert others.grad_fn is not None
    assert kept.grad_fn is not None
    assert not any(part._forward_hooks for part in module.modules())


def test_passes_with_a_graph_that_nobody_keeps_leave_nothing_while_it_watches() -> None:
    module = nn.Sequential(nn.Linear(50, 60), nn.Tanh(), nn.Linear(60, 4))
    engine = Layerwise(module)
    engine.watch()
    saved: list[weakref.ref[Any]] = []

    def pack(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
        box = partial(torch.Tensor.detach, tensor.detach())  # the output itself would be a cycle
        saved.append(weakref.ref(box))
        return box

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box()):
        for _ in range(20):  # an evaluation without no_grad()
            module(torch.randn(8, 50)).sum().item()
    gc.collect()
    assert len(saved) >= 60
    assert not any(ref() is not None for ref in saved)
    assert len(engine.tape) == 0
    x = torch.randn(8, 50)
    found = engine.gramians(two_losses(module, x))
    J = plain(two_losses(module, x), engine.parts).double()
    torch.testing.assert_close(found.sum(0), J @ J.T, rtol=1e-5, atol=1e-9)
    assert engine.ways["0"] == "ghost"


def test_grad_and_the_graph_are_left_to_the_caller() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(50, 60), nn.BatchNorm1d(60), nn.Dropout(0.5), nn.Linear(60, 4))
    twin, x = copy.deepcopy(module), torch.randn(8, 50)
    engine = Layerwise(module)
    engine.watch()
    after = []
    for net, probed in ((module, True), (twin, False)):
        torch.manual_seed(1)
        losses = two_losses(net, x)
        if probed:
            engine.gramians(losses)
            assert all(p.grad is None for p in net.parameters())
        sum(losses).backward()
        after.append([*(p.grad for p in net.parameters()), *net.buffers(), torch.rand(1)])
    assert all(torch.equal(a, b) for a, b in zip(*after, strict=True))


def test_forward_passes_without_a_graph_and_copies_leave_no_call() -> None:
    module = nn.Linear(50, 60)
    engine = Layerwise(module)
    engine.watch()
    with torch.no_grad():
        module(torch.randn(2, 50))
    copied, pickled = copy.deepcopy(module), pickle.loads(pickle.dumps(module))
    copied(torch.randn(2, 50))
    pickled(torch.randn(2, 50))
    assert len(engine.tape) == 0


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool, preserve: bool = True) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(50, 60), nn.BatchNorm1d(60), nn.ReLU(inplace=True), nn.Dropout(0.3))
        self.outer, self.reentrant, self.preserve = nn.Linear(60, 4), reentrant, preserve

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = checkpoint(self.inner, x, use_reentrant=self.reentrant, preserve_rng_state=self.preserve)
        return self.outer(inner)


@pytest.mark.parametrize("preserve", [True, False])
def test_checkpointed_modules(preserve: bool) -> None:
    module, x = Checkpointed(reentrant=False, preserve=preserve), torch.randn(8, 50)
    if preserve:
        assert "ghost" in ways(copy.deepcopy(module), x).values()
    engine = Layerwise(module)
    engine.watch()
    losses = two_losses(module, x)
    before = [b.clone() for b in module.buffers()]
    torch.manual_seed(3)
    engine.gramians(losses)
    drawn = torch.rand(1)
    assert all(torch.equal(a, b) for a, b in zip(before, module.buffers(), strict=True))
    assert torch.equal(drawn, torch.rand(1, generator=torch.Generator().manual_seed(3)))
    if preserve:
        sum(losses).backward()
        assert len(engine.tape) == 0


def test_reentrant_checkpointing_is_refused() -> None:
    module = Checkpointed(reentrant=True)
    loss = module(torch.randn(8, 50, requires_grad=True)).square().mean()
    with pytest.raises(ProblemError, match="use_reentrant=False"):
        Layerwise(module).gramians([loss])


def test_hooks_that_alter_a_gradient_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    module = nn.Sequential(nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    module[0].weight.register_hook(lambda grad: 2 * grad)
    module[2].register_forward_hook(lambda part, args, output: 3 * output)
    module[4].register_full_backward_hook(lambda part, into, out: tuple(5 * g for g in into))
    assert ways(module, torch.randn(4, 9)) == {"0": "rows", "2": "ghost", "4": "ghost"}


@pytest.mark.parametrize("repeats", [1, 2])
def test_under_autocast_where_a_cast_weight_serves_several_calls(repeats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    module = nn.Linear(40, 40)
    engine = Layerwise(module)
    engine.watch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = torch.randn(8, 40)
        for _ in range(repeats):
            x = torch.tanh(module(x))
        losses = [x.float().square().mean(), x[:, :3].float().mean()]
        J = plain(losses, engine.parts).double()
        found = engine.gramians(losses)
    assert set(engine.ways.values()) == {"ghost"}
    torch.testing.assert_close(found[0], J @ J.T, rtol=3e-2, atol=1e-6)


def test_a_weight_used_besides_its_calls_goes_by_rows_under_autocast_too(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    module = nn.Linear(40, 40)
    engine = Layerwise(module)
    engine.watch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = F.linear(module(torch.randn(8, 40)), module.weight)
        engine.gramians([x.float().square().mean()])
    assert set(engine.ways.values()) == {"rows"}


@pytest.mark.parametrize("whole", [True, False])
def test_compiled_modules_go_by_rows(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    module = nn.Sequential(nn.Linear(9, 8), nn.Sequential(nn.Tanh(), nn.Linear(8, 3)))
    if whole:  # compiled after the engine was given its part
        engine, run = Layerwise(module), torch.compile(module, backend="aot_eager")
        engine.watch()
    else:
        module[1] = torch.compile(module[1], backend="aot_eager")
        engine, run = Layerwise(module), module
        engine.watch()
    with torch._functorch.config.patch(donated_buffer=False):
        losses = two_losses(run, torch.randn(4, 9))
        J = plain(losses, engine.parts).double()
        torch.testing.assert_close(engine.gramians(losses).sum(0), J @ J.T, rtol=1e-5, atol=1e-9)
    assert list(engine.ways.values()) == ["rows" if whole else "ghost", "rows"]


class _Donated(torch.autograd.Function):
    """Refuses as a function that inductor compiled does."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(
            "This backward function was compiled with non-empty donated buffers which requires create_graph=False"
        )


def test_a_compiled_module_that_frees_its_graph_is_told() -> None:
    module = nn.Linear(9, 8)
    losses = two_losses(module, torch.randn(4, 9))
    with pytest.raises(ProblemError, match="donated_buffer = False"):
        Layerwise(module).gramians([_Donated.apply(loss) for loss in losses])


@pytest.mark.parametrize("at_once", [1, 20_000])
def test_layers_in_blocks_where_they_would_be_too_many_numbers(at_once: int) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(*(nn.Sequential(nn.Linear(40, 40), nn.Tanh()) for _ in range(5)), nn.Embedding(3, 40))
    whole, blocks = Layerwise(module), Layerwise(module, at_once=at_once)
    found = []
    for engine in (whole, blocks):
        with engine.tape.running():
            losses = two_losses(module[:5], torch.ones(30, 40))
        found.append(engine.gramians(losses))
    torch.testing.assert_close(*found, rtol=1e-12, atol=0)


def test_features_cut_the_graph() -> None:
    module, head = nn.Sequential(nn.Linear(9, 8), nn.Tanh()), nn.Linear(8, 1)
    engine = Layerwise(module)
    engine.watch()
    z = module(torch.randn(4, 9))
    losses = [head(z).square().mean() + module[0].weight.square().sum(), z.sum(), None, torch.tensor(1.0)]
    found = engine.gramians(losses, features=z)
    engine.watch()
    rows = plain([head(z).square().mean(), z.sum()], engine.parts).double()
    torch.testing.assert_close(found[0, :2, :2], rows @ rows.T, rtol=1e-5, atol=1e-9)
    assert torch.isnan(found[0, 2]).all()
    assert not found[0, 3, [0, 1, 3]].any()


def test_what_is_frozen_may_train_later() -> None:
    module = nn.Sequential(nn.Linear(9, 8).requires_grad_(False), nn.Tanh(), nn.Linear(8, 2))
    engine = Layerwise(module, frozen=True)
    assert engine.layers == ("0", "2")
    engine.watch()
    for trains in (False, True):
        module[0].weight.requires_grad_(trains)
        found = engine.gramians(two_losses(module, torch.randn(4, 9)))
        assert found[0].any() == trains
        assert found[1].any()


def test_rows_of_sparse_gradients_and_of_two_dtypes() -> None:
    words, linear = nn.Embedding(5, 4, sparse=True), nn.Linear(4, 2).double()
    module = nn.ModuleList([words, linear])
    engine = Layerwise(module)
    losses = [linear(words(torch.tensor([0, 1, 1])).double()).square().sum(), words.weight[0].sum()]
    dense = torch.autograd.grad(losses[0], words.weight, retain_graph=True)[0].to_dense().double()
    found = engine.gramians(losses)
    torch.testing.assert_close(found[0, 0, 0], dense.square().sum())
    torch.testing.assert_close(found[0, 0, 1], dense[0].sum())
