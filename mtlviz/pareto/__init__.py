"""Two objectives in the plane: the problems, and the compiled descent of every weighting on them."""

from mtlviz.weighting.notice import compiling

with compiling():
    from mtlviz.pareto.descent import descend
    from mtlviz.pareto.fonseca_fleming import FonsecaFleming
    from mtlviz.pareto.objectives import Landscape, Objectives
    from mtlviz.pareto.probe import Moment, probe
    from mtlviz.pareto.problems import PROBLEMS, problem_of
    from mtlviz.pareto.quadratics import Quadratics
    from mtlviz.pareto.result import VERDICTS, Descent
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
    "probe",
    "problem_of",
]
