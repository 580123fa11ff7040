import json
import os

import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.report import runs


def write(path, *, result=True, counts=(5, 2), **more):
    path.mkdir(parents=True, exist_ok=True)
    data = {"class_names": ["a", "b"], "labeled_counts": list(counts)}
    (path / "config.json").write_text(json.dumps({"identity": {"data": data}} | more))
    if result:
        (path / "result.json").write_text(json.dumps({"step": 3, "labeled_counts": [4, 1]}))
        np.save(path / "confusion.npy", np.eye(2, dtype=int))
    return path


def test_a_run_that_has_not_finished_says_so(tmp_path):
    run = runs.read(write(tmp_path / "run", result=False))
    assert run.result == {} and run.confusion is None and run.predictions == {}
    assert run.history == [] and run.class_names == ("a", "b")
    assert run.labeled_counts.tolist() == [5, 2]


def test_a_run_of_somebody_else_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "run")
    (path / "metrics.jsonl").write_text('{"step": 1}\n')
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert runs.read(path).history == [{"step": 1}]


def test_counts_are_those_that_were_given(tmp_path):
    run = runs.read(write(tmp_path / "run"))
    assert run.labeled_counts.tolist() == [4, 1] and run.confusion.tolist() == [[1, 0], [0, 1]]


def test_of_several_stages_the_last_one_that_has_begun_is_read(tmp_path):
    names = {"directories": ["1_first", "2_second", "3_third"], "finished": ["1_first"]}
    write(tmp_path / "1_first")
    write(tmp_path / "2_second", result=False)
    (tmp_path / "stages.json").write_text(json.dumps(names))
    run = runs.read(tmp_path)
    assert (run.path, run.records) == (tmp_path, tmp_path / "2_second")
    assert [found.path for found in runs.find(tmp_path)] == [tmp_path]


def test_runs_at_any_depth_are_found_but_neither_stages_nor_baselines(tmp_path):
    for seed in "10":
        write(tmp_path / "deep" / seed)
        write(tmp_path / "deep" / seed / runs.BASELINES / "supervised")
    write(tmp_path / "staged" / "1_only")
    (tmp_path / "staged" / "stages.json").write_text(json.dumps({"directories": ["1_only"]}))
    found = runs.find(tmp_path)
    assert [str(run.path.relative_to(tmp_path)) for run in found] == ["deep/0", "deep/1", "staged"]
    assert list(found[0].baselines) == ["supervised"] and found[2].baselines == {}


@pytest.mark.parametrize("content", [None, "{", "[]", '{"identity": {}}'])
def test_what_is_no_run_is_refused_by_name(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match="is no run"):
        runs.read(tmp_path)
    if content is None:
        with pytest.raises(InputError, match="holds no run"):
            runs.find(tmp_path)
