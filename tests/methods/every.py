"""Every method file of the package, in the settings that it offers for trials."""

import importlib

from ltssl_jax import methods


def examples():
    """Yields `(id, method)`; a file's `EXAMPLES` are methods, or dictionaries of settings."""
    for name in (*methods.names(), "_skeleton"):
        module = importlib.import_module(f"ltssl_jax.methods.{name}")
        for i, example in enumerate(getattr(module, "EXAMPLES", ({},))):
            # Wrappers give settings: they cannot name their base by its class.
            is_given = isinstance(example, dict)
            yield f"{name}-{i}", made(module, name, example) if is_given else example


def kinds():
    """Returns `(id, method)`, of examples that differ in numbers alone the last one.

    It is the one in which more happens within few steps; numbers make no other program.
    """
    return {kind(method): (name, method) for name, method in examples()}.values()


def kind(method):
    """What a method is, and its base, but for their numbers."""
    words = ((k, v) for k, v in vars(method).items() if type(v) not in (int, float))
    return type(method), *((k, kind(v) if hasattr(v, "needs") else v) for k, v in words)


def made(module, name, settings):
    """Builds a method with its base."""
    return methods.make(name, **settings) if name in methods.names() else module.METHOD(**settings)
