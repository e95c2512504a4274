"""Every method on the same problem: many runs, on all cores, that a kill cannot undo, and one frame."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from mtlviz.data.problem import Problem
from mtlviz.experiments.campaign import Campaign
from mtlviz.experiments.checkpoints import Select
from mtlviz.experiments.plan import STL, Methods, Options, Wanted, labelled, numbered
from mtlviz.experiments.recipe import MakeProblem, Recipe
from mtlviz.training.parts import MakeOptimizer, MakeScheduler

COLUMNS = [
    *("method", "seed", "task", "metric", "direction", "select", "step", "value", "test"),
    *("status", "error", "folder"),
]


def compare(
    problem: Problem | MakeProblem,
    methods: Methods,
    seeds: int | Iterable[int] = 3,
    *,
    steps: int = 2000,
    select: Select = "final",
    scale: Mapping[str, float] | None = None,
    folder: str | os.PathLike[str] | None = None,
    jobs: int = -1,
    progress: bool = True,
    optimizer: MakeOptimizer | None = None,
    scheduler: MakeScheduler | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    validate_every: int = 100,
    layers_every: int = 0,
    fresh: bool = False,
) -> pd.DataFrame:
    """Trains the problem with every method and seed, and returns what each task reached.

    A run that is finished in `folder` is not run again, so a comparison that was killed, or gets more methods or seeds,
    goes on where it was: call it again. Half a run is run anew, and so is one that failed. Runs of other settings, of
    another problem or of another mtlviz have folders of their own beside it. Other are they too where the code of a
    loss, a metric, a trunk or a method of your own changed, with the functions and constants of your modules that it
    uses. A Dataset counts by its class, its length and its first, middle and last sample. A model of your own is
    the same one only with `torch.manual_seed` before it is made. What cannot be read, such as
    a random crop, is named in a warning: where that changes, say `fresh`.

    **Many machines.** Within `joblib.parallel_config(backend="dask")`, and with a `dask.distributed.Client`, the
    workers of that cluster train. `folder` must be one that all machines see under the same path. Start workers with
    one thread each: a worker does one run at a time, with one thread, so that a run gives the same numbers wherever it
    is trained. Data travel with each run; a function that makes the problem sends none. The run of a worker that dies
    is done by another one.

    Args:
        problem: a Problem, or a function that makes one from a seed, called as `problem(seed=s)`, such as
            `mv.data.digits`. **What a seed varies**: with a Problem the batches, the dropout and the method's own
            random numbers; all runs start from the same initial parameters. With a function also whatever it makes of
            the seed: for `mv.data.digits` the split, the pictures, which labels are missing and the initial
            parameters. All methods share the problem of a seed.
        methods: names, weightings or functions, as `mv.train` takes them; {label: method} to name them yourself, as in
            a grid of one class; "all" for every name of `mv.weighting.METHODS`. "stl" trains each task alone: the same
            trunk, head, number of updates and, where the tasks share their data, the same batches. It is the papers'
            baseline.
        seeds: how many (0, 1, ...), or which.
        steps: updates of a run.
        select: which validation counts, "final", "best_mean" or "best_per_task" (optimistic); see
            `mtlviz.experiments.checkpoints.checkpoint`. The logs have all of them: another choice trains nothing anew.
        scale: {task: factor}: what some losses are multiplied by in training. Metrics do not feel it.
        folder: where the runs are kept, a run log each. None keeps none, and a killed comparison is lost.
        jobs: processes at once, -1 for one a core, 1 to train in this process. With several, each uses one thread and
            has a copy of the problem, on the GPU too where `device` names one. A `joblib.parallel_config(backend=...)`
            around the call is respected; a Dask cluster uses all its workers for any `jobs` but 1.
        progress: a bar of finished runs, and a line about each that failed.
        optimizer, scheduler, batch_size, device, validate_every, layers_every: of each run, as for `mv.train`.
        fresh: train every run anew, also the finished ones.

    Returns:
        A row per method, seed and task: method, seed, task, metric, direction, select, step (of the chosen validation),
        value (on the validation split), test (on the test split at the end of the run; NaN unless `select` is "final"),
        status ("finished" or "failed"), error ("" unless it failed) and folder. A run that failed loses none of the
        others; its value is NaN. `mv.analysis.delta_m`, `mv.analysis.mean_rank` and `mv.experiments.table` take it.

    Raises:
        WeightingError: for what is no method, or two of one label. ProblemError: for what is no problem, has no
        validation data, does not fit `scale`, or cannot be sent to another process. ValueError: for numbers out of
        range. RunLogError: for a folder that cannot be written. MtlvizError: for a process that was killed, or a worker
        of a cluster that does not see the folder, or has another mtlviz. A run that another comparison is writing is
        waited for.
    """
    recipe = Recipe(problem, "compare", {} if scale is None else scale)
    options = Options(steps, optimizer, scheduler, batch_size, device, validate_every, layers_every)
    campaign = Campaign(recipe, options, "the comparison", select, jobs, progress=progress, fresh=fresh)
    labels, numbers = labelled(methods), numbered(seeds)

    def wanted(names: Sequence[str]) -> list[Wanted]:
        some = {label: [(name,) for name in names] if it == STL else [()] for label, it in labels.items()}
        return [Wanted(label, labels[label], tasks) for label, groups in some.items() for tasks in groups]

    frame = campaign.frame(wanted, numbers, folder)
    places = [
        pd.Index(known).get_indexer(pd.Index(frame[key]))
        for key, known in (("method", list(labels)), ("seed", numbers))
    ]
    return frame.iloc[np.lexsort(places[::-1])].reset_index(drop=True)[COLUMNS]
