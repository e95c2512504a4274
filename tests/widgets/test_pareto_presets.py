"""What the questions of the Pareto lab claim, held against what comes out."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtlviz import pareto
from mtlviz.pareto import Descent
from mtlviz.widgets.pareto_presets import PRESETS


def answer(name: str, **changes: Any) -> Descent:
    """The descent of a preset, with other settings where these say so."""
    settings = dict(PRESETS[name].settings) | changes
    return pareto.descend(settings.pop("methods"), settings.pop("starts", None), settings.pop("problem"), **settings)


def reached(descent: Descent) -> dict[str, int]:
    return descent.summary.set_index("method").on_the_front.astype(int).to_dict()


def ends(descent: Descent, method: str) -> np.ndarray:
    """x1 of the last points of a method (N,): the Pareto sets of quadratics and Fonseca-Fleming run along it."""
    return descent.last[descent.methods.index(method), :, 0]


def test_preset_conflict() -> None:
    descent = answer("conflict")
    counts = reached(descent)
    # "imtl_g and nash_mtl have long reached the front"; equal weights arrive "from the other starts"
    assert (counts["imtl_g"], counts["nash_mtl"], counts["equal"]) == (5, 5, 4)
    verdicts = descent.verdicts.set_index(["method", "start"]).verdict
    for method in ("equal", "pcgrad", "cagrad"):
        assert verdicts[method, 3] in ("still moving", "stuck")  # "are still on its floor", "are in it too"
        assert 4 < ends(descent, method)[2] < 7  # "in the valley on the right": the x1 of its floor
    diamond = descent.problem.minimisers(descent.problem.scale)
    np.testing.assert_allclose(ends(descent, "equal")[[0, 1, 3, 4]], diamond[0, 0], atol=0.01)  # "all at one place"
    assert descent.problem.distance_to_best(diamond) > 5  # "not the star": over a third of the set away
    assert descent.summary.set_index("method").conflict_rate.idxmax() == "nash_mtl"  # "nash_mtl is highest there"
    reach = descent.tolerance * np.hypot(*np.ptp(descent.problem.front, axis=0))
    away = (descent.problem.distance_to_front(descent.losses) > reach).mean(axis=(1, 2))
    assert descent.methods[away.argmin()] == "nash_mtl"  # "because it arrives first"
    on_the_front = descent.cosine[:, :, -1][descent.verdict == "on the front"]
    assert np.median(on_the_front) < -0.99  # "where the gradients are always opposite"


def test_preset_hundredfold() -> None:
    descent, level = answer("hundredfold"), answer("hundredfold", scale=(1.0, 1.0))
    for method in ("equal", "cagrad"):
        assert (ends(descent, method) > 0.85).all()  # "close to the minimum of the large loss", which is at 1
        assert np.abs(ends(level, method)).max() < 0.05  # "see who moves": at scale 1 to the middle
    assert ends(descent, "mgda").mean() < ends(level, "mgda").mean() - 0.3  # "leans the other way": the set is 2 long
    moved = np.abs(ends(descent, "nash_mtl") - ends(level, "nash_mtl"))
    assert moved[[0, 2, 3, 4]].max() < 0.01 < 0.5 < moved[1]  # "ends where it would at scale 1, but for start 2"
    assert descent.starts[1, 0] == 0  # "exactly between the two bowls"


def test_preset_concave() -> None:
    for scale in (0.01, 0.1, 0.5, 1.0, 2.0, 10.0, 100.0):
        descent = answer("concave", scale=(scale, 1.0))
        assert np.abs(ends(descent, "equal")).min() > 0.6  # "only near its ends", ±0.707; "never between"
        assert reached(descent)["equal"] == 5  # "from all five starts"
    sides = [np.sign(ends(answer("concave", scale=(scale, 1.0)), "equal")) for scale in (0.1, 10.0)]
    assert (sides[0] == -1).all()  # "from a factor of 10 on all stop at one end"
    assert (sides[1] == 1).all()
    for scale in (0.5, 2.0):
        twofold = answer("concave", scale=(scale, 1.0))
        (least,) = twofold.equal_weights
        other = np.sign(ends(twofold, "equal")) != np.sign(least[0])
        assert 0 < other.sum() < 5  # "at a factor of 2 some stay at the other, in a local minimum"
    saddle = answer("concave", starts=[(0.5, -0.5)])
    np.testing.assert_allclose(saddle.last[0, 0], 0, atol=1e-6)  # "on the line x2 = -x1 ... a saddle in the middle"
    level = answer("concave")
    # "mgda stops between from every start, nash_mtl from two"; the ends of equal weights are at ±0.68
    assert [(np.abs(ends(level, method)) < 0.6).sum() for method in ("mgda", "nash_mtl")] == [5, 2]
    for method in ("mgda", "nash_mtl"):
        middle = np.abs(ends(level, method)) < 0.6
        gaps = level.verdicts.query("method == @method").gap.to_numpy()
        assert gaps[middle].min() > 0.01  # "the middle is worse than the ends", whose gap is 0
    assert level.summary.set_index("method").gap["equal"] < 1e-3  # equal weights, at the ends, have the best average


def test_preset_scale_free() -> None:
    large, level, small = (answer("scale_free", scale=(scale, 1.0)) for scale in (100.0, 1.0, 0.01))
    for other in (level, small):
        moved = np.hypot(*np.moveaxis(other.last - large.last, -1, 0)).max(axis=1)
        away = dict(zip(large.methods, moved, strict=True))
        # "end where they did" and "end elsewhere": under 3 % and over a tenth of the set, which is 2 long
        assert max(away[name] for name in ("nash_mtl", "imtl_g", "gls", "famo")) < 0.05
        assert min(away[name] for name in ("equal", "cagrad", "pcgrad", "mgda")) > 0.2


def test_preset_where_mgda_stops() -> None:
    descent = answer("where_mgda_stops")
    assert reached(descent) == {"mgda": 8, "equal": 8}  # "all eight starts reach the front"
    assert np.ptp(ends(descent, "equal")) < 0.01  # "go on to one point"
    assert len(np.unique(ends(descent, "mgda").round(1))) >= 5  # "the start decides"
    rescaled = answer("where_mgda_stops", scale=(0.01, 1.0))
    moved = np.abs(ends(rescaled, "mgda") - ends(descent, "mgda"))
    assert moved.max() > 0.5 > 0.05 > moved.min()  # "some of the places move as well": by a quarter of the set
    directions = -np.einsum("mnt,mnti->mni", descent.weights[:, :, -1], descent.problem.gradients(descent.last))
    assert np.linalg.norm(directions[0], axis=1).max() < 0.05  # "there MGDA's update vanishes": over 1 at the starts


def test_preset_optimizer() -> None:
    sgd, adam, faster = answer("optimizer"), answer("optimizer", optimizer="adam"), answer("optimizer", lr=0.05)
    counts = reached(sgd)
    assert counts.pop("nash_mtl") == 5  # "nash_mtl alone reaches the front from all five starts"
    assert max(counts.values()) < 5
    assert counts["mgda"] == 2  # "arrives from two"
    assert {name for name, count in reached(adam).items() if count < 5} == {"equal"}  # "all arrive, but equal weights"
    verdicts = faster.verdicts.set_index(["method", "start"]).verdict
    # "a learning rate of 0.05 helps mgda too, but not out of the valley of start 3"
    assert [verdicts["mgda", start] == "on the front" for start in range(1, 6)] == [True, True, False, True, True]
