"""Schedules at work: rewinds bring everything back, soft labels are a checkpoint's, and every method goes through."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mtlviz as mv
from mtlviz.models.shared_trunk import evaluating
from tests.problems import crossing
from tests.training.scheduling import HASTY, NAMES, apart, of, quick, recorded


def numbers(value: Any) -> list[np.ndarray]:
    """All numbers of a nested state, in order."""
    if isinstance(value, dict):
        return [part for key in value for part in numbers(value[key])]
    if isinstance(value, (list, tuple)):
        return [part for item in value for part in numbers(item)]
    return [np.asarray(value, dtype=np.float64)] if isinstance(value, (torch.Tensor, np.ndarray, float, int)) else []


PARTS = ("model", "optimizer", "scheduler", "weighting", "sampler")


def test_a_rewind_brings_back_everything_but_what_converged() -> None:
    training = quick(
        mv.training.Joint(patience=1),
        crossing(dropout=0.2),
        weighting="dwa",
        scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99),
    )
    states, batches, rewinds = {}, {}, 0
    for record in training:
        if isinstance(record, mv.Validation) and record.task == "rare":  # the last of a round
            states[record.step] = copy.deepcopy(training.state_dict())
            batches[record.step] = training.sampler.batch(record.position + 1)
        if isinstance(record, mv.Event) and record.kind == "rewind":
            rewinds += 1
            before, now = states[record.detail["step"]], training.state_dict()
            assert now["position"] == before["position"] == record.detail["to"] < record.step
            for part in PARTS:
                for a, b in zip(numbers(before[part]), numbers(now[part]), strict=True):
                    np.testing.assert_array_equal(a, b)
            batch = training.sampler.batch(training.position + 1)
            assert torch.equal(batch.inputs, batches[record.detail["step"]].inputs)
        if rewinds == 2:
            break
    assert rewinds >= 2


def test_rows_that_a_rewind_threw_away_are_those_behind_the_checkpoint() -> None:
    log = recorded(quick(mv.training.Joint(patience=2)))
    steps = log.steps.drop_duplicates("step")
    gone = np.zeros(len(steps), dtype=bool)
    for rewind in of(log, "rewind"):
        gone |= ((steps["step"] <= rewind.step) & (steps["position"] > rewind.detail["to"])).to_numpy()
    assert gone.any()
    np.testing.assert_array_equal(steps["discarded"].to_numpy(), gone)
    kept = steps.loc[~steps["discarded"], "position"].to_numpy()
    np.testing.assert_array_equal(kept, np.arange(1, kept[-1] + 1))  # one surviving trajectory, without a gap


def test_soft_labels_are_what_the_checkpoint_predicts() -> None:
    problem = crossing(missing=0.3)
    inputs, best, seen = problem.train.shared.inputs, {}, []
    model = copy.deepcopy(problem.model)
    training = quick(mv.training.Joint(patience=1), problem)
    assert training.checkpoints is not None
    for record in training:
        if isinstance(record, mv.Event) and record.kind == "convergence":
            best[record.task] = training.checkpoints.load(record.detail["best_step"])["model"]
        if isinstance(record, mv.Event) and record.kind == "distillation":
            soft = training.checkpoints.load_soft(record.task, record.step)
            model.load_state_dict(best[record.task])
            with evaluating(model):
                outputs = model(inputs)[record.task]
            expected = {"kind": outputs.softmax(1), "size": outputs[:, 0], "rare": outputs[:, 0].sigmoid()}[record.task]
            targets = problem.train.shared.targets[record.task]
            labelled = ~torch.isnan(targets) if targets.is_floating_point() else targets != -100
            torch.testing.assert_close(soft[labelled], expected[labelled], rtol=1e-5, atol=1e-6)
            assert torch.isnan(soft[~labelled]).all()
            assert (~labelled).any()
            seen.append(record.task)
    assert len(best) == 3
    assert seen == list(best)[:2]  # nothing follows the last


def test_right_after_the_switch_the_gradient_of_a_distilled_task_vanishes() -> None:
    log = recorded(quick(mv.training.Joint(patience=1)))
    steps = log.steps
    switches = of(log, "distillation")
    assert switches
    for event in switches:
        own = steps[steps["task"] == event.task]
        first = own[own["step"] == event.step + 1].iloc[0]
        assert first["phase"] == "distilled"
        before = own.loc[(own["step"] <= event.step) & (own["phase"] == "supervised"), "grad_norm"]
        assert first["grad_norm"] < 1e-5 * before.mean()


def test_a_replay_of_a_joint_run_gives_its_weights() -> None:
    log = recorded(quick(mv.training.Joint(patience=1), weighting="mgda"))
    replayed = mv.analysis.replayed_weights(mv.analysis.replay(log, ["mgda"]))
    surviving = ~log.discarded
    own = replayed[replayed["method"] == "mgda"].pivot(index="step", columns="task", values="weight")[NAMES]
    expected = dict(zip(log.recorded_steps[surviving].tolist(), log.weights[surviving], strict=True))
    assert log.held[surviving].any()
    np.testing.assert_allclose(own.to_numpy(), [expected[step] for step in own.index], atol=1e-9)


def test_one_task_is_early_stopping_that_ends_with_the_best() -> None:
    problem = crossing().alone("kind")
    training = quick(mv.training.Joint(patience=3), problem)
    log = recorded(training)
    values = log.validations["value"]
    assert [event.kind for event in log.events.itertuples()] == ["start", "convergence", "rewind", "finish"]
    assert of(log, "convergence")[0].detail["best"] == values.max()
    assert mv.train(problem, steps=1)  # the problem itself stays as it was
    again = quick(None, problem, steps=of(log, "rewind")[0].detail["to"])  # plain training up to there
    recorded(again)
    for a, b in zip(training.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_step_cap_says_who_has_not_converged() -> None:
    log = recorded(quick(mv.training.Joint(patience=50), steps=30))
    assert of(log, "step_cap")[0].detail == {"unconverged": NAMES}
    assert log.state == "finished"
    assert not of(log, "rewind")


def test_in_a_sequence_tasks_wait_and_are_added() -> None:
    problem = crossing()
    training = quick(mv.training.Sequential(patience=1, order=["rare", "kind", "size"]), problem)
    before = [p.clone() for p in training.model.head_parameters("size")]
    for record in training:
        if isinstance(record, mv.Step) and record.phases == ("waiting", "waiting", "supervised"):
            assert np.isnan(record.losses[:2]).all()
            assert record.samples[:2].tolist() == [0, 0]
            assert record.weights[:2].tolist() == [0.0, 0.0]
        if isinstance(record, mv.Event) and record.kind == "task_added" and record.task != "size":
            assert all(torch.equal(a, b) for a, b in zip(before, training.model.head_parameters("size"), strict=True))
    log = recorded(quick(mv.training.Sequential(patience=1, order=["rare", "kind", "size"]), problem))
    assert [event.task for event in of(log, "task_added")] == ["rare", "kind", "size"]
    assert [event.task for event in of(log, "convergence")] == ["rare", "kind", "size"]
    assert [event.task for event in of(log, "distillation")] == ["rare", "kind"]  # nothing follows the last


def test_orders() -> None:
    problem = crossing()
    for task, missing in (("kind", 100), ("rare", 50)):
        problem.train.shared.targets[task][:missing] = -100 if task == "kind" else torch.nan
    order = {name: mv.training.Sequential(order=name).task_order(problem) for name in ("small", "large")}
    assert order == {"small": ("kind", "rare", "size"), "large": ("size", "rare", "kind")}
    joint = recorded(quick(mv.training.Joint(patience=1), problem))
    easy = mv.training.Sequential(order="easy", joint=joint).task_order(problem)
    assert easy == tuple(event.task for event in of(joint, "convergence"))
    with pytest.raises(ValueError, match=r"unknown order 'smal'.* small"):
        mv.training.Sequential(order="smal")
    with pytest.raises(ValueError, match="give its log"):
        mv.training.Sequential(order="easy")


def test_tasks_that_a_joint_run_did_not_bring_to_convergence_are_the_hardest() -> None:
    problem = crossing()

    def easy(joint: mv.RunLog) -> tuple[str, ...]:
        return mv.training.Sequential(order="easy", joint=joint).task_order(problem)

    hasty_for_rare = mv.training.Joint(patience={"kind": 50, "size": 50, "rare": 1})
    capped = recorded(quick(hasty_for_rare, problem, steps=100))
    assert of(capped, "step_cap")[0].detail == {"unconverged": ["kind", "size"]}
    assert easy(capped) == ("rare", "kind", "size")
    cut = mv.RunLog.create(None, training := quick(hasty_for_rare, problem))
    for record in training:
        cut.append(record)
        if isinstance(record, mv.Event) and record.kind == "convergence":
            break
    with pytest.raises(ValueError, match=r"needs a joint run in which.*\['kind', 'size'\] did not converge"):
        mv.train(problem, schedule=mv.training.Sequential(order="easy", joint=cut))
    with pytest.raises(ValueError, match=r"needs a joint run of the tasks .* this one has \['kind'\]"):
        easy(recorded(quick(mv.training.Joint(), problem.alone("kind"))))


def test_continual_learning_keeps_the_true_labels() -> None:
    log = recorded(quick(mv.training.Continual(patience=1, order="small")))
    assert not log.held.any()
    assert not of(log, "distillation")
    assert len(of(log, "rewind")) == 3


def test_the_share_of_converged_tasks_and_the_learning_rate_after_a_rewind() -> None:
    log = recorded(quick(mv.training.Joint(patience=1, converged_share=0.25, rewarm=4)))
    steps = log.steps
    for phase, share in (("supervised", 1.0), ("distilled", 0.25)):
        samples = steps.loc[steps["phase"] == phase, "samples"]
        assert samples.mean() == pytest.approx(32 * share, rel=0.1)
    rewind = of(log, "rewind")[0]
    rates = steps.loc[(steps["step"] > rewind.step) & (steps["task"] == "kind"), "learning_rate"].to_numpy()
    np.testing.assert_allclose(rates[:5], 0.03 * np.array([0.2, 0.4, 0.6, 0.8, 1.0]))


def test_shares_that_would_empty_a_batch_do_not_matter_once_all_have_converged(tmp_path: Path) -> None:
    schedule = mv.training.Joint(patience=1, converged_share=0.25, validate_every=5)
    options = {"schedule": schedule, "batch_size": 2, "steps": 400, "optimizer": HASTY, "resume": True}
    run = mv.start(apart(), log=tmp_path / "run", **options).wait(60)
    assert of(run.log, "convergence")[-1].step == run.log.last_step < 400
    assert run.log.state == "finished"
    assert mv.start(apart(), log=tmp_path / "run", **options).wait(60).training.course.done


def test_a_task_is_monitored_where_the_problem_says() -> None:
    problem = crossing(monitor={"rare": "test"})
    problem.validation.shared.targets.pop("rare")
    log = recorded(quick(mv.training.Joint(patience=1), problem))
    assert {event.task for event in of(log, "convergence")} == set(NAMES)
    assert log.info.config["monitored_on"] == {"rare": "test"}
    ended = of(log, "rewind")[-1].detail["step"]  # the checkpoint that the run ended with
    rounds = log.validations.set_index(["task", "step"])["value"]
    watched = rounds["rare", ended]
    assert watched == log.measures.query("name == 'test' and task == 'rare'")["value"].item()
