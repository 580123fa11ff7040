"""Which differences make another experiment, and what a run says of itself."""

import copy
import json
import os
import subprocess

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from ltssl_jax.data import splits
from ltssl_jax.data.sources.base import Source, in_memory
from ltssl_jax.monitoring import card
from tests import toy

LABELS = np.arange(30) % 3
IMAGES = np.zeros((30, *toy.SHAPE), np.uint8)
SOURCE = Source("toys", in_memory(IMAGES, LABELS), in_memory(IMAGES, LABELS), ("a", "b", "c"))
CONFIG = {
    "seed": 0,
    "data": {
        "source": {
            "kind": "arrays",
            "root": "/data",
            "val_fraction": 0.0,
            "test_fraction": 0.2,
            "holdout_seed": 0,
        },
        "resize": "crop",
        "feed": "auto",
        "drop_last": False,
        "order": "shuffled",
    },
    "augment": {"recipe": "none", "mean": (0.5,), "std": (0.25,)},
    "model": {"name": "small_cnn", "width": 4},
    "method": {"name": "tras", "A": 2.0},
    "optim": {"name": "sgd", "schedule": "constant"},
    "ema": {"decay": 0.999},
    "train": {
        "batch_size": 64,
        "mu": 1,
        "steps": 1000,
        "steps_per_epoch": 500,
        "log_every": 100,
        "evaluate_every": 500,
        "checkpoint_every": 500,
        "eval_batch_size": 512,
    },
    "parallel": {"mode": "pmap", "num_devices": 0, "per_device_statistics": False},
}


def split(seed=0):
    return splits.long_tailed(
        LABELS,
        num_classes=3,
        num_max=5,
        imbalance_ratio=5,
        shuffle=True,
        unlabeled_num_max=5,
        seed=seed,
    )


def identity(changes=None, *, base=CONFIG, **parts):
    """The card of `base` with `{"block.field": value}` changed."""
    config = copy.deepcopy(base)
    for path, value in (changes or {}).items():
        *blocks, field = path.split(".")
        block = config
        for name in blocks:
            block = block[name]
        block[field] = value
    return card.identity(config, SOURCE, parts.get("split", split()), parts.get("num_devices", 8))


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"augment.recipe": "digits"},
        {"model.width": 8},
        {"method.A": 1.0},
        {"optim.schedule": "cosine_7_16"},
        {"ema.decay": 0.99},
        {"train.batch_size": 32},
        {"train.mu": 2},
        {"train.steps_per_epoch": 100},
        {"data.drop_last": True},
        {"data.order": "balanced"},
        {"data.resize": "pad"},
        {"data.source.holdout_seed": 1},
    ],
    ids=str,
)
def test_what_decides_the_result_is_identity(changes):
    assert identity(changes) != identity()


@pytest.mark.parametrize(
    "changes",
    [
        {"data.source.root": "/elsewhere"},
        {"data.feed": "tfdata"},
        {"parallel.mode": "shard_map", "parallel.num_devices": 4},
        {"train.log_every": 1, "train.evaluate_every": 1, "train.checkpoint_every": 1},
        {"train.eval_batch_size": 64},
    ],
    ids=str,
)
def test_what_only_decides_how_it_is_computed_is_not(changes):
    assert identity(changes) == identity()


def test_the_number_of_steps_counts_only_where_the_learning_rate_depends_on_it():
    longer, scheduled = {"train.steps": 2000}, {"optim.schedule": "cosine_7_16"}
    assert identity(longer) == identity()
    assert identity(longer | scheduled) != identity(scheduled)


def test_the_split_and_the_classes_are_identity():
    assert identity(split=split(seed=1)) != identity(split=split(seed=0))
    assert identity()["data"]["class_names"] == ("a", "b", "c")
    assert identity()["data"]["image_shape"] == toy.SHAPE


def test_the_card_is_json_and_names_versions():
    found = json.loads(json.dumps(identity()))
    assert found["versions"]["jax"] == card.versions()["jax"]
    assert {"jax", "flax", "optax", "numpy", "ltssl_jax"} <= found["versions"].keys()


def test_the_introduction_tells_configuration_data_network_and_devices():
    config = CONFIG | {"method": {"name": "tras", "warmup_epochs": 5, "nested": {"A": 2.0}}}
    state = toy.initial_state()
    lines = list(card.introduction(config, SOURCE, split(), "8 cpu devices", state))
    text = "\n".join(lines)
    assert "config.seed: 0" in lines
    assert "config.method: name=tras warmup_epochs=5 nested.A=2.0" in lines
    assert "data: toys, 3 classes, 8 x 8 x 1; 8 labeled (most 5, fewest 1 a class)" in text
    assert "30 test" in text
    num_parameters = 64 * 4 + 2 * 4 + 4 * 3 + 3
    assert f"network: {num_parameters} parameters; split {split().fingerprint[:12]}" in lines
    assert "method: tras, remembers 24 bytes on every device" in lines  # two float32 of 3 classes
    assert "note: method.warmup_epochs is 5, training has 2 epochs: what the method" in text
    assert "devices: 8 cpu devices, mapped by pmap" in lines
    assert lines[-1] == f"XLA_FLAGS: {os.environ['XLA_FLAGS']}"


@pytest.mark.parametrize(
    ("field", "value", "steps", "is_named"),
    [
        ("warmup_epochs", 200, 1000, True),
        ("warmup_epochs", 9, 1000, True),  # epochs are counted from 0, so this one is the last
        ("warmup_epochs", 9, 901, True),
        ("warmup_epochs", 8, 901, False),
        ("base.warmup_epochs", 9, 1000, True),
        ("warmup_steps", 1000, 1000, True),
        ("warmup_steps", 900, 1000, False),
        ("debias_after", 100, 1000, True),
        ("threshold_warmup", True, 1, False),
    ],
)
def test_a_warm_up_that_outlasts_the_training_is_named(field, value, steps, is_named):
    method = {"name": "darp"} | unflatten_dict({field: value}, sep=".")
    config = {"train": {"steps": steps, "steps_per_epoch": 100}, "method": method}
    said = list(card._warmups(config))
    assert [f"note: method.{field} is {value:,}, training has" in line for line in said] == (
        [True] * is_named
    )


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 bytes"), (1023, "1,023 bytes"), (33_554_432, "32 MiB")]
)
def test_sizes_are_said_in_units_of_their_own(size, words):
    assert card._size(size) == words


@pytest.mark.parametrize("steps, words", [(100, "has 1 epoch:"), (200, "has 2 epochs:")])
def test_one_epoch_is_no_epochs(steps, words):
    config = {"train": {"steps": steps, "steps_per_epoch": 100}, "method": {"warmup_epochs": 5}}
    (note,) = card._warmups(config)
    assert words in note


def test_the_number_of_devices_counts_only_where_each_has_its_own_statistics():
    own = {"parallel.per_device_statistics": True}
    assert identity() == identity(num_devices=4)
    assert identity(own) != identity()
    assert identity(own, num_devices=4) != identity(own, num_devices=8)


def told(command, steps, *, commit="abc", version="1"):
    """What `config.json` says of a run that begins so."""
    identity = {"data": {"steps": steps}, "versions": {"jax": version}}
    settings = {"train": {"steps": steps}, "identity": identity}
    return settings | {"command": command, "commit": commit}


def test_what_began_a_run_stays_on_record():
    first, second = told("first", 12), told("second", 24, commit="def", version="2")
    assert card.continued({}, second, 8) == second  # config.json was lost
    assert card.continued(first, second, 0) == second
    assert card.continued(first, told("again", 12, version="2"), 12) == first
    found = card.continued(first, second, 8)
    assert (found["command"], found["commit"]) == ("first", "abc")
    assert found["train"] == {"steps": 24}
    assert found["identity"] == {"data": {"steps": 24}, "versions": {"jax": "1"}}
    later = {"step": 8, "command": "second", "commit": "def", "versions": {"jax": "2"}}
    assert found["continued"] == [later]
    third = told("third", 24)
    expected = {"step": 16, "command": "third", "commit": "abc", "versions": {"jax": "1"}}
    assert card.continued(found, third, 16)["continued"] == [later, expected]
    # Nothing is left of what went on from there before.
    expected = [expected | {"step": 8}]
    assert card.continued(found, third, 8)["continued"] == expected


# --- the code that ran ----------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in a checkout with one commit, in which the module says it lies."""
    path = tmp_path / "package" / "monitoring" / "card.py"
    path.parent.mkdir(parents=True)
    for file in (path, path.parents[1] / "__init__.py"):
        file.write_text("")
    monkeypatch.setattr(card, "__file__", str(path))
    return path.parents[1]


def git(path, *words):
    by = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(["git", "-C", path, *by, *words], check=True, capture_output=True)
    return done.stdout.decode().strip()


def test_the_commit_is_that_of_the_package_and_says_if_it_was_changed(package):
    git(package.parent, "init", "-q")
    git(package.parent, "commit", "-qm", "another one's", "--allow-empty")
    assert card.commit() is None  # its files are not in it
    git(package.parent, "add", "package")
    git(package.parent, "commit", "-qm", "all")
    git(package.parent, "tag", "-am", "1", "v1")
    commit = git(package.parent, "rev-parse", "HEAD")
    assert card.commit() == commit and len(commit) == 40
    (package / "__init__.py").write_text("x = 1")
    assert card.commit() == f"{commit} + changes"


def test_without_a_checkout_or_git_there_is_no_commit(package, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(package.parent))
    assert card.commit() is None
    monkeypatch.setenv("PATH", "")
    assert card.commit() is None


def test_all_of_a_method_is_at_work_after_its_longest_wait():
    train = {"steps_per_epoch": 100}
    waits = {"name": "x", "warmup_epochs": 2, "base": {"warmup_steps": 250, "A": 9}}
    assert card.warmup_steps({"train": train, "method": waits}) == 250
    assert card.warmup_steps({"train": train, "method": waits | {"debias_after": 3}}) == 300
    assert card.warmup_steps({"train": train, "method": {"name": "x"}}) == 0
