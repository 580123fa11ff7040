"""For each class, the features of the images that were labeled most confidently."""

import jax.numpy as jnp
from jax import lax

from ltssl_jax.core import Array, Devices

Bank = dict[str, Array]


def empty_bank(num_classes: int, size: int, feature_size: int) -> Bank:
    """Returns a bank without entries: features of zeros, of confidence 0.

    Slots are sorted by confidence, the most confident first.

    Returns:
      `features` `[K, size, feature_size]` float32, `confidence` `[K, size]` float32 and `is_new`
      `[K, size]` bool, true of what came after it was `aged` last.
    """
    return {
        "features": jnp.zeros((num_classes, size, feature_size), jnp.float32),
        "confidence": jnp.zeros((num_classes, size), jnp.float32),
        "is_new": jnp.zeros((num_classes, size), bool),
    }


def pushed(
    bank: Bank, features: Array, labels: Array, confidence: Array, mask: Array, devices: Devices
) -> Bank:
    """Returns the bank of the most confident of what it held and what comes.

    Of equally confident entries the older one comes first, of those of a batch the earlier row.

    Args:
      bank: from `empty_bank`.
      features: `[R, D]` float, this device's rows.
      labels: `[R]` int in `[0, K)`.
      confidence: `[R]` float, at least 0.
      mask: `[R]` float, 0 for rows that do not come in.
      devices: whose rows all come in.

    Source: Wang et al., "SeMi", arXiv:2501.06004.
    """
    features, labels, confidence, mask = devices.gather((features, labels, confidence, mask))
    num_classes, size = bank["confidence"].shape
    is_candidate = (labels[None, :] == jnp.arange(num_classes)[:, None]) & (mask[None, :] > 0)
    candidates = jnp.where(is_candidate, confidence[None, :], -1.0)  # behind the emptiest slot
    everyone = jnp.concatenate([bank["confidence"], candidates], axis=1)
    order = jnp.argsort(-everyone, axis=1, stable=True)[:, :size]
    is_old, row = order < size, jnp.maximum(order - size, 0)
    old = _reordered(bank, jnp.minimum(order, size - 1))
    return {
        "features": jnp.where(is_old[:, :, None], old["features"], features[row]),
        "confidence": jnp.take_along_axis(everyone, order, axis=1),
        "is_new": jnp.where(is_old, old["is_new"], True),
    }


def pushed_as_released(
    bank: Bank, features: Array, labels: Array, confidence: Array, mask: Array, devices: Devices
) -> Bank:
    """Returns the bank after row by row; each that enters takes the place of two others.

    It drops the confidence in the last slot and the features in the first one, full or not: then
    features no longer lie beside their own confidence. Arguments are those of `pushed`.

    Source: Wang et al., "SeMi", arXiv:2501.06004, as released.
    """

    def push(bank, row):
        feature, label, confidence, mask = row
        old = {name: x[label] for name, x in bank.items()}
        new = {
            "features": jnp.roll(old["features"], -1, axis=0).at[-1].set(feature),
            "confidence": old["confidence"].at[-1].set(confidence),
            "is_new": old["is_new"].at[-1].set(True),
        }
        order = jnp.argsort(-new["confidence"], stable=True)
        enters = (mask > 0) & (confidence > old["confidence"][-1])
        kept = {name: jnp.where(enters, new[name][order], old[name]) for name in bank}
        return {name: x.at[label].set(kept[name]) for name, x in bank.items()}, None

    rows = devices.gather((features, labels, confidence, mask))
    return lax.scan(push, bank, rows)[0]


def aged(bank: Bank, is_due: bool | Array, *, decay: float) -> Bank:
    """Returns the bank, if it is due, with the confidence of all that is not new times `decay`.

    What is in it is then not new any more.
    """

    def older(bank):
        confidence = bank["confidence"] * jnp.where(bank["is_new"], 1.0, decay)
        order = jnp.argsort(-confidence, axis=1, stable=True)
        nothing_new = jnp.zeros_like(bank["is_new"])
        return _reordered(bank | {"confidence": confidence, "is_new": nothing_new}, order)

    return lax.cond(is_due, older, lambda bank: bank, bank)


def prototypes(bank: Bank) -> Array:
    """Returns the mean over the slots of each class `[K, D]`; empty ones count, as zeros."""
    return jnp.mean(bank["features"], axis=1)


def _reordered(bank: Bank, order: Array) -> Bank:
    return {
        name: jnp.take_along_axis(x, order[:, :, None] if x.ndim == 3 else order, axis=1)
        for name, x in bank.items()
    }
