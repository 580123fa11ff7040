"""Imports only point down, code stays short, nothing heavy is loaded by importing the package."""

import ast
import fnmatch
import graphlib
import importlib.util
import pathlib
import subprocess
import sys

import pytest

PACKAGE = "ltssl_jax"
ROOT = pathlib.Path(__file__).parents[1] / PACKAGE

# Module pattern -> (modules of this package, third-party packages) it may import; a name allows all
# below it. The first pattern that fits counts. Everybody may import the standard library and the
# bare package, which holds the version.
STEP = " ".join(
    f"training.{m}" for m in ("audit", "forward", "step", "state", "optim", "adam", "ema")
)
NUMBERS = "evaluation.confusion evaluation.metrics evaluation.predictions"
BELOW_4 = f"core data augment models losses memory methods parallel {STEP} {NUMBERS}"
BELOW_5 = f"{BELOW_4} training evaluation checkpoint monitoring"
BELOW_6 = f"{BELOW_5} defaults planning experiment stages handover written trained setups baselines"
STATISTICS = "evaluation.calibration evaluation.comparison evaluation.priors evaluation.reweighting"
ARRAYS = "jax flax optax numpy"
FLOORS = {
    # 6: commands
    "main": ("core parallel baselines", "absl jax ml_collections"),
    "inspect": (f"{BELOW_6} inspection main", "absl jax numpy ml_collections"),
    "predict": (f"{BELOW_6} command main deployment report", "absl jax numpy ml_collections"),
    "evaluate": (f"{BELOW_6} command main deployment report", "absl jax numpy ml_collections"),
    "suggest": (f"{BELOW_6} command main deployment report", "absl jax numpy ml_collections"),
    "sweep": (f"{BELOW_6} main report sweeping", "absl jax numpy rich"),
    "sweeping.*": ("core main stages sweeping training.loop", "absl flax ml_collections"),
    "export": (
        f"{BELOW_6} command main deployment report exporting",
        "absl jax numpy ml_collections",
    ),
    "report.__main__": (f"{BELOW_6} command main report", "absl"),
    "command": ("core parallel", "absl"),
    # 5: the story, and the only readers of configs
    "defaults": (BELOW_5, "ml_collections"),
    "setups": ("defaults", "ml_collections"),
    "baselines": (f"{BELOW_5} defaults experiment stages report", f"{ARRAYS} ml_collections"),
    "estimator": (f"{BELOW_6}", f"{ARRAYS} ml_collections sklearn"),
    "planning": (BELOW_5, f"{ARRAYS} ml_collections"),
    "experiment": (f"{BELOW_5} planning", f"{ARRAYS} ml_collections"),
    "stages": (f"{BELOW_5} experiment handover", f"{ARRAYS} ml_collections"),
    "handover": (f"{BELOW_5} planning trained", f"{ARRAYS} ml_collections"),
    "written": (BELOW_5, f"{ARRAYS} ml_collections"),
    "trained": (f"{BELOW_5} planning written", f"{ARRAYS} ml_collections"),
    # 4: the host's side of a run
    "training.loop": (BELOW_4, ARRAYS),
    "evaluation.evaluate": (BELOW_4, ARRAYS),
    "checkpoint": (BELOW_4, f"{ARRAYS} orbax etils.epath"),  # the path type of Orbax
    "monitoring.*": (f"{BELOW_4} monitoring", f"{ARRAYS} rich matplotlib tensorboardX wandb"),
    # beside the commands: a trained network for other programs; what people read afterwards
    "exporting.*": (
        "core evaluation deployment report written trained exporting",
        f"{ARRAYS} ml_collections tensorflow jax2onnx onnx onnxruntime safetensors",
    ),
    "deployment.*": (
        "core data evaluation monitoring report.runs deployment",
        "numpy rich jinja2 PIL",
    ),
    "report.*": ("core data evaluation monitoring report", "numpy rich matplotlib jinja2 PIL"),
    # 3: one step, on any devices
    "parallel": ("core", "jax numpy"),
    "training.*": (f"core losses.reduce evaluation.confusion {STEP}", "jax flax optax"),
    # 2: methods know no network, networks no method, methods no other method
    "methods.*": ("core losses memory", "jax flax.struct"),
    "models.*": ("core models", "jax flax"),
    # 1: arrays to arrays, and files to arrays
    "losses.*": ("core losses", "jax optax chex"),
    "memory.*": ("core losses memory", "jax chex"),
    "evaluation.confusion": ("core", "jax chex"),
    "evaluation.metrics": ("core", "numpy"),
    "evaluation.predictions": ("core", "numpy"),
    "evaluation.acquisition": ("core evaluation.predictions", "numpy"),
    **dict.fromkeys(STATISTICS.split(), ("core evaluation", "numpy scipy")),
    "augment.*": ("core augment", "jax numpy"),
    "data.sampler": ("core", "numpy"),
    "data.sources.*": (
        "core data.sources",
        "numpy PIL sklearn pyarrow tensorflow tensorflow_datasets",
    ),
    "data.feed": ("core data", "numpy tensorflow"),
    "data.*": ("core data", "numpy PIL sklearn"),
    # beside the line from data to parallel: a look at the images before training
    "inspection.*": (
        "core data inspection evaluation.calibration",
        "jax numpy scipy sklearn threadpoolctl imagehash jinja2 PIL",
    ),
    # 0: the nouns
    "core": ("core", "jax flax.struct"),
    "core.*": ("core", "jax flax.struct"),
    # What is left of packages' own files holds nothing but its docstring.
    "*__init__": ("", ""),
}
INSIDE_FUNCTIONS_ONLY = (
    "tensorflow", "tensorflow_datasets", "sklearn", "scipy", "pyarrow", "imagehash", "jinja2",
    "matplotlib", "tensorboardX", "wandb", "safetensors", "onnx", "onnxruntime", "jax2onnx",
)  # fmt: skip
# A class of scikit-learn cannot be made inside a function; who imports it has imported the other.
FACES = {"estimator": "sklearn"}
LONGEST_FUNCTION = 50
LONGEST_FILE = {"methods/*": 150, "*": 300}


def modules(root):
    """Maps module names below the package to files; `data/__init__.py` is `data.__init__`."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts): path
        for path in sorted(root.rglob("*.py"))
    }


def imports(module, path, known):
    """Yields `(target, is_ours, is_inside_function)` for each import of a file."""
    tree = ast.parse(path.read_text())
    deferred = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        for target in imported_names(node, module):
            if target.split(".")[0] == PACKAGE:
                yield own_module(target, known), True, id(node) in deferred
            else:
                yield target, False, id(node) in deferred


def imported_names(node, module):
    """Lists what one statement imports, as absolute dotted names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        parent = f"{PACKAGE}.{module}".rpartition(".")[0]
        source = importlib.util.resolve_name("." * node.level + (node.module or ""), parent)
        return [f"{source}.{alias.name}" for alias in node.names]
    return []


def own_module(target, known):
    """Finds the module that holds a name: `ltssl_jax.losses.margins.log_prior` is in that file."""
    parts = target.split(".")[1:]
    while parts:
        for candidate in (".".join(parts), ".".join([*parts, "__init__"])):
            if candidate in known:
                return candidate
        parts.pop()
    return "__init__"


def falls_under(name, allowed):
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in allowed.split())


def forbidden_imports(root):
    """Lists, in words, each import that the floors do not allow."""
    known = modules(root)
    found = []
    for module, path in known.items():
        rule = next((FLOORS[p] for p in FLOORS if fnmatch.fnmatchcase(module, p)), None)
        if rule is None:
            found.append(f"{module} has no floor: add it to FLOORS")
            continue
        for target, is_ours, is_deferred in imports(module, path, known):
            package = target.split(".")[0]
            if is_ours:
                is_allowed = target == "__init__" or falls_under(target, rule[0])
            else:
                is_allowed = package in sys.stdlib_module_names or falls_under(target, rule[1])
            if not is_allowed:
                found.append(f"{module} -> {target}")
            elif package in INSIDE_FUNCTIONS_ONLY and not (
                is_deferred or package == FACES.get(module)
            ):
                found.append(f"{module} -> {target} outside a function")
    return found


def import_cycle(root):
    """Finds modules that import each other in a circle, or nothing."""
    known = modules(root)
    graph = {
        module: {target for target, is_ours, _ in imports(module, path, known) if is_ours}
        for module, path in known.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def too_long(root):
    """Lists, in words, files and functions beyond the limits; docstrings of functions are free."""
    found = []
    for path in modules(root).values():
        name, text = path.relative_to(root).as_posix(), path.read_text()
        limit = next(n for p, n in LONGEST_FILE.items() if fnmatch.fnmatchcase(name, p))
        if len(text.splitlines()) > limit:
            found.append(f"{name} has {len(text.splitlines())} lines, {limit} are allowed")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if lines_of_code(node) > LONGEST_FUNCTION:
                    found.append(f"{name}: {node.name} has {lines_of_code(node)} lines")
    return found


def lines_of_code(function):
    has_docstring = ast.get_docstring(function) is not None
    documentation = function.body[0]
    free = documentation.end_lineno - documentation.lineno + 1 if has_docstring else 0
    return function.end_lineno - function.lineno + 1 - free


# --- the package ----------------------------------------------------------------------------------


def test_imports_only_point_down():
    assert forbidden_imports(ROOT) == []


def test_no_import_cycle():
    assert import_cycle(ROOT) == []


def test_functions_and_files_are_short():
    assert too_long(ROOT) == []


def test_importing_everything_loads_nothing_heavy():
    light = [module for module in modules(ROOT) if module not in FACES]
    names = [f"{PACKAGE}.{module}".removesuffix(".__init__") for module in light]
    script = f"""
import importlib, sys
for name in {names}:
    importlib.import_module(name)
    loaded = set({INSIDE_FUNCTIONS_ONLY}) & set(sys.modules)
    assert not loaded, f"importing {{name}} loads {{loaded}}"
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


# --- the checkers themselves, on small packages with one fault each -------------------------------


@pytest.fixture
def tree(tmp_path):
    """Writes a package from `module name = source` and returns its root."""

    def write(sources):
        for module, source in {"__init__": "", "core": "import jax", **sources}.items():
            path = tmp_path / PACKAGE / (module.replace(".", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return tmp_path / PACKAGE

    return write


def test_a_good_tree_passes(tree):
    root = tree(
        {
            "losses.__init__": '"""Losses."""',
            "losses.margins": "import math\nimport jax.numpy as jnp\nfrom ltssl_jax import core",
            "methods.tras": "from flax import struct\nfrom ltssl_jax.losses.margins import x",
            "data.sources.digits": "def load():\n    from sklearn import datasets",
            "estimator": "from sklearn.base import BaseEstimator",
            "checkpoint": "import ltssl_jax\nfrom ltssl_jax import __version__, methods",
        }
    )
    assert forbidden_imports(root) == import_cycle(root) == too_long(root) == []


@pytest.mark.parametrize(
    ("module", "source", "edge"),
    [
        ("core", "from ltssl_jax import losses", "core -> losses.__init__"),
        ("core", "from flax import linen", "core -> flax.linen"),
        ("losses.margins", "import ltssl_jax.methods.tras", "losses.margins -> methods.tras"),
        ("losses.margins", "from ..methods import tras", "losses.margins -> methods.tras"),
        ("losses.margins", "from . import no\nimport torch", "losses.margins -> torch"),
        ("methods.new", "from ltssl_jax.methods.tras import T", "methods.new -> methods.tras"),
        ("methods.new", "def f():\n import ltssl_jax.methods.tras", "methods.new -> methods.tras"),
        ("training.step", "from ltssl_jax.training import loop", "training.step -> training.loop"),
        ("data.splits", "import jax", "data.splits -> jax"),
        ("models.net", "def f():\n  import tensorflow", "models.net -> tensorflow"),
        ("data.feed", "import tensorflow as tf", "data.feed -> tensorflow outside a function"),
        ("report.page", "import matplotlib", "report.page -> matplotlib outside a function"),
        ("training.__init__", "import ml_collections", "training.__init__ -> ml_collections"),
        ("novelty", "", "novelty has no floor: add it to FLOORS"),
    ],
)  # fmt: skip
def test_a_forbidden_import_is_found(tree, module, source, edge):
    others = {"losses.__init__": "", "methods.tras": "T = 1", "training.loop": ""}
    assert forbidden_imports(tree(others | {module: source})) == [edge]


def test_a_cycle_is_found_even_inside_functions(tree):
    root = tree(
        {
            "augment.geometry": "from ltssl_jax.augment.views import crop",
            "augment.views": "def f():\n    from ltssl_jax.augment import geometry",
        }
    )
    assert forbidden_imports(root) == []
    assert set(import_cycle(root)) == {"augment.geometry", "augment.views"}


def test_long_functions_and_files_are_found(tree):
    def function(num_lines):
        docstring = '    """One.\n\n    Three.\n    """\n'
        return "def f():\n" + docstring + "    x = 1\n" * (num_lines - 1)

    root = tree({"losses.a": function(50), "methods.a": "\n" * 150, "b": "\n" * 300})
    assert too_long(root) == []
    root = tree({"losses.a": function(51), "methods.a": "\n" * 151, "b": "\n" * 301})
    assert too_long(root) == [
        "b.py has 301 lines, 300 are allowed",
        "losses/a.py: f has 51 lines",
        "methods/a.py has 151 lines, 150 are allowed",
    ]
