"""The files of a run: complete or absent, readable by anybody, rewound when a run resumes."""

import json
import math
import os
import pathlib

import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.monitoring.records import RunDirectory, history


@pytest.fixture
def records(tmp_path):
    return RunDirectory(tmp_path / "runs" / "0")


def text(records, name="metrics.jsonl"):
    return (records.path / name).read_text()


def test_records_come_back(records):
    lines = [{"step": 1, "loss": 0.5}, {"step": 2, "kind": "train", "loss": 0.25}]
    for line in lines:
        records.append(line)
    assert records.history() == lines
    assert text(records).count("\n") == 2


def test_numpy_paths_and_tuples_become_json(records):
    records.write_json(
        "config.json",
        {
            "counts": np.array([[1, 2], [3, 4]]),
            "scalar": np.float32(0.5),
            "number": np.int64(3),
            "sizes": (1, (2, 3)),
            "root": pathlib.Path("data") / "cats",
            "flag": np.bool_(True),
            "by_class": {0: None},
        },
    )
    assert json.loads(text(records, "config.json")) == {
        "counts": [[1, 2], [3, 4]],
        "scalar": 0.5,
        "number": 3,
        "sizes": [1, [2, 3]],
        "root": os.path.join("data", "cats"),
        "flag": True,
        "by_class": {"0": None},
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_what_json_lacks_becomes_null(records, value):
    records.append({"step": 1, "few": value, "list": [value, np.array([1.0, value])]})
    assert text(records) == '{"step": 1, "few": null, "list": [null, [1.0, null]]}\n'


def test_a_line_cut_off_by_a_crash_is_left_out(records):
    for step in (1, 2):
        records.append({"step": step})
    whole = text(records)
    (records.path / "metrics.jsonl").write_text(whole + '{"step": 3, "lo')
    assert records.history() == [{"step": 1}, {"step": 2}]
    records.rewind(2)
    records.append({"step": 3})
    assert records.history() == [{"step": 1}, {"step": 2}, {"step": 3}]


@pytest.mark.parametrize("damage", [b'{"step": 2, "x"\xff}', b'{"step": null}', b"[2]", b"\xff"])
def test_a_damaged_line_costs_no_other(records, damage):
    whole = b'{"step": 1}\n' + damage + b'\n{"step": 3, "text": "caf\xe9"}\n'
    (records.path / "metrics.jsonl").write_bytes(whole)
    assert records.history() == [{"step": 1}, {"step": 3, "text": "caf\ufffd"}]
    records.rewind(1)
    assert records.history() == [{"step": 1}]


def test_reading_leaves_a_directory_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # somebody else's
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    assert history(tmp_path) == [{"step": 1}]
    assert history(tmp_path / "none") == [] and not (tmp_path / "none").exists()


def test_rewinding_drops_what_a_resumed_run_repeats(records):
    for step in (2, 4, 4, 6):
        records.append({"step": step, "loss": 1 / 3})
    records.rewind(4)
    assert records.history() == [{"step": step, "loss": 1 / 3} for step in (2, 4, 4)]
    records.rewind(0)
    assert records.history() == []


def test_a_new_run_has_no_history(records):
    assert records.history() == []
    records.rewind(0)
    assert records.history() == []


def test_confusion_is_kept_exactly(records):
    matrix = np.array([[2**40, 1], [0, 3]])
    records.write_confusion(matrix)
    found = np.load(records.path / "confusion.npy")
    np.testing.assert_array_equal(found, matrix)
    assert found.dtype == matrix.dtype


@pytest.mark.parametrize("name", ["result.json", "confusion.npy"])
def test_a_file_is_replaced_whole_or_not_at_all(records, monkeypatch, name):
    records.write_json("result.json", {"step": 1})
    records.write_confusion(np.eye(2))
    before = (records.path / name).read_bytes()

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pathlib.Path, "replace", crash)  # everything was written but not yet named
    with pytest.raises(KeyboardInterrupt):
        records.write_json("result.json", {"step": 2})
    with pytest.raises(KeyboardInterrupt):
        records.write_confusion(np.ones((2, 2)))
    assert (records.path / name).read_bytes() == before


def test_nothing_but_the_promised_files_is_left(records):
    records.append({"step": 1})
    records.rewind(1)
    records.write_json("config.json", {})
    records.write_confusion(np.eye(2))
    names = {path.name for path in records.path.iterdir()}
    assert names == {"metrics.jsonl", "config.json", "confusion.npy"}


def test_only_the_first_process_writes(tmp_path):
    records = RunDirectory(tmp_path, is_writer=False)
    records.append({"step": 1})
    records.rewind(0)
    records.write_json("config.json", {})
    records.write_confusion(np.eye(2))
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "0"):
        with pytest.raises(InputError, match="--workdir .*file.* cannot be used .* choose another"):
            RunDirectory(path)


def test_an_unwritable_directory_is_refused(tmp_path, monkeypatch):
    # Asked of the system, since permissions do not bind everybody who runs tests.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(InputError, match="cannot be used .it is not writable.; choose another"):
        RunDirectory(tmp_path)
    with pytest.raises(InputError, match="^--out .* cannot be used"):
        RunDirectory(tmp_path, flag="--out")
