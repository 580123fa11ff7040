"""From a command line to the runs of a sweep: `--config.method.threshold=0.9,0.95 --seeds 0,1`.

Several values, with commas between them, make a field an axis of the grid. Commas within brackets
or quotes do not count: `(1,2),(3,4)` are two tuples, `"a,b"` is one string. A run lies in
`AXIS=VALUE,…/SEED` below the directory of the sweep.
"""

import functools
import hashlib
import itertools
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from ltssl_jax import main as main_
from ltssl_jax.core import InputError

COMMAND = "ltssl_jax.sweep"
_LONGEST = 60  # characters of a value in the name of a directory


class Asked(NamedTuple):
    """What a command line says.

    Attributes:
      config: arguments that all runs share, `--config=…` among them.
      axes: texts of the values by field, such as `method.threshold`, in the order of the command.
      others: arguments that do not concern the configuration.
    """

    config: tuple[str, ...]
    axes: Mapping[str, tuple[str, ...]]
    others: tuple[str, ...]


class Trial(NamedTuple):
    """One run of a sweep.

    Attributes:
      point: where in the grid, `threshold=0.9`; empty where nothing but the seed varies.
      seed: of the run.
      config: its whole configuration.
      directory: where it lies.
      command: that trains it alone.
    """

    point: str
    seed: int
    config: ConfigDict
    directory: pathlib.Path
    command: tuple[str, ...]

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"{self.point}, seed {self.seed}".removeprefix(", ")


def asked(argv: Sequence[str], axes: Sequence[str] = ()) -> Asked:
    """Takes a command line, without the name of the program, apart.

    Args:
      argv: the arguments.
      axes: fields that are axes even with one value, in this order.

    Raises:
      InputError: a field is given twice, an axis has an empty value, or the seed is not given by
        --seeds.
    """
    _check_once(argv := _joined(argv))
    config, found, others = [], {}, []
    for argument in argv:
        field, _, value = re.sub("^--?config[.]", "", argument).partition("=")
        is_field = bool(re.match("--?config[.].*=", argument))
        values = split(value) if is_field else ()
        if is_field and field == "seed":
            raise InputError(f"--config.seed={value}: seeds are given by --seeds={value}")
        if len(values) > 1 or field in axes:
            _check_axis(field, values)
            found[field] = tuple(values)
        elif is_field:
            config.append(f"--config.{field}={values[0]}")
        elif re.match("--?(no)?config([.=]|$)", argument):
            config.append(argument)
        else:
            others.append(argument)
    order = [field for field in axes if field in found] + list(found)
    return Asked(tuple(config), {field: found[field] for field in order}, tuple(others))


def split(text: str) -> list[str]:
    """Cuts at the commas that are within neither brackets nor quotes; outer quotes are dropped."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote or sign in "'\"":
            quote = "" if sign == quote else quote or sign
        depth += (sign in "([{") - (sign in ")]}") if not quote else 0
        if sign == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return [_unquoted(part.strip()) for part in parts]


def configured(arguments: Sequence[str]) -> ConfigDict:
    """Returns the configuration that arguments describe, as the training command would read them.

    Raises:
      InputError: the file cannot be read; a misspelt field ends the program with a sentence.
    """
    values, argv = flags.FlagValues(), [COMMAND, *arguments]
    made = config_flags.DEFINE_config_file(
        "config", None, flag_values=values, sys_argv=argv, lock_config=True
    )
    try:
        main_.parse(argv, COMMAND, values)
        made.value.parallel  # noqa: B018  # only now it is said that the file cannot be read
    except OSError as error:
        name = next((one for one in argv if re.match("--?config=", one)), "--config")
        raise InputError(f"{name} cannot be read; is the path right?") from error
    return made.value


def trials(what: Asked, seeds: Sequence[int], root: pathlib.Path) -> Iterator[Trial]:
    """Yields every run of a sweep, seed by seed at each point of the grid.

    Raises:
      InputError: a value does not fit its field, or two are or mean the same.
    """
    texts = [[f"--config.{field}={value}" for value in of] for field, of in what.axes.items()]
    known: set[pathlib.Path] = set()
    for chosen in itertools.product(*texts):
        for number in seeds:
            arguments = [*what.config, *chosen, f"--config.seed={number}"]
            config = configured(arguments)
            values = {field: value_of(config, field) for field in what.axes}
            _check_tuples(values, chosen)
            directory = root / directory_name(values) / str(number)
            if directory in known:
                raise InputError(f"{' '.join(chosen)} stands twice in the sweep; drop one")
            known.add(directory)
            command = ("python", "-m", "ltssl_jax.main", *arguments, f"--workdir={directory}")
            yield Trial(label(values), number, config, directory, command)


def value_of(config: ConfigDict, field: str) -> Any:
    """Returns what `a.b.c` is in a configuration."""
    return functools.reduce(lambda block, key: block[key], field.split("."), config)


def label(values: Mapping[str, Any]) -> str:
    """Says where in the grid a run is; fields by their last names if these tell them apart."""
    last = [field.rpartition(".")[2] for field in values]
    is_clear = len({*last, "seed"}) > len(last)  # that of the run is called so
    names = last if is_clear else list(values)
    return ",".join(f"{n}={value}" for n, value in zip(names, values.values(), strict=True))


def directory_name(values: Mapping[str, Any]) -> str:
    """Returns the same as a safe name of a directory: different values have different names."""
    return label({field: _safe(str(value)) for field, value in values.items()})


def _safe(text: str) -> str:
    cleaned = re.sub(r"[^\w.+-]+", "_", text).strip("_")
    if cleaned == text and len(text) <= _LONGEST:
        return text
    return f"{cleaned[: _LONGEST - 9]}-{hashlib.sha1(text.encode()).hexdigest()[:8]}"


def _joined(argv: Sequence[str]) -> list[str]:
    """Writes `--config.a 1` as `--config.a=1`, so that an argument says all of it."""
    made: list[str] = []
    for argument in argv:
        is_value = not re.match("-[^0-9.]", argument)
        if made and is_value and re.fullmatch(r"--?\w[\w.]*", made[-1]):
            made[-1] += f"={argument}"
        else:
            made.append(argument)
    return made


def _unquoted(text: str) -> str:
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if is_quoted else text


def _check_once(arguments: Sequence[str]) -> None:
    """Refuses a field with two flags: a training would take the last one without a word."""
    found = [re.match("--?(?:no)?config[.]([^=]+)", argument) for argument in arguments]
    fields = [one[1] for one in found if one]
    for field in fields:
        if fields.count(field) > 1:
            raise InputError(f"--config.{field} is given twice; drop one")


def _check_axis(field: str, values: Sequence[str]) -> None:
    if "" in values:
        raise InputError(
            f"--config.{field}={','.join(values)} has an empty value; give values with commas"
            " between them, and a tuple in brackets"
        )


def _check_tuples(values: Mapping[str, Any], chosen: Sequence[str]) -> None:
    for (field, value), argument in zip(values.items(), chosen, strict=True):
        text = argument.partition("=")[2]
        if isinstance(value, tuple) and not text.startswith(("(", "[")):
            raise InputError(
                f"--config.{field} is a tuple: put each of its values in brackets, such as"
                f" --config.{field}='(1,2),(3,4)'; one without is {text!r}"
            )
