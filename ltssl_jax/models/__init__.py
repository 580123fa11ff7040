"""Networks: images to features and logits. A backbone knows no method, and the reverse."""

import inspect

import jax.numpy as jnp

from ltssl_jax.core import Head, InputError
from ltssl_jax.models.cifar_resnet import CifarResNet
from ltssl_jax.models.network import Network
from ltssl_jax.models.small_cnn import SmallCNN
from ltssl_jax.models.wide_resnet import WideResNet

BACKBONES = {"wide_resnet": WideResNet, "cifar_resnet": CifarResNet, "small_cnn": SmallCNN}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def make(
    name: str,
    *,
    num_classes: int,
    heads: tuple[Head, ...],
    branches: int = 1,
    is_frozen: bool = False,
    axis_name: str | None = None,
    dtype: str = "float32",
    **hyper_parameters,
) -> Network:
    """Builds a network by name.

    Args:
      name: `"wide_resnet"`, `"cifar_resnet"` or `"small_cnn"`.
      num_classes: K.
      heads: what the method needs on top of the features.
      branches: batch norms side by side after the last one, for methods that need several.
      is_frozen: the backbone keeps to its running statistics in training, too.
      axis_name: device axis over which batch statistics are taken; None keeps them per device.
      dtype: `"float32"` or `"bfloat16"` computation; parameters and statistics are float32.
      **hyper_parameters: fields of the backbone, e.g. `depth=28, width=2`.

    Raises:
      InputError: an unknown name, dtype or field, or a value out of range.
    """
    if name not in BACKBONES:
        raise InputError.unknown("model", name, BACKBONES)
    if dtype not in DTYPES:
        raise InputError.unknown("model.dtype", dtype, DTYPES)
    backbone = BACKBONES[name]
    ours = {"parent", "name", "branches", "axis_name", "dtype"}
    known = set(inspect.signature(backbone).parameters) - ours
    for field in hyper_parameters:
        if field not in known:
            raise InputError.unknown(f"field of model {name!r}:", field, known)
        if field not in ("activate_entry", "depth") and not hyper_parameters[field] > 0:
            raise InputError(f"model.{field} is {hyper_parameters[field]}; it must be positive")
    if not hyper_parameters.get("momentum", 0.1) <= 1:
        raise InputError(
            f"model.momentum is {hyper_parameters['momentum']}, the weight of new batch-norm"
            " statistics; it must be at most 1"
        )
    body = backbone(branches=branches, axis_name=axis_name, dtype=DTYPES[dtype], **hyper_parameters)
    return Network(body, tuple(heads), num_classes, is_frozen)
