"""What is exported: a function of images alone, and what one must know to use it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltssl_jax import __version__
from ltssl_jax.core import Array
from ltssl_jax.deployment.probabilities import Deployment
from ltssl_jax.evaluation.predictions import softmax
from ltssl_jax.trained import Trained

INPUT = "images"  # name of the argument, where a format has names; those of outputs are below
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # of Pillow, by channels
RESIZES = {
    "crop": "cut the largest central square",
    "stretch": "change the proportions",
    "pad": "add black borders",
}


@dataclass(frozen=True, eq=False)
class Exported:
    """A trained network in float32, its weights constants.

    Attributes:
      network: what is exported.
      deployed: how its logits become probabilities.
      facts: about it, plain JSON values; see `facts_of`.
    """

    network: Trained
    deployed: Deployment
    facts: dict[str, Any]

    def __call__(self, images: Array) -> dict[str, Array]:
        """Returns `probabilities` and the network's `logits`, both `[N, K]` float32; pure.

        Args:
          images: `[N, H, W, C]` uint8, one or more; `N` may be symbolic.
        """
        logits, _ = self.network.outputs(self.network.weights, images)
        scores = logits / np.float32(temperature_of(self.deployed)) + self.shift[None, :]
        return {"probabilities": jax.nn.softmax(scores), "logits": logits}

    @property
    def shift(self) -> np.ndarray:
        """`[K]` float32, what is added to logits once they are divided by the temperature."""
        zeros = np.zeros((1, len(self.network.class_names)), np.float32)
        # Classes of prior 0 would have minus infinity, which JSON and some runtimes lack.
        return self.deployed.scores(zeros)[0].clip(-1e9).astype(np.float32)

    def expected(self, images: np.ndarray) -> np.ndarray:
        """Returns the probabilities `[N, K]` that `predict` tells of images `[N, H, W, C]`."""
        return softmax(self.deployed.scores(self.network.logits(images)))


def temperature_of(deployed: Deployment) -> float:
    """Returns what logits are divided by: 1 where nothing is calibrated."""
    return deployed.calibration.temperature if deployed.calibration else 1.0


def exported(network: Trained, deployed: Deployment) -> Exported:
    """Makes a trained network ready to be exported.

    A network of another type is exported in float32, which every runtime has: its weights are kept
    as that, and what they give is what training has rounded.
    """
    body = network.model.backbone.clone(dtype=jnp.float32)
    config = network.config.copy_and_resolve_references()
    config.model.dtype = "float32"
    model = network.model.clone(backbone=body)
    network = dataclasses.replace(network, config=config, model=model)
    return Exported(network, deployed, facts_of(network, deployed))


def facts_of(network: Trained, deployed: Deployment) -> dict[str, Any]:
    """Collects what a user of the artifact must know.

    Returns:
      made_by: the version of this library.
      class_names: `K` names, in the order of the outputs.
      image_shape: `[H, W, C]`; mode: the same channels as Pillow calls them.
      resize: how other sizes become this one: crop, stretch, pad; empty: not at all.
      preprocessing: all this in words.
      mean, std: of the normalization, which is inside: of pixels between 0 and 1.
      method, model, head, weights, checkpoint: what was trained, and what of it predicts.
      temperature, probabilities: how they are made of logits, and what to know about that.
    """
    height, width, channels = network.image_shape
    mode, resize = MODES.get(channels, ""), network.policy.resize if network.policy.size else ""
    return {
        "made_by": f"ltssl_jax {__version__}",
        "class_names": list(network.class_names),
        "image_shape": [height, width, channels],
        "mode": mode,
        "resize": resize,
        "preprocessing": "; ".join(
            [
                f"uint8 pixels of {channels} channels ({mode or 'of your own'})",
                "turned upright by their EXIF data",
                f"{RESIZES[resize]}, then {width} x {height} pixels, bilinear with antialiasing"
                if resize
                else f"{width} x {height} pixels, never resized in training",
                "normalized inside",
            ]
        ),
        "method": network.config.method.to_dict(),
        "model": network.config.model.to_dict(),
        "head": network.scored_by,
        "weights": "exponential moving average, computed in float32",
        "checkpoint": network.chosen,
        "mean": list(network.config.augment.mean),
        "std": list(network.config.augment.std),
        "temperature": temperature_of(deployed),
        "probabilities": list(deployed.notes),
    }
