"""Makes a trained network usable elsewhere: `python -m ltssl_jax.export RUN --format stablehlo`.

RUN is the --workdir of a training, finished or not. The exported model takes uint8 images
[N, H, W, C] of the size of training, one or more of them, and returns probabilities and logits
[N, K]. The normalization is inside, class names and the facts of the run go with it.

stablehlo     a zip file for JAX on processors, GPUs and TPUs
savedmodel    a directory for TensorFlow and its servers
onnx          a file for onnxruntime, and through it for most languages
safetensors   the weights alone, for who builds the network anew

What was written is loaded by that runtime and compared with the network: it stays only if the
probabilities are the same. Programs of ten lines that use each of them are in docs/serving/.
"""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from types import ModuleType

import jax
from absl import flags

from ltssl_jax import command, trained
from ltssl_jax import main as main_
from ltssl_jax.core import InputError
from ltssl_jax.deployment import probabilities
from ltssl_jax.deployment.probabilities import Deployment
from ltssl_jax.exporting import agreement, function
from ltssl_jax.monitoring.progress import printer
from ltssl_jax.report import runs

FORMATS = ("stablehlo", "savedmodel", "onnx", "safetensors")

# Not absl's own: every command has an --out, and a program may import several commands.
FLAGS = flags.FlagValues()
FORMAT = flags.DEFINE_string("format", None, ", ".join(FORMATS) + ".", flag_values=FLAGS)
OUT = flags.DEFINE_string(
    "out", None, "What to write; by default RUN/exported/model with its ending.", flag_values=FLAGS
)
WHICH = flags.DEFINE_string(
    "which",
    "best",
    "Checkpoint: best (on validation; without that on test), latest, or its step.",
    flag_values=FLAGS,
)
PRIOR = flags.DEFINE_string(
    "prior",
    probabilities.NETWORK,
    "How frequent the classes are where the images come from: network, uniform, train, or a file;"
    " as in ltssl_jax.predict.",
    flag_values=FLAGS,
)
CALIBRATE = flags.DEFINE_enum(
    "calibrate",
    "auto",
    probabilities.CALIBRATE,
    "Kept predictions that probabilities are calibrated on; as in ltssl_jax.predict.",
    flag_values=FLAGS,
)
HELP = flags.DEFINE_bool("help", False, "Says all this.", flag_values=FLAGS)


def export(
    run: str | os.PathLike,
    format: str,
    out: str | os.PathLike | None = None,
    *,
    which: str | int = "best",
    prior: str = probabilities.NETWORK,
    calibrate: str = "auto",
    is_quiet: bool = False,
) -> pathlib.Path:
    """Writes a trained network in a format of other programs, and checks it.

    The check wants the exact float32 of processors, which the command switches to: from Python on a
    machine with a GPU or TPU, set `JAX_PLATFORMS=cpu` before anything touches a device.

    Args:
      run: the directory of a training.
      format: one of `FORMATS`.
      out: what to write, a file or for "savedmodel" a directory; an earlier export is replaced.
      which: see `trained.load`.
      prior, calibrate: see `deployment.probabilities.planned`.
      is_quiet: print nothing.

    Returns:
      What was written.

    Raises:
      InputError: something that is given cannot work, a package is missing, or the exported model
        says something else than the network; whatever `out` was is as before.
    """
    console, module = printer(is_quiet=is_quiet), module_of(format)
    path = pathlib.Path(out or pathlib.Path(run, "exported", f"model{module.ENDING}"))
    network = trained.load(run, which)
    console.print(f"network: {network.scored_by}, EMA weights, {network.chosen}")
    kept, step = runs.read(run), int(network.state.step)
    deployed = probabilities.planned(kept, step, prior=prior, calibrate=calibrate)
    console.print("\n".join(deployed.notes))
    made = function.exported(network, _public(deployed, kept, prior))
    images = agreement.probes(kept, network.image_shape)
    with _placed(path, module) as partial:
        with _without_directories():
            module.write(partial, made)
        largest = agreement.difference(made, module.read_back(partial), images)
    console.print(f"checked: probabilities of {len(images)} images differ by {largest:.1e} at most")
    console.print(f"written to {path} ({_size(path) / 2**20:.2f} MiB)")
    return path


def module_of(format: str) -> ModuleType:
    """Returns the file of a format.

    Raises:
      InputError: the format is unknown, or a package that it needs is not installed.
    """
    if format not in FORMATS:
        raise InputError.unknown("--format", format, FORMATS)
    module = importlib.import_module(f"ltssl_jax.exporting.{format}")
    for package, extra in module.NEEDS.items():
        if importlib.util.find_spec(package) is None:
            what = f'-e ".[{extra}]"' if extra else package
            raise InputError(
                f"--format {format} needs {package}, which is not installed: "
                f"pip install {what}, or choose another format"
            )
    return module


def _public(deployed: Deployment, run: runs.Run, prior: str) -> Deployment:
    """Returns the same without where the run and the file of the prior lie: others will read it."""
    local = {
        f"({run.path} kept": "(the run kept",
        f"to the prior {prior}": f"to the prior {pathlib.Path(prior).name}",
    }
    notes = deployed.notes
    for said, told in local.items():
        notes = tuple(note.replace(said, told) for note in notes)
    return deployed._replace(notes=notes)


@contextlib.contextmanager
def _without_directories() -> Iterator[None]:
    """Lets compiled programs name the source files they come from without where those lie here."""
    name = "jax_hlo_source_file_canonicalization_regex"
    before = getattr(jax.config, name)
    jax.config.update(name, r".*[/\\]")
    try:
        yield
    finally:
        jax.config.update(name, before)


@contextlib.contextmanager
def _placed(path: pathlib.Path, module: ModuleType) -> Iterator[pathlib.Path]:
    """Yields where to write; what is there at the end is moved to its place, unless it failed."""
    _check_replaceable(path, module)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that it is moved at once; in a directory that nobody else has.
        with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as scratch:
            made = pathlib.Path(scratch, "new")
            yield made
            if path.is_dir():  # unlike a file, it cannot be replaced
                path.replace(pathlib.Path(scratch, "old"))
            made.replace(path)
    except OSError as error:
        raise InputError(
            f"--out {os.fspath(path)!r} cannot be written ({error.strerror or error}); choose"
            " another"
        ) from error


def _check_replaceable(path: pathlib.Path, module: ModuleType) -> None:
    if not os.path.lexists(path):
        return
    try:
        is_ours = module.facts(path)["made_by"].startswith("ltssl_jax ")
    except Exception:  # every format has errors of its own
        is_ours = False
    if not is_ours:
        raise InputError(
            f"--out {os.fspath(path)!r} exists and is no earlier export of this format; remove it,"
            " or choose another"
        )


def _size(path: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


# --- the command ----------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> None:
    """Exports what the command line says."""
    run = parsed(argv)
    # Accelerators multiply less exactly, each in its own way: nothing would agree.
    jax.config.update("jax_platforms", "cpu")
    command.prepare()
    which = command.which(WHICH.value)
    export(run, FORMAT.value, OUT.value, which=which, prior=PRIOR.value, calibrate=CALIBRATE.value)


def parsed(argv: Sequence[str]) -> str:
    """Returns the run; a mistake is an exit."""
    found = command.arguments("export", __doc__, FLAGS, argv)
    if len(found) != 1 or FORMAT.value is None:
        command.refuse("export", "give one RUN and --format")
    return found[0]


def cli() -> None:
    """Exports; what is wrong with the input is said in one sentence."""
    with main_.in_one_sentence():
        main(sys.argv)


if __name__ == "__main__":
    cli()
