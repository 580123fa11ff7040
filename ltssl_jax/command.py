"""What the commands that read a run have in common: their flags, their help, their devices."""

import importlib.metadata
import os
import sys
import warnings
from collections.abc import Sequence

from absl import flags

from ltssl_jax import parallel


def arguments(name: str, about: str, known: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """Returns the arguments that are no flags; a mistake, and a call for help, end the program.

    Args:
      name: of the command, as after `python -m ltssl_jax.`.
      about: what help says before it lists the flags.
      known: flags of this command alone, `help` among them: absl's own are one set for all.
      argv: the name of the program, and what was typed.
    """
    try:
        found = known(argv)[1:]
    except flags.Error as error:
        refuse(name, str(error))
    if known["help"].value:
        print(about + known.get_help())
        sys.exit()
    return found


def refuse(name: str, why: str) -> None:
    """Ends the program, and says where more is said."""
    sys.exit(f"error: {why}; see python -m ltssl_jax.{name} --help")


def which(typed: str) -> str | int:
    """Returns the checkpoint that was asked for: a step is a number."""
    return int(typed) if typed.isdecimal() else typed


def prepare() -> None:
    """Chooses how networks are computed here, before anything touches a device."""
    parallel.choose_convolutions(os.environ, importlib.metadata.version("jaxlib"))
    parallel.keep_compilations()
    warnings.filterwarnings("ignore", module="PIL")  # about metadata; what matters is raised
