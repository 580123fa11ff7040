"""Adding a method is adding a file: what docs/adding_a_method.md promises."""

import pathlib
import sys

import pytest

from ltssl_jax import defaults, experiment, methods, setups

SKELETON = pathlib.Path(methods.__file__).with_name("_skeleton.py")


@pytest.fixture
def renamed_skeleton(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("my_lab")]:
        monkeypatch.delitem(sys.modules, name)
    folder = tmp_path / "my_lab"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "foo.py").write_text(SKELETON.read_text().replace("Skeleton", "Foo"))
    return folder


def small(method):
    config = defaults.smoke(setups.digits())
    config.method = method
    config.model = defaults.small_cnn(4)
    return config


def test_a_file_in_the_package_is_a_method(renamed_skeleton, tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(renamed_skeleton)])
    assert "foo" in methods.names()
    result = experiment.train(small(defaults.method("foo")), tmp_path / "run", is_quiet=True)
    assert result["method"] == {"name": "foo", "threshold": 0.95}
    assert result["test"]["num_images"] == 500


def test_so_is_one_in_a_package_of_your_own(renamed_skeleton, monkeypatch):
    monkeypatch.syspath_prepend(str(renamed_skeleton.parent))
    method = methods.make("my_lab.foo", threshold=0.8)
    assert method == sys.modules["my_lab.foo"].Foo(0.8)
    assert defaults.method("my_lab.foo") == {"name": "my_lab.foo", "threshold": 0.95}


def test_a_file_without_its_last_line_says_so(renamed_skeleton, monkeypatch):
    text = (renamed_skeleton / "foo.py").read_text().replace("METHOD = Foo", "")
    (renamed_skeleton / "bar.py").write_text(text)
    monkeypatch.syspath_prepend(str(renamed_skeleton.parent))
    with pytest.raises(methods.InputError, match="bar.py has no line `METHOD = <class>`"):
        methods.make("my_lab.bar")
