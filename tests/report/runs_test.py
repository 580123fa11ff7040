import json
import os

import numpy as np
import pytest

from ltssl_jax import written
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
    assert [found.path for found in runs.find(tmp_path)[0]] == [tmp_path]


def test_runs_at_any_depth_are_found_but_neither_stages_nor_baselines(tmp_path):
    for seed in "10":
        write(tmp_path / "deep" / seed)
        write(tmp_path / "deep" / seed / runs.BASELINES / "supervised")
    write(tmp_path / "staged" / "1_only")
    (tmp_path / "staged" / "stages.json").write_text(json.dumps({"directories": ["1_only"]}))
    found, reasons = runs.find(tmp_path)
    assert [str(run.path.relative_to(tmp_path)) for run in found] == ["deep/0", "deep/1", "staged"]
    assert reasons == []
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


def staged(path, *names, **told):
    """Writes an experiment of finished stages, each grown by some pseudo-labels."""
    for number, name in enumerate(names):
        write(path / name, counts=(5 + number, 2 + number), **told)
    path.joinpath("stages.json").write_text(json.dumps({"directories": names}))
    return path


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_labeled_images_of_an_unfinished_generation_are_those_of_the_first(tmp_path):
    path = staged(tmp_path / "grown", "1_base", "2_grow")
    (path / "2_grow" / "result.json").unlink()
    run = runs.read(path)
    assert run.labeled_counts.tolist() == [5, 2]
    assert [one.records.name for one in run.stages] == ["1_base", "2_grow"]


def test_stages_that_an_older_version_wrote_are_found(tmp_path):
    path = staged(tmp_path, "1_base", "2_grow")
    (path / "stages.json").write_text(json.dumps({"finished": ["1_base", "2_grow"]}))
    assert runs.read(path).records.name == "2_grow"
    assert written.last_stage(path).name == "1_base"  # neither has a checkpoint
    (path / "2_grow/checkpoints/4").mkdir(parents=True)
    assert written.last_stage(path).name == "2_grow"


@pytest.mark.parametrize("stated", ['["1_a"]', '{"directories": [{"name": "1_a"}]}', "{}", "{"])
def test_damaged_lists_of_stages_name_none(tmp_path, stated):
    write(tmp_path / "run")
    (tmp_path / "run" / "stages.json").write_text(stated)
    assert runs.read(tmp_path / "run").records == tmp_path / "run"
    assert written.last_stage(tmp_path / "run") == tmp_path / "run"


def put(name, value, *keys):
    def change(content):
        for key in keys[:-1]:
            content = content.setdefault(key, {})
        content[keys[-1]] = value

    return lambda path: edit(path / name, change)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (put("config.json", None, "identity", "data", "class_names"), "lacks identity.data.class_"),
        (put("config.json", None, "identity", "data", "labeled_counts"), "lacks .*labeled_counts"),
        (put("config.json", "x", "identity"), "lacks identity.data"),
        (put("config.json", ["x"], "identity"), "lacks identity.data"),
        (put("config.json", ["x"], "identity", "data"), "lacks identity.data"),
        (put("config.json", "tras", "method"), "config.json is damaged .* lacks method"),
        (put("config.json", None, "train"), "lacks train"),
        (put("result.json", None, "step"), "result.json is damaged .* lacks step"),
        (put("result.json", "x", "test"), "lacks test"),
        (put("result.json", {"balanced_accuracy": 1.0}, "test"), "lacks test.num_images"),
        (lambda path: (path / "confusion.npy").write_bytes(b""), "confusion.npy cannot be read"),
        (lambda path: np.save(path / "confusion.npy", np.eye(3)), "confusion.npy cannot be read"),
    ],
)
def test_damaged_runs_are_refused_by_name_or_left_out(tmp_path, damage, said):
    damage(write(tmp_path / "damaged"))
    with pytest.raises(InputError, match=said):
        runs.find(tmp_path)
    write(tmp_path / "whole")
    found, (reason,) = runs.find(tmp_path)
    assert [run.path.name for run in found] == ["whole"] and "damaged" in reason


def test_what_is_no_run_hides_no_other(tmp_path):
    for place in (".", "a_model"):
        tmp_path.joinpath(place).mkdir(exist_ok=True)
        (tmp_path / place / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/stages.json").write_text('{"directories": ["1_a"]}')
    write(tmp_path / "run")
    found, reasons = runs.find(tmp_path)
    assert [run.path.name for run in found] == ["run"]
    assert len(reasons) == 3 and all("is no run" in reason for reason in reasons)


def test_a_damaged_baseline_takes_nothing_else_with_it(tmp_path):
    for name in ("supervised", "other"):
        write(tmp_path / runs.BASELINES / name)
    run = runs.read(write(tmp_path))
    (tmp_path / runs.BASELINES / "other" / "confusion.npy").write_bytes(b"no array")
    assert list(run.baselines) == ["supervised"]
    assert len(run.damaged_baselines) == 1 and "other" in run.damaged_baselines[0]
