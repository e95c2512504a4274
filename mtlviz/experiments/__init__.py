"""Many runs, one frame: the same problem trained by many methods and seeds, and the table of what came of it."""

from mtlviz.experiments.comparison import compare
from mtlviz.experiments.convergence_table import ConvergenceTable, convergence_table
from mtlviz.experiments.tables import Table, table

__all__ = ["ConvergenceTable", "Table", "compare", "convergence_table", "table"]
