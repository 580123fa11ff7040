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


def made(module, name, settings):
    """Builds a method with its base."""
    return methods.make(name, **settings) if name in methods.names() else module.METHOD(**settings)
