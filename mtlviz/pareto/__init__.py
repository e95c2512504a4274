"""Two objectives in the plane: the problems, and the compiled descent of every weighting on them."""

from mtlviz.weighting.notice import compiling

with compiling():
    from mtlviz.pareto.descent import descend
    from mtlviz.pareto.equal_rates import rate_balance, rest_points
    from mtlviz.pareto.equity import equity, reached, robustness
    from mtlviz.pareto.fonseca_fleming import FonsecaFleming
    from mtlviz.pareto.objectives import Landscape, Objectives
    from mtlviz.pareto.probe import Moment, probe
    from mtlviz.pareto.problems import PROBLEMS, problem_of
    from mtlviz.pareto.quadratics import Quadratics
    from mtlviz.pareto.result import VERDICTS, Descent
    from mtlviz.pareto.thinning import thinned
    from mtlviz.pareto.toy import Toy

__all__ = [
    "PROBLEMS",
    "VERDICTS",
    "Descent",
    "FonsecaFleming",
    "Landscape",
    "Moment",
    "Objectives",
    "Quadratics",
    "Toy",
    "descend",
    "equity",
    "probe",
    "problem_of",
    "rate_balance",
    "reached",
    "rest_points",
    "robustness",
    "thinned",
]
