"""A trunk that reads one product listing, or compares two, as bags of hashed n-grams."""

from __future__ import annotations

import torch
from torch import nn


class ListingTrunk(nn.Module):
    """Bags of n-gram ids (B, 3, L) -> features (B, features): one embedding for all three bags, then two layers.

    The bags are the n-grams that only the first listing has, those that only the second has, and those of both; a
    single listing is all in the first. Ids are whole numbers 0 to buckets − 1; 0 is padding and counts for nothing.
    With a, b and c the sums of the embeddings in the three bags, the layers see [a + b, |a − b|, c, a · b].

    dropped: the share of the n-grams that is left out at random while training.
    """

    def __init__(
        self, *, buckets: int, width: int = 24, hidden: int = 128, features: int = 64, dropped: float = 0.1
    ) -> None:
        super().__init__()
        self.dropped = dropped
        self.bag = nn.EmbeddingBag(buckets, width, mode="sum", padding_idx=0)
        self.linear1 = nn.Linear(4 * width, hidden)
        self.linear2 = nn.Linear(hidden, features)
        nn.init.normal_(self.bag.weight, std=0.05)  # a bag sums dozens of them
        with torch.no_grad():
            self.bag.weight[0] = 0

    def forward(self, bags: torch.Tensor) -> torch.Tensor:
        """Features (B, features) of bags (B, 3, L)."""
        if self.training and self.dropped:
            bags = bags * (torch.rand(bags.shape, device=bags.device) >= self.dropped)
        count, sides, length = bags.shape
        a, b, c = self.bag(bags.int().reshape(count * sides, length)).reshape(count, sides, -1).unbind(1)
        seen = torch.cat([a + b, (a - b).abs(), c, a * b], dim=1)
        return torch.relu(self.linear2(torch.relu(self.linear1(seen))))
