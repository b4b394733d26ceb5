import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.errors import RequestError
from unet_pipeline.records import Case
from unet_pipeline.training.split import is_used, split_cases, split_of

NAMES = [f"case-{index:03d}" for index in range(10)]
BY_SEED = {"holdout": 0.3, "seed": 0, "fold": None}


def cases(**column):
    ((name, values),) = column.items()
    return [Case(f"c{index}", ("x",), "m", **{name: v}) for index, v in enumerate(values)]


@given(
    names=st.lists(st.text(min_size=1, max_size=4), unique=True, min_size=1, max_size=30),
    holdout=st.floats(0, 0.99),
    seed=st.integers(0, 9),
)
def test_a_split_partitions_the_cases(names, holdout, seed):
    split = split_cases(names, holdout, seed)
    assert sorted(split.training + split.held_out) == sorted(names)
    assert split.training
    assert abs(len(split.held_out) - holdout * len(names)) <= 1


def test_a_split_depends_on_names_and_seed_alone():
    split = split_cases(NAMES, 0.3, 0)
    assert split == split_cases(reversed(NAMES), 0.3, 0)
    assert split.held_out != split_cases(NAMES, 0.3, 1).held_out
    assert len(split.held_out) == 3


def test_without_a_column_the_seed_decides():
    plain = cases(split=["", "", "", ""])
    assert split_of(plain, **BY_SEED) == split_cases(["c0", "c1", "c2", "c3"], 0.3, 0)


def test_a_manifest_decides():
    listed = cases(split=["train", "validation", "training", "val"])
    split = split_of(listed, **BY_SEED)
    assert (split.training, split.held_out) == (("c0", "c2"), ("c1", "c3"))
    assert not is_used(Case("t", ("x",), "m", split="test"))


def test_a_fold_is_kept_aside():
    split = split_of(cases(fold=["0", "1", "0", "2"]), holdout=0.2, seed=0, fold="0")
    assert (split.training, split.held_out) == (("c1", "c3"), ("c0", "c2"))
    assert "fold 0 of 0, 1, 2" in split.how


def test_a_fold_is_named_in_any_case():
    split = split_of(cases(fold=["a", "b"]), holdout=0.2, seed=0, fold=" B ")
    assert (split.training, split.held_out) == (("c0",), ("c1",))


@pytest.mark.parametrize(
    ("listed", "fold", "code", "said"),
    [
        (cases(fold=["0", "1"]), "3", "fold_missing", "folds 0, 1"),
        (cases(fold=["0", "1"]), None, "fold_missing", "--fold"),
        (cases(fold=["0", ""]), "0", "fold_missing", "without one (c1)"),
        (cases(split=["train", "val"]), "0", "fold_missing", "no column fold"),
        (cases(fold=["0", "0"]), "0", "split_empty", "0 sound cases to train on"),
        (cases(split=["train", "train"]), None, "split_empty", "0 kept aside"),
        (cases(split=["train", "tset"]), None, "split_invalid", "'tset'"),
        (cases(split=["train", ""]), None, "split_invalid", "c1: found nothing"),
    ],
)
def test_a_split_with_a_part_missing_is_refused(listed, fold, code, said):
    with pytest.raises(RequestError) as error:
        split_of(listed, holdout=0.2, seed=0, fold=fold)
    assert error.value.code == code
    assert said in str(error.value)
