"""Prints what one move of a cloud costs in the three-task lab: the four accuracies, the figures, and what is sent.

The goal is 150 ms from the move to the picture in the browser; what the browser takes is printed by
`python -m pytest -s tests/browser/test_three_task_lab_page.py`. Each move is of another picture, so that nothing is
known before. Run as `python -m tests.benchmarks.three_task`; warm, one process at a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mtlviz import figures
from mtlviz.transfer import ThreeTask
from mtlviz.widgets import wire
from mtlviz.widgets.three_task_lab import RANGES, ThreeTaskLab

MOVES = 60


def timed(act: Callable[[ThreeTask], object], pictures: list[ThreeTask]) -> str:
    """Median and p95 of the milliseconds of an act, by the clock, and those of CPU, over pictures that are all new."""
    walls, busy = [], []
    for picture in pictures:
        begin, computed = time.perf_counter(), time.process_time()
        act(picture)
        walls.append(1000 * (time.perf_counter() - begin))
        busy.append(1000 * (time.process_time() - computed))
    return f"median {np.median(walls):6.1f}, p95 {np.quantile(walls, 0.95):6.1f}; of CPU {np.median(busy):6.1f}"


def moved(start: float, samples: tuple[int, int, int] = (8, 24, 24)) -> list[ThreeTask]:
    """Pictures whose third cloud goes down, a hundredth at a time."""
    usual = ThreeTask(samples=samples)
    first, second, third = usual.clouds
    return [
        replace(usual, clouds=(first, second, replace(third, centre=(5.2, start - n / 100)))) for n in range(MOVES + 1)
    ]


def drawn(picture: ThreeTask) -> list[wire.Tree]:
    """The three figures of the lab, as they are compared before they are sent; the fits are known."""
    frame, turns = picture.accuracy(), picture.turns()
    shown = (
        figures.three_task(picture.points(14), picture.boundaries(14), ranges=RANGES),
        figures.three_task_accuracy(frame, limits=(70, 90)),
        figures.three_task_turns(turns, other=picture.offset, limits=(-90, 90)),
    )
    return [wire.tree(figure) for figure in shown]


def main() -> None:
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; ms of one update, {MOVES} moves, 100 samples × 6 fits"
    )
    for samples in ((8, 24, 24), (20, 100, 100), (200, 200, 200)):
        pictures = moved(3.0, samples)
        pictures[0].accuracy()  # the samples are drawn, and the fit is compiled or read from the disk
        print(f"four accuracies, {samples!s:>15} points: {timed(ThreeTask.accuracy, pictures[1:])}")
    pictures = moved(2.0)
    for picture in pictures:
        picture.accuracy()
    known = pictures[-3:]  # of which the fits are remembered
    print(f"three figures, fits known:               {timed(drawn, known)}")
    lab = ThreeTaskLab()
    lab.wait()

    def update(picture: ThreeTask) -> None:
        lab.controls.move(2, picture.clouds[2].centre, 1)
        lab.wait()

    print(f"the lab, from the move to the message:   {timed(update, moved(1.0)[1:])}")
    lab.close()


if __name__ == "__main__":
    main()
