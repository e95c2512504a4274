"""What a task's covariance is taken of: all forms are one, and what cannot be read is told with its task."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from torch import nn

from mtlviz.errors import TransferError
from mtlviz.transfer import TaskCovariance, covariance_cosine, covariance_score, covariances


def test_all_forms_of_the_same_inputs_are_the_same_covariance(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    X = np.random.default_rng(0).integers(-9, 9, (9000, 3))  # whole numbers: no form rounds them; more than a chunk
    expected = (X.T @ X).astype(np.float64)
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    tensor = torch.tensor(X, dtype=torch.float64, requires_grad=True)
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).astype({"a": "Float64", "b": "int8"})
    forms = [X, X.astype(np.float16), X.tolist(), tensor, frame, np.load(tmp_path / "x.npy", mmap_mode="r")]
    forms += [[X[:5], X[5:]], (tensor[i : i + 500] for i in range(0, 9000, 500)), (frame[:10], frame[10:])]
    for form in forms:
        found = TaskCovariance.of(form)
        np.testing.assert_array_equal(found.moment, expected)
        assert found.samples == 9000
        assert found.moment.dtype == np.float64
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.directions, found.directions)
    assert TaskCovariance.of(found, task="t").task == "t"


def test_an_embedding_gets_each_batch_as_it_came() -> None:
    texts = [["a", "bcd"], ["ef"]]
    seen = []

    def lengths(batch: list[str]) -> list[list[float]]:
        seen.append(batch)
        return [[len(text), 1.0] for text in batch]

    np.testing.assert_array_equal(TaskCovariance.of(texts, embed=lengths).moment, [[14, 6], [6, 3]])
    assert seen == texts
    assert TaskCovariance.of(["a", "bcd"], embed=lengths).samples == 2
    x = np.arange(12.0).reshape(2, 2, 3)
    images = TaskCovariance.of(x, embed=lambda batch: batch.reshape(len(batch), -1))
    np.testing.assert_array_equal(images.moment, x.reshape(2, 6).T @ x.reshape(2, 6))
    pairs = [(np.eye(3), np.zeros(3)), (np.eye(3), np.ones(3))]  # as a loader gives them
    np.testing.assert_array_equal(TaskCovariance.of(pairs, embed=lambda pair: pair[0]).moment, 2 * np.eye(3))
    named = [{"ids": [1, 2], "kind": 0}]
    assert TaskCovariance.of(named, embed=lambda batch: [[i, 1] for i in batch["ids"]]).samples == 2


def test_a_feature_that_never_varies_is_a_feature_but_inputs_that_never_vary_are_none() -> None:
    x = np.column_stack([np.random.default_rng(0).normal(size=(9, 2)), np.ones(9), np.zeros(9)])
    assert TaskCovariance.of(x).moment[2, 2] == 9
    with pytest.raises(TransferError, match="task 'x': all features are constant, its 9 rows are all the same"):
        TaskCovariance.of([x[:1]] * 9)
    with pytest.raises(TransferError, match="rows are all zero"):
        TaskCovariance.of(np.zeros((5, 3)))


def batches() -> Iterator[NDArray[np.float64]]:
    yield from (np.eye(3), np.eye(3)[:, :2])


BAD = {
    "empty": (np.zeros((0, 3)), "task 'a' is empty: no row came"),
    "no batch": ([], "task 'a' is empty: no row came. A generator can be read once"),
    "one sample": (np.ones((1, 3)), "one sample"),
    "one sample in all": ([np.zeros((0, 3)), np.ones((1, 3))], "one sample"),
    "NaN": ([np.eye(3), np.array([[0, np.nan, 0]])], "feature 1 of row 3 is nan"),
    "infinite": (np.array([[0, 1], [-np.inf, 0]]), "feature 0 of row 1 is -inf"),
    "missing": (pd.DataFrame({"u": pd.array([1, None], dtype="Int64")}), "feature 0 of row 1 is nan"),
    "vector": (np.arange(4.0), r"shape \(4,\); needed is \(n, d\)"),
    "images": (np.zeros((4, 2, 2)), r"x.reshape\(len\(x\), -1\)"),
    "no feature": (np.zeros((4, 0)), r"shape \(4, 0\)"),
    "other width": (batches(), "batch 2: it has 2 features, the batches before have 3"),
    "objects": (np.eye(3).astype(object), "values of type object"),
    "complex": (np.eye(3) * 1j, "values of type complex128"),
    "text": ([["a", "b"], ["c", "d"]], "values of type"),
    "ragged": (([1, 2], [3]), "no array of numbers"),
    "masked": (np.ma.masked_equal(np.eye(3), 0), "masked values"),
    "loader": ([(np.eye(3), np.ones(3))], r"a tuple of 2 arrays as one batch.*\(x for x, _ in loader\)"),
    "words": (pd.DataFrame({"u": [1.0, 2], "v": ["x", "y"]}), "columns that are no real numbers: 'v'"),
    "no column": (pd.DataFrame(index=range(3)), "columns that are no real numbers: it has none"),
    "other columns": (
        [pd.DataFrame({"u": [1], "v": [2]}), pd.DataFrame({"v": [1], "u": [2]})],
        "batch 2: its columns are 'v', 'u', before they were 'u', 'v'",
    ),
    "too large": (np.eye(3) * 1e200, "squares out of range"),
    "too small": (np.eye(3) * 1e-200, "squares out of range"),
    "a path": ("x.npy", "an iterable of array batches; got str"),
    "a mapping": ({"x": np.eye(3)}, "got dict"),
    "a number": (3, "got int"),
    "nothing": (None, "got NoneType"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_told_with_its_task(what: str) -> None:
    source, match = BAD[what]
    with pytest.raises(TransferError, match=match) as told:
        TaskCovariance.of(source, task="a")
    assert "task 'a'" in str(told.value)


def test_sparse_input_is_told_the_way_out() -> None:
    sparse = pytest.importorskip("scipy.sparse").eye(3, format="csr")
    for source in (sparse, [sparse]):
        with pytest.raises(TransferError, match=r"task 'a'.*sparse csr_matrix.*toarray\(\)"):
            TaskCovariance.of(source, task="a")
    torch = pytest.importorskip("torch")
    with pytest.raises(TransferError, match="task 'a': got a Tensor that is no array"):
        TaskCovariance.of(torch.eye(3).to_sparse(), task="a")


EMBEDDINGS = {
    "fewer rows": (lambda x: x[1:], "batch 1: embed returned 2 rows for the 3 rows of the batch"),
    "flat": (lambda x: x[:, 0], r"batch 1: embed returned an array of shape \(3,\)"),
    "a number": (lambda x: x.sum(), "batch 1: embed returned a float64"),
    "nothing": (lambda x: None, "batch 1: embed returned a NoneType"),
    "a mapping": (lambda x: {"z": x}, "batch 1: embed returned a dict"),
    "text": (lambda x: x.astype(str), "batch 1: embed returned values of type <U"),
    "changing width": (lambda x: x[:, : 1 + int(x.sum())], "batch 2: embed returned 2 features.*before have 3"),
    "NaN": (lambda x: x * np.nan, "feature 0 of row 0 is nan"),
    "constant": (lambda x: np.ones((3, 2)), "all features are constant"),
    "no function": ("mean", "embed must be a function"),
}


@pytest.mark.parametrize("what", EMBEDDINGS)
def test_a_bad_embedding_is_told_with_its_task(what: str) -> None:
    embed, match = EMBEDDINGS[what]
    narrow = np.zeros((3, 3))
    narrow[0, 0] = 1
    with pytest.raises(TransferError, match=match) as told:
        TaskCovariance.of([np.eye(3), narrow], embed=embed, task="a")
    assert "task 'a'" in str(told.value)


def test_an_error_of_the_embedding_itself_is_its_own_with_a_note() -> None:
    with pytest.raises(ZeroDivisionError) as told:
        TaskCovariance.of([np.eye(3)], embed=lambda x: 1 / 0, task="a")
    assert told.value.__notes__ == ["raised by embed for task 'a', batch 1"]
    with pytest.raises(TypeError, match="must be Tensor, not numpy") as told_of_module:
        TaskCovariance.of(np.eye(3), embed=nn.Linear(3, 2), task="a")
    assert "a torch module takes tensors: give mv.data.task_inputs" in told_of_module.value.__notes__[0]
    with pytest.raises(TransferError, match="embed needs the inputs, but their covariance came"):
        TaskCovariance.of(TaskCovariance.of(np.eye(3)), embed=np.abs)


def test_tasks_of_different_features_are_named() -> None:
    two = {"a": np.eye(3), "b": np.eye(3)[:, :2]}
    with pytest.raises(TransferError, match="tasks 'a' and 'b' have 3 and 2 features"):
        covariances(two)
    one, other = (TaskCovariance.of(x, task=task) for task, x in two.items())
    for asked in (covariance_score, covariance_cosine, TaskCovariance.__add__):
        with pytest.raises(TransferError, match="tasks 'a' and 'b' have 3 and 2 features"):
            asked(one, other)
    frames = {"a": pd.DataFrame(np.eye(2), columns=["u", "v"]), "b": pd.DataFrame(np.eye(2), columns=["u", "w"])}
    with pytest.raises(TransferError, match="column 1 is 'v' in task 'a' and 'w' in task 'b'"):
        covariances(frames)
    assert list(covariances({"a": frames["a"], "b": np.eye(2)})) == ["a", "b"]  # an array has no names to differ


def test_tasks_that_cannot_be_read_are_named() -> None:
    once = iter([np.eye(3)])
    with pytest.raises(TransferError, match=r"task 'b' is empty.*read once only"):
        covariances({"a": once, "b": once})
    with pytest.raises(TransferError, match=r"at least 1; got the tasks \[\]"):
        covariances({})
    with pytest.raises(TransferError, match=r"needs \{task: inputs\}, got list"):
        covariances([np.eye(3)])
    with pytest.raises(TransferError, match="named by text, got 1"):
        covariances({1: np.eye(3)})
    with pytest.raises(TypeError):
        TaskCovariance.of(np.eye(3)) + 1


@pytest.mark.parametrize("mass", [0, -0.1, 1.01, float("nan"), True, "0.9", None, 99])
def test_a_mass_outside_0_to_1_is_told(mass: object) -> None:
    covariance = TaskCovariance.of(np.eye(3))
    for asked in (covariance.rank, covariance.root):
        with pytest.raises(TransferError, match="mass must be a share above 0, up to 1"):
            asked(mass)
    with pytest.raises(TransferError, match="mass must be a share above 0, up to 1"):
        covariance_score(covariance, covariance, mass=mass)
