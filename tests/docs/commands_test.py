"""Every command that the pages show can be typed: files, flags, fields and values exist."""

import copy
import functools
import importlib
import re

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from ltssl_jax import defaults, methods, sweep
from ltssl_jax.sweeping import grid
from tests.docs import pages
from tests.docs.pages import PAGES, ROOT

SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")
SCRIPTS = dict(re.findall(r'"(ltssl-\w+) = (ltssl_jax[\w.]+):cli"', SETUP))
TYPED_AS = {module.removesuffix(".__main__"): module for module in SCRIPTS.values()}
ROOMS = "benchmarks|configs|docs|launch|ltssl_jax|tests"
PACKAGE = ROOT / "ltssl_jax"
MADE_UP = "foo"  # the name of what a reader is about to write


@pytest.fixture(params=PAGES, ids=pages.named)
def page(request, monkeypatch):
    monkeypatch.chdir(ROOT)
    return request.param.read_text(encoding="utf-8")


def split(words):
    """The module of a command of ours, or nothing, and what is typed after it."""
    words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
    if words[:2] == ["python", "-m"] and words[2].split(".")[0] == "ltssl_jax":
        assert words[2] in TYPED_AS, f"{words[2]} is no command"
        return TYPED_AS[words[2]], words[3:]
    return SCRIPTS.get(words[0], ""), words[1:]


def accepts(name, typed):
    """Parses what is typed as the command does: an unknown flag, or a value of no use, raises."""
    module = importlib.import_module(name)
    if module is sweep:
        what = grid.asked(typed)
        parsed = copy.deepcopy(sweep.FLAGS)([name, *what.others])
        assert len(parsed) == 1 and list(grid.trials(what, [0], ROOT))
    elif isinstance(getattr(module, "FLAGS", None), flags.FlagValues):
        copy.deepcopy(module.FLAGS)([name, *typed])
    else:
        values, argv = flags.FlagValues(), [name, *typed]
        made = config_flags.DEFINE_config_file(
            "config", None, flag_values=values, sys_argv=argv, lock_config=True
        )
        for owner in {"ltssl_jax.main", name}:
            for flag in flags.FLAGS.flags_by_module_dict().get(owner, ()):
                if flag.name != "config":
                    values[flag.name] = copy.deepcopy(flag)
        assert len(values(argv)) == 1 and made.value.train.steps


def test_commands_of_the_library_are_accepted(page):
    for words in pages.commands(page):
        name, typed = split(words)
        if name and typed:  # a command alone is only mentioned
            accepts(name, typed)


def sources(script):
    """The text of a script, and of the scripts beside it that it imports."""
    text = (ROOT / script).read_text(encoding="utf-8")
    imported = re.findall(r"^(?:from|import) ([\w, ]+)", text, re.M)
    files = [(ROOT / script).with_name(f"{name}.py") for name in re.findall(r"\w+", str(imported))]
    return text + "".join(file.read_text(encoding="utf-8") for file in files if file.exists())


def test_scripts_exist_and_have_the_flags(page):
    for words in pages.commands(page):
        for script in [word for word in words if re.fullmatch(r"(benchmarks|launch)/\S+", word)]:
            known = sources(script)
            given = [re.match(r"--([\w-]+)", word) for word in words if script.endswith(".py")]
            for flag in filter(None, given):
                assert f'"--{flag[1]}"' in known, f"{script} has no --{flag[1]}"


def test_files_that_are_named_exist(page):
    for name in re.findall(rf"(?<![\w/.])(?:{ROOMS})/[\w/.*-]*\w", page):
        if MADE_UP not in name:
            assert any(ROOT.glob(name)), f"{name} is named, and is not there"


def test_extras_that_are_named_exist(page):
    for extra in re.findall(r'pip install -e "\.\[([\w,]+)\]"', page):
        assert set(extra.split(",")) <= set(re.findall(r'^ {8}"(\w+)": \[', SETUP, re.M))


@functools.cache
def fields():
    """Every field that a configuration can have, whatever its method, network and stages."""
    config = defaults.base()
    kinds = [ConfigDict(dict(method=defaults.method(name))) for name in methods.names()]
    kinds += [ConfigDict(dict(method=dict(base=kind.method))) for kind in kinds]
    kinds += [
        ConfigDict(dict(model=make(2))) for make in (defaults.small_cnn, defaults.cifar_resnet)
    ]
    kinds += [ConfigDict(dict(model=defaults.wide_resnet(10, 1)))]
    return {name for kind in (config, *kinds) for name in paths(kind.to_dict())}


def paths(block, prefix=""):
    for name, value in block.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from paths(value, f"{prefix}{name}.")


def is_module(name):
    """Is it a part of the package, `data.splits.long_tailed`, and no field?"""
    parts = name.split(".")
    return any((PACKAGE / "/".join(parts[:n])).with_suffix(".py").exists() for n in (1, 2))


def test_fields_that_are_named_exist(page):
    blocks = "|".join(defaults.base())
    for code in pages.inline(page):
        for flag, name in re.findall(
            rf"^(--config\.)?((?:{blocks})(?:\.[a-z]\w*)+)(?=[= ]|$)", code
        ):
            is_field = name in fields() or not flag and (is_module(name) or name.endswith(".py"))
            assert is_field, f"{name} is no field of a configuration"


def test_every_command_is_explained_and_can_be_found():
    start = (ROOT / "docs/start.md").read_text(encoding="utf-8")
    others = "".join(path.read_text(encoding="utf-8") for path in PAGES if path.name != "start.md")
    for script, module in SCRIPTS.items():
        command = f"python -m {module.removesuffix('.__main__')}"
        assert f"`{command}`" in start and f"`{script}`" in start, script
        assert command in others, f"no page explains {command}"
        assert callable(importlib.import_module(module).cli)


def test_the_published_numbers_are_those_on_top_of_the_configurations():
    text = (ROOT / "docs/reproducing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(configs/\w+\.py)` \| .*? \| (.*?) \| (.*?) \|$", text, re.M)
    assert len(rows) > 20
    for path, published, _ in rows:
        note = (ROOT / path).read_text(encoding="utf-8")
        for number in re.findall(r"\d+\.\d+", published):
            assert number in note, f"{path} does not say {number}"


# --- blocks of Python -----------------------------------------------------------------------------


def test_python_can_be_parsed_and_what_is_marked_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = {}
    for block in pages.blocks(page, "python"):
        if not re.match(r"# \S+\.py\n", block.text):  # a quote of a file
            code = compile(block.text, "page", "exec")
            if block.mark == "runs":
                exec(code, known)
