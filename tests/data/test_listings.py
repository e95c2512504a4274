"""Made product listings: sizes, labels, words, no leakage, one input for all tasks, and something to learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

import mtlviz as mv
from mtlviz.data.catalogue import catalogue
from mtlviz.data.listing_tasks import PAIRS, attributes, classes, pairs, similarity
from mtlviz.data.listings import NOISE, PAPER_SIZES, labelled_rows, listing_inputs, listing_sizes, listing_targets
from mtlviz.data.ngrams import LENGTH
from mtlviz.data.vocabulary import ATTRIBUTES, MATERIAL_NAMES, MATERIALS, NOUNS, STYLES, TARIFFS, parts_of, type_name
from mtlviz.data.wording import listings_of
from mtlviz.errors import ProblemError

SETUPS = ("related", "diverse")
SAMPLES = Path(__file__).parents[2] / "data_samples"


@pytest.fixture(scope="module", params=SETUPS)
def setup(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def problem(setup: str) -> mv.Problem:
    return mv.data.listings(setup, scale=0.1)


def test_the_tasks_are_the_papers(problem: mv.Problem, setup: str) -> None:
    outputs = {task.name: (task.outputs, task.loss, task.metric) for task in problem.tasks}
    pair = (1, F.binary_cross_entropy_with_logits, "pr_auc")
    assert (
        outputs
        == {
            "related": {
                **dict.fromkeys(("dedup", "pd_1", "pd_2", "var"), pair),
                "uomi": (3, F.cross_entropy, "accuracy"),
            },
            "diverse": {
                "rai": (1359, F.binary_cross_entropy_with_logits, "jaccard"),
                "sims": (1, F.mse_loss, "rmse_score"),
                "tc": (93, F.cross_entropy, "accuracy"),
                "ptc": (709, F.cross_entropy, "accuracy"),
                "dedup": pair,
            },
        }[setup]
    )
    assert problem.monitor == {"related": {"uomi": "test"}, "diverse": {"tc": "test", "ptc": "test"}}[setup]
    assert problem.sampling is not None


def test_sizes_have_the_papers_proportions(setup: str) -> None:
    sizes = listing_sizes(setup)
    for task, paper in PAPER_SIZES[setup].items():
        for split, count in zip(("train", "validation", "test"), paper, strict=True):
            expected = count / 200
            if split != "train" and 0 < expected < 400:
                expected = 400  # fewer judge nothing
            assert sizes[task][split] == expected
    tenth = listing_sizes(setup, 0.1)
    assert all(abs(tenth[t][s] - sizes[t][s] / 10) <= 0.5 or tenth[t][s] in (10, 40) for t in sizes for s in sizes[t])


def test_the_problem_holds_what_its_sizes_say_in_inputs_of_one_shape(problem: mv.Problem, setup: str) -> None:
    sizes = listing_sizes(setup, 0.1)
    for split in (problem.train, problem.validation, problem.test):
        assert split.samples() == {task: n[split.name] for task, n in sizes.items() if n[split.name]}
        for source in split.by_task.values():
            assert source.inputs.shape[1:] == (3, LENGTH)
            assert source.inputs.dtype == torch.int16
            assert (source.inputs >= 0).all()
            assert (source.inputs < 4096).all()


def test_no_product_and_no_text_is_in_two_splits(setup: str) -> None:
    table = mv.data.listings_table(setup, scale=0.1, seed=2)
    seen = {}
    for split, rows in table.groupby("split"):
        texts = {*zip(rows["title_a"], rows["attributes_a"], strict=True)}
        seen[split] = (texts | {*zip(rows["title_b"], rows["attributes_b"], strict=True)}) - {("", "")}
    assert not seen["train"] & seen["validation"]
    assert not seen["train"] & seen["test"]
    assert not seen["validation"] & seen["test"]


def test_a_seed_says_everything_and_leaves_the_users_random_numbers_alone(setup: str, problem: mv.Problem) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again, other = mv.data.listings(setup, scale=0.1), mv.data.listings(setup, scale=0.1, seed=1)
    assert torch.equal(torch.rand(3), expected)
    for task, source in problem.train.by_task.items():
        assert torch.equal(source.inputs, again.train.by_task[task].inputs)
        assert torch.equal(source.targets, again.train.by_task[task].targets)
        assert not torch.equal(source.inputs, other.train.by_task[task].inputs)
    for p, q in zip(problem.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_dedup_is_the_same_in_both_setups() -> None:
    related, diverse = (mv.data.listings_table(name, scale=0.05) for name in SETUPS)
    one, other = (table[table["task"] == "dedup"].reset_index(drop=True) for table in (related, diverse))
    pd.testing.assert_frame_equal(one, other)


def test_a_task_on_single_listings_has_no_second_one() -> None:
    for name in SETUPS:
        table = mv.data.listings_table(name, scale=0.02)
        single = table["task"].isin(["uomi", "rai", "tc", "ptc"])
        assert (table.loc[single, ["title_b", "attributes_b"]] == "").all(axis=None)
        assert (table.loc[~single, "title_b"] != "").all()
        assert (table["title_a"] != "").all()


def test_labels_become_targets() -> None:
    assert listing_targets("var", ["yes", "no"]).tolist() == [1, 0]
    assert listing_targets("uomi", ["count", "weight"]).tolist() == [2, 0]
    assert listing_targets("sims", ["0.2500", "1.0000"]).tolist() == [0.25, 1]
    assert listing_targets("tc", [TARIFFS[92], TARIFFS[0]]).tolist() == [92, 0]
    assert listing_targets("ptc", [type_name(708)]).tolist() == [708]
    several = listing_targets("rai", [f"{ATTRIBUTES[3]}; {ATTRIBUTES[1358]}", "", ATTRIBUTES[0]])
    assert several.shape == (3, 1359)
    assert several.nonzero().tolist() == [[0, 3], [0, 1358], [2, 0]]


def test_pairs_differ_in_what_they_were_made_to_differ_in() -> None:
    rng = np.random.default_rng(0)
    products = catalogue(60, rng)
    for task in PAIRS:
        rows = pairs(task, products, 800, rng)
        for left, right, made in zip(rows.left.tolist(), rows.right.tolist(), rows.made, strict=True):
            p, q = left // 2, right // 2
            f, g = p // 5, q // 5
            differs = {
                name for name in ("style", "size", "pack") if getattr(products, name)[p] != getattr(products, name)[q]
            }
            if made == "same":
                assert p == q
                assert left != right
            elif made in ("near", "far", "pack", "size", "both"):
                expected = {"near": {"style"}, "far": {"style"}, "both": {"pack", "size"}}.get(made, {made})
                assert f == g
                assert differs == expected
                if "style" in differs:
                    assert (products.style[p] // 3 == products.style[q] // 3) == (made == "near")
            else:
                alike = (products.brand[f] == products.brand[g], f // 4 == g // 4)
                assert f != g
                assert made == "stranger" or alike == (made == "sibling", True)


def test_a_family_has_the_attributes_and_classes_of_its_words() -> None:
    rng = np.random.default_rng(1)
    products = catalogue(40, rng)
    titles, facts = listings_of(products, rng)
    listings = np.arange(len(titles))
    names = np.array(ATTRIBUTES)
    for listing, has in enumerate(attributes(listings, products)):
        family = listing // 10
        noun, material = NOUNS[products.noun[family]], MATERIAL_NAMES[products.material[family]]
        own = set(names[has])
        assert f"material: {material}" in own
        assert sum(name.startswith("feature: ") for name in own) == 2
        assert 3 <= sum(name.startswith(f"{noun}: ") for name in own) <= 4
        assert sum(name.startswith("colour: ") for name in own) == (products.style_kind[family] == 0)
        extra = parts_of(products.noun[family])[products.extra[family]]
        assert f"{noun}: {extra}" in own
        assert " with " not in titles[listing] or titles[listing].split(" with ")[1][0] in extra[:2]  # a typing error
        assert material in MATERIALS[TARIFFS[classes("tc", listings, products)[listing]].split(", ")[1]]
        if "style: " in facts[listing]:
            style = STYLES[("colour", "flavour")[products.style_kind[family]]][products.style[listing // 2]]
            assert facts[listing].split("style: ")[1].split(";")[0] in style


def test_similarity_is_the_sum_of_what_products_share() -> None:
    rng = np.random.default_rng(2)
    products = catalogue(60, rng)
    rows = pairs("sims", products, 400, rng)
    value = similarity(rows, products)
    same_family = rows.made == "far"
    np.testing.assert_allclose(value[same_family], 1.0)
    assert value.min() == pytest.approx(0.08)
    mean = {made: value[rows.made == made].mean() for made in ("far", "sibling", "rival", "stranger")}
    assert mean["far"] > mean["sibling"] > mean["stranger"]
    assert mean["rival"] > mean["stranger"]


@pytest.mark.parametrize("task", NOISE)
def test_training_labels_are_wrong_as_often_as_it_says_and_the_others_never(task: str) -> None:
    products = catalogue(60, np.random.default_rng(3))
    (left, _, noisy), (same, _, true) = (
        labelled_rows(task, products, 3000, np.random.default_rng(4), noisy=noisy) for noisy in (True, False)
    )
    np.testing.assert_array_equal(left, same)
    if task == "sims":
        assert np.std((noisy.astype(float) - true.astype(float))[true.astype(float) < 0.7]) == pytest.approx(
            0.1, abs=0.02
        )
    elif task == "rai":
        kept = [
            len(set(a.split("; ")) & set(b.split("; "))) / len(b.split("; ")) for a, b in zip(noisy, true, strict=True)
        ]
        assert np.mean(kept) == pytest.approx(1 - NOISE[task], abs=0.01)
        assert all(set(a.split("; ")) - {""} <= set(b.split("; ")) for a, b in zip(noisy, true, strict=True))
    else:
        classes = {"uomi": 3, "tc": 93, "ptc": 709}.get(task)
        expected = NOISE[task] if classes is None else NOISE[task] * (1 - 1 / classes)
        assert np.mean(noisy != true) == pytest.approx(expected, abs=0.025)


def test_inputs_are_of_the_texts_of_their_row() -> None:
    table = mv.data.listings_table("related", scale=0.02)
    inputs = listing_inputs(table)
    few = [0, len(table) // 2, len(table) - 1]
    assert torch.equal(inputs[few], listing_inputs(table.iloc[few]))


def test_a_short_run_of_the_related_setup_beats_guessing_on_every_task() -> None:
    problem = mv.data.listings("related", scale=0.3)
    last = final_values(problem, steps=120)
    for task in ("dedup", "pd_1", "pd_2", "var"):
        assert last[task] > 100 * problem.validation.by_task[task].targets.mean() + 6
    assert last["uomi"] > 100 * problem.test.by_task["uomi"].targets.bincount().max() / 120 + 20


def test_a_short_run_of_the_diverse_setup_learns_similarity_and_begins_with_rare_attributes() -> None:
    problem = mv.data.listings("diverse", scale=0.3)
    rare = torch.sigmoid(problem.model.head("rai").bias)
    assert (rare - problem.train.by_task["rai"].targets.mean()).abs().max() < 0.005
    last = final_values(problem, steps=120)
    spread = problem.validation.by_task["sims"].targets.std(correction=0).item()
    assert last["sims"] > 100 * (1 - spread) + 5
    assert last["dedup"] > 100 * problem.validation.by_task["dedup"].targets.mean() + 6


def final_values(problem: mv.Problem, *, steps: int) -> dict[str, float]:
    """Each task's last validation in a run with equal weights."""
    run = mv.train(problem, weighting="equal", steps=steps, batch_size=256, validate_every=steps, layers_every=0)
    return {record.task: record.value for record in run if isinstance(record, mv.Validation)}


@pytest.mark.parametrize("setup", SETUPS)
def test_the_sample_holds_the_first_rows_of_the_problem(setup: str) -> None:
    path = SAMPLES / f"listings_{setup}.csv"
    stored = pd.read_csv(path, keep_default_na=False, dtype=str)
    assert path.stat().st_size < 100_000
    assert 40 <= len(stored) <= 60
    table = mv.data.listings_table(setup)
    for (task, split), rows in stored.groupby(["task", "split"]):
        made = table[(table["task"] == task) & (table["split"] == split)].head(len(rows))
        assert made.to_numpy().tolist() == rows.to_numpy().tolist()


def test_what_does_not_exist_is_named() -> None:
    with pytest.raises(ProblemError, match="unknown setup 'relatd'; did you mean 'related'"):
        mv.data.listings("relatd")
    for scale in (0, -1, float("nan"), float("inf"), "1", True):
        with pytest.raises(ProblemError, match="scale must be a finite number above 0"):
            mv.data.listings(scale=scale)
    for seed in (-1, 1.0, True):
        with pytest.raises(ProblemError, match="seed must be a whole number from 0"):
            mv.data.listings(seed=seed)
