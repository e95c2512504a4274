"""The trunk that reads listings: what padding, order and sides mean to it."""

from __future__ import annotations

import pytest
import torch

from mtlviz.models.listing_trunk import ListingTrunk
from mtlviz.randomness import seeded


@pytest.fixture(scope="module")
def trunk() -> ListingTrunk:
    with seeded(0):
        return ListingTrunk(buckets=64, width=4, hidden=8, features=5).eval()


def test_features_by_hand(trunk: ListingTrunk) -> None:
    bags = torch.tensor([[[3, 5, 0], [7, 0, 0], [9, 11, 13]]], dtype=torch.int16)
    e = trunk.bag.weight
    a, b, c = e[3] + e[5], e[7], e[9] + e[11] + e[13]
    hidden = torch.relu(trunk.linear1(torch.cat([a + b, (a - b).abs(), c, a * b])))
    torch.testing.assert_close(trunk(bags)[0], torch.relu(trunk.linear2(hidden)))


def test_padding_and_order_count_for_nothing_and_neither_does_which_side_is_first(trunk: ListingTrunk) -> None:
    bags = torch.tensor([[[3, 5, 0, 0], [7, 0, 0, 0], [9, 11, 13, 0]]])
    padded = torch.tensor([[[0, 5, 0, 3], [0, 0, 7, 0], [13, 0, 11, 9]]])
    longer = torch.cat([bags, torch.zeros(1, 3, 6, dtype=bags.dtype)], dim=2)
    for other in (padded, longer, bags[:, [1, 0, 2]]):
        torch.testing.assert_close(trunk(other), trunk(bags))
    assert not torch.allclose(trunk(bags[:, [2, 1, 0]]), trunk(bags))


def test_padding_has_no_embedding_and_gets_no_gradient(trunk: ListingTrunk) -> None:
    assert not trunk.bag.weight[0].any()
    bags = torch.tensor([[[3, 0], [5, 0], [0, 0]]])
    (gradient,) = torch.autograd.grad(trunk(bags).sum(), [trunk.bag.weight])
    assert not gradient[0].any()
    assert gradient[3].any()


def test_while_it_trains_it_leaves_out_a_share_of_the_n_grams() -> None:
    with seeded(0):
        trunk = ListingTrunk(buckets=64, width=4, hidden=8, features=5, dropped=0.25)
        bags = torch.ones(2000, 3, 1, dtype=torch.int16)
        bags[:, 1:] = 0
        empty = (trunk(bags) == trunk(torch.zeros_like(bags))).all(dim=1)
        assert empty.float().mean().item() == pytest.approx(0.25, abs=0.04)
        trunk.eval()
        assert len(trunk(bags).unique(dim=0)) == 1


def test_the_bags_are_one_layer_that_is_small_enough_for_a_jacobian_a_task() -> None:
    trunk = ListingTrunk(buckets=4096)
    assert [name for name, _ in trunk.named_children()] == ["bag", "linear1", "linear2"]
    assert sum(p.numel() for p in trunk.parameters()) < 300_000
