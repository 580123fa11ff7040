import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.deployment import class_priors

NAMES, COUNTS = ("cat", "a dog, small", "2"), np.array([6, 3, 1])


def named(said):
    return class_priors.named(str(said), NAMES, COUNTS)


def test_words():
    assert named("network") is None
    np.testing.assert_allclose(named("uniform"), 1 / 3)
    np.testing.assert_allclose(named("train"), [0.6, 0.3, 0.1])


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("p.csv", 'class,prior\n2,0.5\n"a dog, small",0\ncat,1.5\n'),
        ("p.tsv", "count\tclass\n20\t2\n0\ta dog, small\n60\tcat\n"),
        ("p.json", '{"2": 5, "cat": 15, "a dog, small": 0.0}'),
    ],
)
def test_files_go_by_name_and_are_normalized(file, text, tmp_path):
    (tmp_path / file).write_text(text)
    np.testing.assert_allclose(named(tmp_path / file), [0.75, 0, 0.25])


def test_names_with_characters_that_nobody_sees_are_found(tmp_path):
    (tmp_path / "p.csv").write_text("class,prior\na\ufeffb\u2066,3\nc,1\n", encoding="utf-8")
    for name in ("a\ufeffb\u2066", "a\\ufeffb\\u2066"):
        found = class_priors.named(str(tmp_path / "p.csv"), (name, "c"), np.ones(2))
        np.testing.assert_allclose(found, [0.75, 0.25])


HEAD = "class,prior\ncat,1\n"


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("p.csv", HEAD + "2,1\n", "lacks 'a dog, small'; give every class"),
        ("p.csv", HEAD + "cats,1\n", "class 'cats' is unknown; did you mean 'cat'"),
        ("p.csv", HEAD + "cat,2\n", "the class 'cat' twice"),
        ("p.csv", HEAD + "2,-1\n", "class '2' is '-1'; it must be a number"),
        ("p.csv", HEAD + "2,nan\n", "class '2' is 'nan'"),
        ("p.csv", HEAD + "2,many\n", "class '2' is 'many'"),
        ("p.csv", "name,prior\ncat,1\n", "columns name, prior; name them class"),
        ("p.json", '{"cat": 0, "2": 0, "a dog, small": 0}', "gives every class 0"),
        ("p.json", '{"cat": [1]}', "class 'cat' is"),
        ("p.json", '[["cat", 1]]', "holds no object"),
        ("p.json", "{", "cannot be read as JSON"),
        ("gone.csv", None, "gone.csv' *.*is no file; give one, or network, uniform or train"),
    ],
)  # fmt: skip
def test_what_is_no_prior_is_refused(file, text, said, tmp_path):
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=said):
        named(tmp_path / file)
