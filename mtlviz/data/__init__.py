"""Problems to train on, real and made, and the sampler of multi-task batches."""

from mtlviz.data.digits import digits
from mtlviz.data.listings import listings, listings_table
from mtlviz.data.planted import planted
from mtlviz.data.problem import Problem
from mtlviz.data.proportional import Proportional
from mtlviz.data.sampler import BatchSampler
from mtlviz.data.splits import Batch, Split, split_of
from mtlviz.data.task_inputs import task_inputs
from mtlviz.data.three_task import three_task

__all__ = [
    "Batch",
    "BatchSampler",
    "Problem",
    "Proportional",
    "Split",
    "digits",
    "listings",
    "listings_table",
    "planted",
    "split_of",
    "task_inputs",
    "three_task",
]
