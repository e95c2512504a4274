"""Many runs, one frame: the same problem trained by many methods and seeds, and the table of what came of it."""

from mtlviz.experiments.capacity import capacity
from mtlviz.experiments.comparison import compare
from mtlviz.experiments.convergence_drops import convergence_drops
from mtlviz.experiments.convergence_study import convergence_study
from mtlviz.experiments.convergence_table import ConvergenceTable, convergence_table
from mtlviz.experiments.label_noise import label_noise
from mtlviz.experiments.remedies import remedies
from mtlviz.experiments.surviving import convergence_curves
from mtlviz.experiments.svd_weighting import svd_weighted, svd_weights
from mtlviz.experiments.tables import Table, table
from mtlviz.experiments.transfer import transfer, transfer_runs

__all__ = [
    "ConvergenceTable",
    "Table",
    "capacity",
    "compare",
    "convergence_curves",
    "convergence_drops",
    "convergence_study",
    "convergence_table",
    "label_noise",
    "remedies",
    "svd_weighted",
    "svd_weights",
    "table",
    "transfer",
    "transfer_runs",
]
