"""Trains one run: `python -m ltssl_jax.main --config configs/tras_digits.py --workdir runs/0`.

Any leaf of the configuration can be overridden: `--config.method.threshold=0.9`.
"""

import contextlib
import functools
import importlib.metadata
import logging
import os
import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Iterator

import jax
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from ltssl_jax import parallel
from ltssl_jax.core import InputError
from ltssl_jax.parallel import keep_compilations

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file, e.g. configs/tras_digits.py.", lock_config=True
)
WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Directory of the run; one that holds its beginning is continued. runs/CONFIG by default.",
)


def main(argv: list[str]) -> None:
    """Runs the experiment that the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    config = loaded()
    parallel.choose_convolutions(os.environ, importlib.metadata.version("jaxlib"))
    start_processes(config.parallel)
    keep_compilations()
    from ltssl_jax import baselines  # after the processes have met: it may touch devices

    command = shlex.join(["python", "-m", "ltssl_jax.main", *sys.argv[1:]])
    result = baselines.train(config, run_directory(), command=command)
    if not result:
        sys.exit(130)  # interrupted, as the shell counts


def start_processes(settings) -> None:
    """Joins the processes of a run on several machines, before anything touches a device."""
    if settings.coordinator == "auto":
        jax.distributed.initialize()
    elif settings.coordinator:
        if not 0 <= settings.process_id < settings.num_processes:
            raise InputError(
                f"parallel.process_id is {settings.process_id} of {settings.num_processes}"
                " processes; give parallel.num_processes, and a process_id from 0 below it"
            )
        jax.distributed.initialize(
            settings.coordinator, settings.num_processes, settings.process_id
        )


def loaded() -> ConfigDict:
    """Returns the configuration; only now do the flags say whether the file could be read."""
    try:
        CONFIG.value.parallel  # noqa: B018
        return CONFIG.value
    except OSError as error:
        raise InputError(
            f"--config {config_name()!r} cannot be read; is the path right?"
        ) from error


def config_name() -> str:
    """Returns the path of the configuration file as it was typed."""
    return config_flags.get_config_filename(flags.FLAGS["config"])


def run_directory() -> str | os.PathLike:
    """Returns the directory of the run."""
    return WORKDIR.value or pathlib.Path("runs", pathlib.Path(config_name()).stem)


def parse(
    argv: list[str], command: str = "ltssl_jax.main", values: flags.FlagValues = flags.FLAGS
) -> list[str]:
    """Parses flags; a misspelt or mistyped one is a usage error, not a traceback."""
    flags.mark_flag_as_required("config", values)
    try:
        return values(argv)
    except flags.Error as error:
        sys.exit(f"error: {error}; see python -m {command} --help")
    except SystemExit as asked:  # absl ends its --help with 1, as if it were a mistake
        sys.exit(0 if asked.code == 1 else asked.code)
    except (AttributeError, KeyError) as error:
        # ml_collections names an unknown field, and the nearest one if there is any. An error that
        # names no field of the command line is a fault of the configuration file: raise it.
        said = str(error.args[0])
        near = re.search(r'Did you mean "(\w+)"', said)
        for arg in argv:
            path = arg.lstrip("-").split("=")[0]
            if path.startswith("config.") and re.search(rf"\b({path.replace('.', '|')})\b", said):
                hint = f"; did you mean {near[1]!r}?" if near else ""
                sys.exit(f"error: --{path}: the configuration has no such field{hint}")
        raise


def cli(run: Callable[[list[str]], None] = main, command: str = "ltssl_jax.main") -> None:
    """Parses the flags and runs."""
    with in_one_sentence():
        app.run(run, flags_parser=functools.partial(parse, command=command))


@contextlib.contextmanager
def in_one_sentence() -> Iterator[None]:
    """Ends the program by one sentence where something is wrong with the input."""
    # It reports, as if it were news, every kind of accelerator that the machine lacks.
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    cli()
