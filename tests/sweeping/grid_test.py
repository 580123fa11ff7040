"""Command lines of sweeps: what is an axis, what a run is called, what is refused."""

import pathlib

import pytest

from ltssl_jax import stages
from ltssl_jax.core import InputError
from ltssl_jax.sweeping import grid

CONFIG = "--config=configs/tras_digits.py"
ROOT = pathlib.Path("sweep")


def trials(*arguments, seeds=(0,)):
    return list(grid.trials(grid.asked([CONFIG, *arguments]), seeds, ROOT))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.9,0.95", ["0.9", "0.95"]),
        ("0.9", ["0.9"]),
        ("(1,2),(3,4)", ["(1,2)", "(3,4)"]),
        ("(1,(2,3))", ["(1,(2,3))"]),
        ("[1,2], [3]", ["[1,2]", "[3]"]),
        ("'a,b',c", ["a,b", "c"]),
        ('"a,b"', ["a,b"]),
        ('"it\'s, so",x', ["it's, so", "x"]),
        ("'(',')'", ["(", ")"]),
        ("", [""]),
    ],
)
def test_commas_outside_brackets_and_quotes_cut(text, values):
    assert grid.split(text) == values


def test_a_command_line_is_taken_apart():
    typed = "--seeds 0,1 --config configs/own_images.py:small --config.train.mu 1,2 --noconfig.b"
    found = grid.asked(
        [*typed.split(), "--config.model.name='a,b'", "--config.c", "--config.d.e=(1,2)", "-jobs=2"]
    )
    assert found.config == (
        "--config=configs/own_images.py:small",
        "--noconfig.b",
        "--config.model.name=a,b",
        "--config.c",
        "--config.d.e=(1,2)",
    )
    assert found.axes == {"train.mu": ("1", "2")}
    assert found.others == ("--seeds=0,1", "-jobs=2")


def test_known_axes_are_axes_with_one_value_and_in_their_order():
    typed = ["--config.a=1", "--config.b=2", "--config.c=3"]
    found = grid.asked(typed, ["c", "a"])
    assert list(found.axes.items()) == [("c", ("3",)), ("a", ("1",))]
    assert found.config == ("--config.b=2",)


def test_a_run_for_every_point_and_seed():
    found = trials("--config.method.threshold=0.90,0.95", "--config.train.mu=1", seeds=(3, 5))
    assert [str(one.directory) for one in found] == [
        f"sweep/threshold={t}/{seed}" for t in ("0.9", "0.95") for seed in (3, 5)
    ]
    one = found[3]
    assert (one.name, one.seed) == ("threshold=0.95, seed 5", 5)
    assert one.config.seed == one.config.data.split.seed == 5
    assert one.config.method.threshold == 0.95 and one.config.train.mu == 1
    assert " ".join(one.command) == (
        f"python -m ltssl_jax.main {CONFIG} --config.train.mu=1 --config.method.threshold=0.95"
        " --config.seed=5 --workdir=sweep/threshold=0.95/5"
    )


def test_seeds_alone():
    found = trials(seeds=(0, 1))
    assert [(str(one.directory), one.name) for one in found] == [
        ("sweep/0", "seed 0"),
        ("sweep/1", "seed 1"),
    ]


@pytest.mark.parametrize("seed_first", [True, False])
def test_the_split_has_a_seed_of_its_own_where_it_is_given(seed_first):
    typed = ["--config.seed=1", "--config.data.split.seed=5"]
    found = grid.configured([CONFIG, *(typed if seed_first else typed[::-1])])
    for config in (found, stages.without_stages(found), found.copy_and_resolve_references()):
        assert (config.seed, config.data.split.seed, config.data.source.holdout_seed) == (1, 5, 0)
    assert [one.config.data.split.seed for one in trials(typed[1], seeds=(0, 1))] == [5, 5]


def test_the_seed_of_the_split_may_be_an_axis():
    found = trials("--config.data.split.seed=0,1", seeds=(3, 4))
    seeds = [(one.config.data.split.seed, one.config.seed) for one in found]
    assert seeds == [(0, 3), (0, 4), (1, 3), (1, 4)]
    assert found[0].directory == ROOT / "data.split.seed=0/3"


def test_booleans_strings_and_tuples_have_values_too():
    found = trials(
        "--config.data.split.overlap=true,False",
        "--config.model.name=small_cnn,'x, y/..'",
        "--config.data.split.labeled_counts=(5,4),(3,)",
    )
    assert len(found) == 8
    assert {one.config.data.split.overlap for one in found} == {True, False}
    assert {one.config.data.split.labeled_counts for one in found} == {(5, 4), (3,)}
    assert found[0].point == "overlap=True,name=small_cnn,labeled_counts=(5, 4)"
    for one in found:
        assert one.directory.parent.parent == ROOT and ".." not in one.directory.parts
        assert not set(one.directory.parent.name) & set(" /()'")


def test_names_are_safe_and_differ_where_values_do():
    values = ["a b", "a/b", "a_b", "a" * 300, "a" * 299, ""]
    names = [grid.directory_name({"x.y": value}) for value in values]
    assert len(set(names)) == len(values) and names[2] == "y=a_b"
    assert all(len(name) < 80 and "/" not in name for name in names)


def test_fields_of_one_last_name_keep_the_whole():
    assert grid.label({"a.name": 1, "b.name": 2}) == "a.name=1,b.name=2"
    assert grid.label({"a.name": 1, "b.size": 2}) == "name=1,size=2"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--config.method.threshold=0.9,", "threshold=0.9, has an empty value"),
        ("--config.method.threshold=0.9,0.90", "threshold=0.90 stands twice"),
        ("--config.method.threshold=0.2,0.2", "threshold=0.2 stands twice"),
        ("--config.method.threshold=0.2,0.3,0.2", "threshold=0.2 stands twice"),
        ("--config.seed=0,1", "--seeds=0,1"),
        ("--config.seed=3", "--seeds=3"),
        ("--config.data.split.labeled_counts=5,4", "labeled_counts is a tuple.*=.[(]1,2.*'5'"),
    ],
)
def test_what_cannot_be_meant_is_refused(typed, said):
    with pytest.raises(InputError, match=said):
        trials(typed)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--config.method.treshold=0.9,0.95", "treshold.*did you mean 'threshold'"),
        ("--config.train.step=1", "train.step.*did you mean 'steps'"),
        ("--config.method.threshold=0.9,high", "'high'"),
    ],
)
def test_misspelt_fields_and_values_end_the_program(typed, said):
    with pytest.raises(SystemExit, match=said):
        trials(typed)


@pytest.mark.parametrize(
    "typed",
    [
        "--config.train.steps=10,20 --config.train.steps=30",
        "--config.train.steps 10 -config.train.steps=10,20",
        "--config.train.steps=10 --config.train.mu=1 --noconfig.train.steps",
    ],
)
def test_a_field_with_two_flags_is_refused(typed):
    with pytest.raises(InputError, match="--config.train.steps is given twice; drop one"):
        trials(*typed.split())


@pytest.mark.parametrize("typed", ["--config=configs/no.py", "-config=configs/no.py"])
def test_a_missing_file_is_named(typed):
    with pytest.raises(InputError, match=f"^{typed} cannot be read; is the path"):
        grid.configured([typed, "--config.train.steps=2"])
