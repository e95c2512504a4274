"""Problems to train on, real and made, and the sampler of multi-task batches."""

from mtlviz.data.digits import digits
from mtlviz.data.problem import Problem
from mtlviz.data.sampler import BatchSampler
from mtlviz.data.splits import Batch, Split, split_of

__all__ = ["Batch", "BatchSampler", "Problem", "Split", "digits", "split_of"]
