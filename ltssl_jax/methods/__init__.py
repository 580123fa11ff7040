"""One file, one paper. `make("foo")` finds `methods/foo.py`; there is no registry to edit."""

import dataclasses
import importlib
import pkgutil
from typing import Any

from ltssl_jax.core import InputError, Method


def names() -> tuple[str, ...]:
    """Lists the methods that are files of this package."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def find(name: str) -> type[Method]:
    """Returns the class that the file of a method declares as its `METHOD`.

    Args:
      name: a file of this package, or the dotted path of any importable module (`my_lab.foo`).

    Raises:
      InputError: there is no such file, or it declares no `METHOD`.
    """
    path = name if "." in name else f"{__name__}.{name}"
    if "." not in name and name not in names():
        raise InputError.unknown("method", name, names())
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not path.startswith(error.name):
            raise  # the file exists and imports something that does not
        raise InputError(
            f"method {name!r}: there is no module {error.name!r}; put its folder on PYTHONPATH"
        ) from error
    if not hasattr(module, "METHOD"):
        raise InputError(f"method {name!r}: {module.__file__} has no line `METHOD = <class>`")
    return module.METHOD


def settings(name: str) -> dict[str, Any]:
    """Returns the hyper-parameters of a method that have defaults; a base is a nested dictionary.

    Raises:
      InputError: see `find`.
    """
    values = {f.name: _default(f) for f in dataclasses.fields(find(name))}
    return {key: _complete(v) for key, v in values.items() if v is not dataclasses.MISSING}


def make(name: str, **hyper_parameters: Any) -> Method:
    """Builds a method from its name and hyper-parameters; a nested `dict(name=…)` is built too.

    Raises:
      InputError: an unknown method or hyper-parameter; the message names the nearest one.
    """
    method = find(name)
    known = [field.name for field in dataclasses.fields(method)]
    for field in hyper_parameters:
        if field not in known:
            error = InputError.unknown(f"hyper-parameter of method {name!r}:", field, known)
            raise InputError(
                f"{error}. A configuration takes another method with all its fields by"
                f" `config.method = defaults.method({name!r})`"
            )
    values = settings(name) | hyper_parameters
    return method(**{field: make(**v) if _is_method(v) else v for field, v in values.items()})


def _default(field: dataclasses.Field) -> Any:
    has_factory = field.default_factory is not dataclasses.MISSING
    return field.default_factory() if has_factory else field.default


def _complete(value: Any) -> Any:
    """Adds to a nested method the defaults of the fields that it does not say."""
    if not _is_method(value):
        return value
    return dict(name=value["name"]) | settings(value["name"]) | value


def _is_method(value: Any) -> bool:
    return isinstance(value, dict) and "name" in value
