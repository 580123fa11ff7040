"""What TensorBoard and Weights & Biases receive, and what is said where they are missing."""

import builtins
import json
import sys
import types

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from ltssl_jax.core import InputError
from ltssl_jax.monitoring import pictures, sinks

LINE = {
    "step": 50,
    "kind": "train",
    "loss": 1.5,
    "pseudo/base/kept": [3.0, 0.5, 0.0],
}
EVALUATION = {"step": 60, "kind": "evaluation", "scored_by": "head base", "test/few": None}
EVALUATION |= {"test/accuracy": 0.5, "test/recall_per_class": [0.5, None, 1.0]}
ALARM = {"step": 70, "kind": "alarm", "name": "starving", "text": "the devices wait"}


def opened(path, step=0, **asked):
    asked = {"tensorboard": False, "wandb": ""} | asked
    return sinks.opened(path, step, {"seed": 5}, **asked)


def events(path):
    """Reads event files as TensorBoard does: lengths, checksums, messages."""
    found = []
    for file in sorted((path / "tensorboard").iterdir()):
        content = file.read_bytes()
        while content:
            size = int.from_bytes(content[:8], "little")
            message, check = content[12 : 12 + size], content[12 + size : 16 + size]
            assert masked_crc32c(message) == int.from_bytes(check, "little")
            found.append(Event.FromString(message))
            content = content[16 + size :]
    return found


def values(path):
    """What was said, by step and name."""
    made = events(path)
    return {(event.step, value.tag): value for event in made for value in event.summary.value}


def test_nothing_is_opened_unasked(tmp_path):
    assert opened(tmp_path) == () and not any(tmp_path.iterdir())


def test_tensorboard_receives_numbers_lists_alarms_and_pictures(tmp_path):
    (sink,) = opened(tmp_path, tensorboard=True)
    for line in (LINE, EVALUATION, ALARM):
        sink.record(line)
    sink.picture("views", 0, np.full((4, 6, 3), 7, np.uint8))
    sink.close()
    found = values(tmp_path)
    assert found.keys() == {
        (50, "loss"),
        (50, "pseudo/base/kept"),
        (60, "test/accuracy"),
        (60, "test/recall_per_class"),
        (70, "alarm/starving/text_summary"),
        (0, "views"),
    }
    assert found[50, "loss"].simple_value == 1.5
    kept = found[50, "pseudo/base/kept"].histo
    assert list(kept.bucket) == [3.0, 0.5, 0.0] and list(kept.bucket_limit) == [1, 2, 3]
    assert list(found[60, "test/recall_per_class"].histo.bucket) == [0.5, 0.0, 1.0]
    assert b"the devices wait" in found[70, "alarm/starving/text_summary"].tensor.string_val[0]
    assert (found[0, "views"].image.height, found[0, "views"].image.width) == (4, 6)


@pytest.mark.parametrize("step, starts", [(0, []), (50, [51])])
def test_a_resumed_run_has_its_repeated_steps_forgotten(tmp_path, step, starts):
    (sink,) = opened(tmp_path, step, tensorboard=True)
    sink.close()
    assert [e.step for e in events(tmp_path) if e.session_log.status == SessionLog.START] == starts


class Run:
    """A run of a module that stands where wandb stands."""

    def __init__(self, **how):
        self.how, self.id, self.logged, self.alerts = how, how["id"] or "new", [], []

    def log(self, values, step):
        self.logged.append((step, values))

    def alert(self, title, text):
        self.alerts.append((title, text))

    def finish(self):
        self.logged.append("finished")


@pytest.fixture
def wandb(monkeypatch):
    runs = []
    fake = types.ModuleType("wandb")
    fake.init = lambda **how: runs.append(Run(**how)) or runs[-1]
    fake.Histogram = lambda np_histogram: ("histogram", *map(list, np_histogram))
    fake.Image = lambda image: ("image", image.shape)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return runs


def test_wandb_receives_the_same_and_a_resumed_run_is_the_same_run(tmp_path, wandb):
    (sink,) = opened(tmp_path, wandb="tails")
    for line in (LINE, ALARM):
        sink.record(line)
    sink.picture("views", 0, np.zeros((4, 6, 3), np.uint8))
    sink.close()
    (run,) = wandb
    assert run.how["project"] == "tails" and run.how["config"] == {"seed": 5}
    assert run.logged == [
        (50, {"loss": 1.5, "pseudo/base/kept": ("histogram", [3.0, 0.5, 0.0], [0, 1, 2, 3])}),
        (70, {}),
        (0, {"views": ("image", (4, 6, 3))}),
        "finished",
    ]
    assert run.alerts == [("starving", "the devices wait")]
    run.id = json.loads((tmp_path / "wandb.json").read_text())["id"]
    opened(tmp_path, 50, wandb="tails")
    assert wandb[0].how["id"] is None and wandb[1].how["id"] == "new"


@pytest.mark.parametrize(
    "asked, package", [(dict(tensorboard=True), "tensorboardX"), (dict(wandb="p"), "wandb")]
)
def test_a_missing_package_is_named_with_its_remedy(tmp_path, monkeypatch, asked, package):
    load = builtins.__import__

    def without(name, *rest):
        if name == package:
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=f"pip install {package}, or leave monitoring"):
        opened(tmp_path, **asked)


# --- pictures -------------------------------------------------------------------------------------


def test_a_confusion_is_darker_where_more_is():
    picture = pictures.confusion(np.array([[90, 0], [1, 1]]), ("cat", r"$\dog$"))
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    blues = {
        tuple(color) for color in picture.reshape(-1, 3).astype(int) if color[2] > color[0] + 30
    }
    assert len(blues) > 2
    other = pictures.confusion(np.array([[45, 45], [1, 1]]), ("cat", "[dog]"))
    assert not np.array_equal(picture, other)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["\u732b", "caf\udce9"])  # no such glyph, no such text
def test_any_name_of_a_class_can_be_drawn(name):
    assert pictures.confusion(np.eye(2), ("cat", name)).ndim == 3


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_sheet_has_a_row_for_each_image_and_its_views_in_order(channels):
    columns = np.zeros((2, 3, 64, 64, channels), np.float32)
    columns[1, 2] = 5.0
    columns[0, 0] = -5.0
    sheet = pictures.sheet(columns)
    assert sheet.shape == (3 * 66, 2 * 66, 3) and sheet.dtype == np.uint8
    assert np.all(sheet[2 * 66 : 2 * 66 + 64, 66 : 66 + 64] == 255)
    assert np.all(sheet[:64, :64] == 0) and np.all(sheet[:64, 66 : 66 + 64] == 127)


def test_small_images_are_enlarged():
    assert pictures.sheet(np.zeros((1, 1, 8, 8, 1), np.float32)).shape == (66, 66, 3)
