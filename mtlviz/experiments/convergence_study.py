"""Asynchronous convergence against its baselines: all the runs of a study, that a kill cannot undo, and one frame."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from mtlviz.data.problem import Problem
from mtlviz.experiments.campaign import place_of, warn_unseen
from mtlviz.experiments.fingerprint import Fingerprint
from mtlviz.experiments.plan import Options, numbered
from mtlviz.experiments.recipe import MakeProblem, Recipe, said
from mtlviz.experiments.study_frame import study_frame
from mtlviz.experiments.study_plan import (
    ASYNCHRONOUS,
    BAM,
    BAM_ANNEALED,
    BEST,
    EASY,
    GRADNORM,
    JOINT,
    STL,
    UNIFORM,
    Study,
    StudyRun,
    checked_study,
    chosen,
)  # fmt: skip
from mtlviz.experiments.study_runs import complete, studied
from mtlviz.experiments.workers import Call, Process, checked_jobs, done
from mtlviz.runlog import RunLog
from mtlviz.runlog import folder as run_folder
from mtlviz.training.course import VALIDATE_EVERY
from mtlviz.training.parts import MakeOptimizer, MakeScheduler
from mtlviz.training.schedules import Joint

ALPHAS = (0.5, 1.0, 2.0)


def convergence_study(
    problem: Problem | MakeProblem,
    *,
    methods: str | Iterable[str] = "all",
    seeds: int | Iterable[int] = 3,
    schedule: Joint | None = None,
    steps: int | None = None,
    on: str = "test",
    alphas: Sequence[float] = ALPHAS,
    folder: str | os.PathLike[str] | None = None,
    jobs: int = -1,
    progress: bool = True,
    optimizer: MakeOptimizer | None = None,
    scheduler: MakeScheduler | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    layers_every: int = 0,
    fresh: bool = False,
) -> pd.DataFrame:
    """Trains a problem as Lu et al. do, jointly and in sequence, and with their baselines; what each task reached.

    First, for each seed, the runs that wait for no other: "joint", "sequential (small)", "sequential (large)" and
    "continual" (the order "small", true labels always). Then what needs the joint run of its seed: "sequential (easy)",
    in the order in which its tasks converged (those that did not come last), and the baselines, which train for as many
    updates as it took, discarded ones included: "uniform (final)" (equal weights), "muppet" (base 10, as the weights in
    the paper's Table 6 are), "dwa" (temperature 2), "gradnorm" (with each of `alphas`; the one that is best on
    validation counts for all seeds) and "stl", each task alone. Last "bam", born again from the best checkpoint that
    the uniform run of its seed has of each task, and "bam (annealed)". "uniform (best)" is no run: each task as the
    uniform run's best checkpoint for it has it. The joint run is trained whatever is chosen.

    A run that is finished in `folder` is not run again, and half a run goes on from its last checkpoint: call a study
    that was killed again, or with more methods or seeds. Runs of other settings, of another problem or of another
    mtlviz have folders of their own beside it, as for `mv.experiments.compare`.

    Args:
        problem: a Problem, or a function that makes one from a seed, called as `problem(seed=s)`; see
            `mv.experiments.compare`, which says what a seed varies.
        methods: which of the above, in any order; "all".
        seeds: how many (0, 1, ...), or which.
        schedule: a `mv.training.Joint` whose patience, validate_every, min_delta, converged_share and rewarm all runs
            in which tasks converge take; Joint() unless given.
        steps: updates at which those end at the latest; 100 validations a task unless given.
        on: the split that `value` is of, "test", as in the paper, or "validation". Nothing is trained anew for another.
        alphas: what GradNorm's α is chosen from.
        folder: where the runs are kept, a run log with checkpoints each. None keeps none.
        jobs, progress, fresh: as for `compare`.
        optimizer, scheduler, batch_size, device, layers_every: of each run, as for `mv.train`.

    Returns:
        A row per method, seed and task: method, seed, task, metric, direction, on, value, test and test_best (on the
        test split: at the end of the run, and at the task's best checkpoint, the one that it converged at where it
        did), best, best_step and final (on the split that it is monitored on), drop (what it lost from best to final;
        above 0 is worse), noise (the standard deviation of one validation about its curve), converged_at (the step;
        missing where it did not), distilled (share of the surviving updates), unconverged (the step cap came first),
        train_steps (updates, discarded ones and those of a teacher included), surviving_steps, seconds, monitored_on,
        setting (what was chosen, and how), is_run (False for "uniform (best)"), status ("finished" or "failed"), error
        and folder. A run that failed loses none of the others. `mv.experiments.convergence_table`, `convergence_drops`
        and `convergence_curves` take it.

    Raises:
        ValueError: unknown methods, or numbers out of range. ProblemError: what is no problem, has no validation or
        test data, has tasks that cannot learn from soft labels, or cannot be sent to another process. RunLogError: a
        folder that cannot be written. MtlvizError: a process was killed.

    Source: Lu et al., NAACL 2022 industry track, sections 3 to 5 and appendix A. Differs: the paper has one seed, no
    single tasks and no annealing.
    """
    recipe = Recipe(problem, needs="convergence_study")
    if schedule is not None and type(schedule) is not Joint:
        raise ValueError(f"schedule must be a mv.training.Joint, whose settings all take, got {schedule!r}")
    names, numbers, jobs = chosen(methods), numbered(seeds), checked_jobs(jobs)
    schedule = Joint() if schedule is None else schedule
    every = schedule.validate_every or VALIDATE_EVERY
    options = Options(steps, optimizer, scheduler, batch_size, device, every, layers_every)
    reader = Fingerprint()
    with place_of(folder) as place:
        study = Study(recipe, options, schedule, Path(place), reader)
        checked_study(study, numbers, on)
        run_folder.make(Path(place))
        with tqdm(unit="run", disable=not progress) as bar:
            work = _Work(study, names, numbers, [float(alpha) for alpha in alphas], jobs, bar, fresh)
            work.all()
        if reader.unseen and folder is not None:
            warn_unseen("convergence_study", reader.unseen)
        return study_frame(study, names, numbers, work.runs, work.errors, on, keeps=folder is not None)


class _Work:
    """The runs of a study, wave by wave; `runs` and `errors` are what came of each (method, seed)."""

    def __init__(
        self,
        study: Study,
        names: list[str],
        seeds: list[int],
        alphas: list[float],
        jobs: int,
        bar: tqdm,
        fresh: bool,
    ) -> None:
        self.study, self.names, self.seeds, self.alphas = study, names, seeds, alphas
        self.jobs, self.bar, self.fresh = jobs, bar, fresh
        self.runs: dict[tuple[str, int], list[StudyRun]] = {}
        self.errors: dict[Path | tuple[str, int], str] = {}
        bar.total = len(seeds) * sum(self._count(name) for name in self._trained())

    def _trained(self) -> list[str]:
        """What is trained, also where it is only needed by another."""
        needed = {JOINT} | ({UNIFORM} if {BEST, BAM, BAM_ANNEALED} & set(self.names) else set())
        return [*dict.fromkeys([*sorted(needed), *(name for name in self.names if name != BEST)])]

    def _count(self, name: str) -> int:
        tasks = len(self.study.problem(self.seeds[0]).tasks)
        return tasks if name == STL else len(self.alphas) if name == GRADNORM else 1

    def all(self) -> None:
        """Trains everything."""
        trained = self._trained()
        first = [name for name in trained if name in ASYNCHRONOUS]
        first.sort(key=lambda name: name == JOINT)  # sequences take longest, and the cores should end together
        last = [name for name in trained if name in (BAM, BAM_ANNEALED)]
        self._wave([(name, seed) for seed in self.seeds for name in first])
        self._wave(
            [(n, seed) for seed in self.seeds for n in sorted(trained, key=EASY.__ne__) if n not in first + last]
        )
        self._wave([(name, seed) for seed in self.seeds for name in last])

    def _wave(self, wave: list[tuple[str, int]]) -> None:
        """Trains what is not finished yet, as many runs at once as there are processes."""
        for name, seed in wave:
            try:
                self.runs[name, seed] = self._planned(name, seed)
            except (ValueError, _NotReadyError) as error:
                self.runs[name, seed] = []
                self.errors[name, seed] = said(error) if isinstance(error, ValueError) else str(error)
                self.bar.update(self._count(name))
                self.bar.write(f"{name}, seed {seed} failed: {self.errors[name, seed]}")
        runs = [run for pair in wave for run in self.runs[pair]]
        waiting = [run for run in runs if self.fresh or not complete(run)]
        self.bar.update(len(runs) - len(waiting))
        shared = (self.study.recipe, self.study.options, Process.this(), self.fresh)
        calls = [Call(str(run), run.folder, studied, (run, *shared)) for run in waiting]
        errors = done(calls, jobs=self.jobs, bar=self.bar, needs="convergence_study", work="the study")
        self.errors |= {folder: error for folder, error in errors.items() if error is not None}

    def _planned(self, name: str, seed: int) -> list[StudyRun]:
        if name in ASYNCHRONOUS:
            return [self.study.asynchronous(name, seed)]
        joint = self._log(JOINT, seed)
        if name == EASY:
            return [self.study.asynchronous(name, seed, joint)]
        steps = int(joint.last_step or 0)
        if name in (BAM, BAM_ANNEALED):
            self._log(UNIFORM, seed)
            return [self.study.born_again(name, seed, steps, self.runs[UNIFORM, seed][0])]
        return self.study.baselines(name, seed, steps, self.alphas)

    def _log(self, name: str, seed: int) -> RunLog:
        """The log of a run that others need. Raises: _NotReadyError where it failed."""
        runs = self.runs[name, seed]
        if not runs or runs[0].folder in self.errors:
            raise _NotReadyError(f"the run {name!r} of its seed failed, which it needs")
        return RunLog.open(runs[0].folder)


class _NotReadyError(Exception):
    """A run that another needs has failed."""
