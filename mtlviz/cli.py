"""The command line: a demo, JupyterLab on the first notebook, a run that is watched, its report, methods compared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from mtlviz.errors import MtlvizError, ProblemError, WeightingError, unknown
from mtlviz.watch.command import watch

if TYPE_CHECKING:
    import pandas as pd

    from mtlviz.runlog.log import RunLog
    from mtlviz.training.run import Run

NOTEBOOK = Path("notebooks/01_watch_a_run.ipynb")

app = typer.Typer(
    help="Shows why multi-task learning goes wrong, live, with evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich would take [default: ...] for a style, and drop it
)


app.command()(watch)


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the run; a run that is there is replaced.")
    ] = Path("runs/demo"),
    weighting: Annotated[str, typer.Option("--weighting", "-w", help="Name of a weighting method.")] = "equal",
    steps: Annotated[int, typer.Option("--steps", "-n", help="Updates to do.")] = 3000,
    seed: Annotated[int, typer.Option("--seed", help="Of data, initial parameters and batches.")] = 0,
) -> None:
    """Train five tasks on real digits, print what became of them, and write the run and its report."""
    print("Loading PyTorch and the digits ...", flush=True)
    import torch

    import mtlviz as mv

    torch.set_num_threads(1)  # the model is so small that threads would only wait for each other
    try:
        run = mv.start(mv.data.digits(seed=seed), weighting=weighting, steps=steps, seed=seed, log=out, overwrite=True)
        _follow(run)
        run.wait()
        written = mv.report.report(run.log, out / "report.html")
    except (MtlvizError, ValueError) as error:
        _stop(error)
    print(f"\nWhat became of the five tasks, trained with {weighting} weights:\n")
    print(table_text(run.log))
    print("\nshare of update: how much of each step's move of the trunk is along the task's own weighted gradient.")
    print("conflict rate: how often the task's gradient and another's point against each other (⟨g_a, g_b⟩ < 0).")
    print(f"\nThe run:    {out}\nThe report: {written} (open it in any browser)")
    print(f"Watch one:  make lab, or: {os.path.relpath(sys.executable)} -m mtlviz lab")


@app.command()
def lab() -> None:
    """Open JupyterLab on the first notebook."""
    notebook = next(
        (place / NOTEBOOK for place in (Path.cwd(), *Path.cwd().parents) if (place / NOTEBOOK).exists()), None
    )
    if notebook is None:
        _stop(f"{NOTEBOOK} is not here; run this in a checkout of mtlviz")
    command = [sys.executable, "-m", "jupyterlab", str(notebook)]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    try:
        raise typer.Exit(subprocess.call(command))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The HTML file [default: RUN/report.html].")] = None,
) -> None:
    """Write one HTML file with every figure of a run; it opens offline in any browser."""
    from mtlviz.report import report as written
    from mtlviz.runlog.log import RunLog

    try:
        print(written(RunLog.open(run), out or run / "report.html"))
    except MtlvizError as error:
        _stop(error)


@app.command()
def compare(
    problem: Annotated[str, typer.Argument(help="Name of a problem: digits.")],
    methods: Annotated[
        str, typer.Option("--methods", "-m", help="Names, separated by commas; all, and stl for each task alone.")
    ] = "all",
    seeds: Annotated[int, typer.Option("--seeds", help="How many: of data, initial parameters and batches.")] = 3,
    steps: Annotated[int, typer.Option("--steps", "-n", help="Updates of a run.")] = 2000,
    select: Annotated[
        str, typer.Option("--select", help="Which validation counts: final, best_mean or best_per_task.")
    ] = "final",
    scale: Annotated[
        list[str] | None, typer.Option("--scale", help="task=factor: train with this loss multiplied; repeatable.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", "-b", help="What Δm is against [default: stl, else equal, else the first]."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs.")] = Path("runs/compare"),
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Processes at once; -1 for one a core.")] = -1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Train all runs anew, also the finished ones.")] = False,
) -> None:
    """Train a problem with many methods and print the table; called again, it goes on where it was."""
    names = [name.strip() for name in methods.split(",") if name.strip()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        _stop(f"--methods names {', '.join(twice)} more than once; leave the others out")
    print("Loading PyTorch ...", flush=True)
    import torch

    import mtlviz as mv

    torch.set_num_threads(1)  # as in demo
    problems = {"digits": mv.data.digits}
    try:
        if problem not in problems:
            raise ProblemError(unknown("problem", problem, problems))
        if baseline is not None and baseline not in names and not ("all" in names and baseline in mv.weighting.METHODS):
            raise WeightingError(f"the baseline {baseline!r} is none of the methods; add it to --methods")
        frame = mv.experiments.compare(
            problems[problem],
            names,
            seeds,
            steps=steps,
            select=select,  # type: ignore[arg-type]  # checked there
            scale=_factors(scale or []),
            folder=out,
            jobs=jobs,
            fresh=fresh,
        )
        table = mv.experiments.table(frame, baseline)
        for name, text in (("csv", frame.to_csv(index=False)), ("md", table.markdown()), ("tex", table.latex())):
            (out / f"comparison.{name}").write_text(text + "\n", encoding="utf-8")
    except (MtlvizError, ValueError, OSError) as error:
        _stop(error)
    except KeyboardInterrupt:
        print(f"\nmtlviz: interrupted. Finished runs stay in {out}; the same command goes on there.", file=sys.stderr)
        raise typer.Exit(130) from None
    print(f"\n{table.markdown()}\n\nThe runs, and the table as CSV, Markdown and LaTeX: {out}")
    if (frame["status"] == "failed").all():
        _stop("every run failed")


@app.command()
def study(
    problem: Annotated[str, typer.Argument(help="listings_related, listings_diverse or digits.")],
    methods: Annotated[str, typer.Option("--methods", "-m", help="Names, separated by commas; all.")] = "all",
    seeds: Annotated[int, typer.Option("--seeds", help="How many: of data, initial parameters and batches.")] = 3,
    patience: Annotated[int, typer.Option("--patience", help="Validations without gain until a task converged.")] = 3,
    every: Annotated[int, typer.Option("--validate-every", help="Updates between validations.")] = 100,
    steps: Annotated[
        int | None, typer.Option("--steps", "-n", help="Updates at which a run ends at the latest.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Samples a batch.")] = 128,
    lr: Annotated[float, typer.Option("--lr", help="Learning rate of Adam.")] = 1e-3,
    scale: Annotated[float, typer.Option("--scale", help="Size of the listings, 1 for the whole.")] = 1.0,
    on: Annotated[str, typer.Option("--on", help="Judge on: test or validation.")] = "test",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs.")] = Path("runs/study"),
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Processes at once; -1 for one a core.")] = -1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Train all runs anew, also the finished ones.")] = False,
) -> None:
    """Train a problem jointly, in sequence and with the baselines; print who gains, and who keeps what it learned."""
    print("Loading PyTorch ...", flush=True)
    import torch

    import mtlviz as mv

    torch.set_num_threads(1)  # as in demo
    listed = {f"listings_{setup}": partial(mv.data.listings, setup, scale=scale) for setup in ("related", "diverse")}
    problems: dict[str, Callable[..., mv.Problem]] = {"digits": mv.data.digits, **listed}
    try:
        if problem not in problems:
            raise ProblemError(unknown("problem", problem, problems))
        frame = mv.experiments.convergence_study(
            problems[problem],
            methods=[name.strip() for name in methods.split(",") if name.strip()],
            seeds=seeds,
            schedule=mv.training.Joint(patience=patience, validate_every=every),
            steps=steps,
            on=on,
            batch_size=batch_size,
            optimizer=partial(torch.optim.Adam, lr=lr),
            folder=out,
            jobs=jobs,
            fresh=fresh,
        )
        texts = {"csv": frame.to_csv(index=False)}
        drops = mv.experiments.convergence_drops(frame)
        said = _said_of_drops(drops)
        if whole := mv.experiments.study_plan.UNIFORM in set(frame["method"]):
            table = mv.experiments.convergence_table(frame)
            texts |= {"md": f"{table.markdown()}\n\n{said}", "tex": table.latex()}
        for name, text in texts.items():
            (out / f"study.{name}").write_text(text + "\n", encoding="utf-8")
        drops.to_csv(out / "drops.csv", index=False)
    except (MtlvizError, ValueError, OSError) as error:
        _stop(error)
    except KeyboardInterrupt:
        print(f"\nmtlviz: interrupted. What is trained stays in {out}; the same command goes on.", file=sys.stderr)
        raise typer.Exit(130) from None
    print("\n".join(["", *([table.markdown(), ""] if whole else []), said, "", f"The runs, and all of this: {out}"]))
    if (frame["status"] == "failed").all():
        _stop("every run failed")


def _said_of_drops(drops: pd.DataFrame) -> str:
    """What each method lost from best to final validation, and what of it is more than noise, as Markdown.

    Counted as converged are tasks that converged in every seed of a method.
    """
    cells = drops.assign(
        text=_numbers(drops["drop"], "{:.2f}") + drops["more_than_noise"].map({True: " *", False: ""}).fillna(" ?")
    ).pivot(index="method", columns="task", values="text")
    cells = cells.reindex(index=drops["method"].unique(), columns=drops["task"].unique())
    rows = [["lost from best to final", *cells.columns], ["---"] * (cells.shape[1] + 1)]
    rows += [[str(name), *cells.loc[name]] for name in cells.index]
    ours = drops[(drops["method"] == "joint") | drops["method"].str.startswith("sequential")]
    ours = ours[(ours["converged"] > 0) & (ours["converged"] == ours["seeds"])]
    lost = ours[ours["more_than_noise"].fillna(False)]
    dark = int(ours["more_than_noise"].isna().sum())
    told = "; ".join(f"{r.method}: {r.task} {r.drop:.2f}, noise {r.noise:.2f}" for r in lost.itertuples())
    claim = f"Of {len(ours)} converged tasks in joint and sequential runs, {len(lost)} lost more than noise (*)"
    unknown_noise = f" {dark} could not be judged (?): too few validations to tell their noise." if dark else ""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", claim + (f": {told}." if told else ".") + unknown_noise])


def _factors(scale: list[str]) -> dict[str, float]:
    """What `task=factor` says. Raises: ProblemError where it says something else."""
    factors = {}
    for text in scale:
        task, _, factor = text.rpartition("=")
        try:
            factors[task] = float(factor)
        except ValueError:
            raise ProblemError(f"--scale needs task=factor, such as left=10, got {text!r}") from None
    return factors


def table_text(log: RunLog) -> str:
    """The tasks of a run as a table of plain text."""
    from mtlviz.analysis import task_table

    table = task_table(log)
    columns = {
        "task": table.task.astype(str),
        "metric": table.metric,
        "final (validation)": _numbers(table.final, "{:.1f}"),
        "test": _numbers(table.test, "{:.1f}"),
        "best": _numbers(table.best, "{:.1f}"),
        "at step": table.best_step.astype("object").fillna("–").astype(str),
        "share of update": _numbers(100 * table.share, "{:.0f} %"),
        "conflict rate": _numbers(100 * table.conflict_rate, "{:.0f} %"),
        "labels": table.train_samples.astype("object").fillna("–").astype(str),
    }
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(columns))]
    lines = [
        "  ".join(
            f"{cell!s:<{w}}" if i < 2 else f"{cell!s:>{w}}" for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def _numbers(values: pd.Series, form: str) -> list[str]:
    return [form.format(value) if value == value else "–" for value in values]


def _follow(run: Run) -> None:
    """A progress bar until the run ends."""
    from tqdm import tqdm

    with tqdm(total=run.steps, unit=" steps", dynamic_ncols=True) as bar:
        while not run.join(0.2):
            bar.update(run.step - bar.n)
        bar.update(run.step - bar.n)


def _stop(error: object) -> NoReturn:
    print(f"mtlviz: {error}", file=sys.stderr)
    raise typer.Exit(1)
