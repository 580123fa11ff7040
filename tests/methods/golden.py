"""Replays golden steps: what the released code of a method made of given logits and features.

A file of `tests/golden/` holds, for each step `n`, what the network said of each view
(`step{n}/view/{view}/features`, `…/logits/{head}`), the labels, the epoch, and what the released
code made of it: its terms, its state, and the gradient with respect to every array that the network
gave. Equal gradients mean equal targets, masks and weights, and that gradients stop in the same
places. See `tests/golden/README.md`.
"""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np

from ltssl_jax import core
from ltssl_jax.losses.reduce import reduce_terms
from ltssl_jax.training.forward import AxisDevices, ExampleKeys

FOLDER = pathlib.Path(__file__).parents[1] / "golden"


class GivenForward:
    """Stands where the network stands: knows by identity what it says of each view.

    Args:
      said: `Outputs` by name of the view; `teacher_…` what the EMA network says.
      views: the arrays that stand for the views, by name.
      kernels: `(kernel, bias)` of linear heads, for `head` and `kernel`.

    Attributes:
      passes: the views of each pass, in the order in which they are asked for first.
      taught: for each answer of the EMA network, whether it went by the statistics of the batch.
    """

    def __init__(self, said, views, kernels=None):
        self._names = {id(array): name for name, array in views.items()}
        self._said, self._kernels = said, kernels or {}
        self.passes, self.taught = [], []

    def __call__(self, images):
        return self.jointly(images)[0]

    replicated = __call__

    def apart(self, *views):
        return tuple(map(self, views))

    def jointly(self, *views):
        names = [self._names[id(images)] for images in views]
        known = {name for group in self.passes for name in group}
        self.passes += [group] if (group := [name for name in names if name not in known]) else []
        return tuple(self._said[name] for name in names)

    def teacher(self, images, *, by_batch=False):
        self.taught.append(by_batch)
        return jax.lax.stop_gradient(self._said["teacher_" + self._names[id(images)]])

    def head(self, name, features):
        kernel, bias = self._kernels[name]
        return features @ kernel + bias[None, :]

    def kernel(self, name):
        return self._kernels[name][0]


class Golden:
    """One file: `golden[key]` is an array, `golden.steps` the numbers of its steps.

    Attributes:
      forward: the `GivenForward` of the step replayed last.
    """

    def __init__(self, name):
        self.arrays = dict(np.load(FOLDER / f"{name}.npz"))
        found = (re.match(r"step(\d+)/", key) for key in self.arrays)
        self.steps = sorted({int(match[1]) for match in found if match})

    def __getitem__(self, key):
        return self.arrays[key]

    def __contains__(self, key):
        return key in self.arrays

    def below(self, prefix):
        """The arrays whose keys begin by `prefix/`, by the rest of the key."""
        prefix += "/"
        return {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}

    def problem(self, **changes):
        """The facts of the run that the file holds."""
        facts = {name: int(self[name]) for name in ("num_unlabeled", "steps_per_epoch")}
        total = int(self["total_steps"])
        sizes = {x.shape[-1] for key, x in self.arrays.items() if key.endswith("/features")}
        facts["num_features"] = max(sizes, default=0)
        return core.Problem(self["labeled_counts"], total_steps=total, **(facts | changes))

    def said(self, n):
        """What the network says in step `n`: `Outputs` by view, float32; no features are zeros."""
        arrays = self.below(f"step{n}/view")
        outputs = {}
        for name in {key.split("/")[0] for key in arrays}:
            logits = {
                key.rsplit("/", 1)[1]: jnp.asarray(x, jnp.float32)
                for key, x in arrays.items()
                if key.startswith(f"{name}/logits/")
            }
            rows = arrays[f"{name}/features"] if f"{name}/features" in arrays else None
            if rows is None:
                rows = np.zeros((len(next(iter(logits.values()))), 1))
            outputs[name] = core.Outputs(jnp.asarray(rows, jnp.float32), logits)
        return outputs

    def batch(self, n, said):
        """A batch whose images are stand-ins, and the stand-ins by name of the view."""
        views = {
            name: jnp.full((len(x.features), 1, 1, 1), float(i))
            for i, (name, x) in enumerate(sorted(said.items()))
        }

        def several(pattern):
            names = sorted(name for name in views if re.fullmatch(pattern, name))
            return tuple(views[name] for name in names)

        def labeled(name, labels, strong):
            labels = jnp.asarray(self[f"step{n}/{labels}"], jnp.int32)
            return core.Labeled(views[name], labels, jnp.arange(len(labels)), several(strong))

        balanced = None
        if "balanced" in views:
            balanced = labeled("balanced", "balanced_labels", r"balanced_strong\d")
        index = jnp.asarray(self[f"step{n}/index"], jnp.int32)
        unlabeled = core.Unlabeled(
            views["weak"], several(r"strong\d"), index, several(r"weak[1-9]")
        )
        batch = core.Batch(labeled("labeled", "labels", r"labeled_strong\d"), unlabeled, balanced)
        return batch, views

    def replay(self, method, n, state, *, kernels=None):
        """Lets our method make step `n`.

        Returns:
          The `Loss`, the contributions by term, and their sum's gradient with respect to what the
          network said, as `Outputs` by view.
        """
        said, devices, epoch = self.said(n), AxisDevices(None), int(self[f"step{n}/epoch"])
        batch, views = self.batch(n, said)
        rng = ExampleKeys(jax.random.key(n))
        problem = self.problem()
        ctx = core.Context(
            jnp.int32(n),
            jnp.int32(epoch),
            rng,
            devices,
            problem.steps_per_epoch,
            problem.total_steps,
        )

        def objective(said):
            self.forward = GivenForward(said, views, kernels)
            loss = method.loss(state, self.forward, batch, ctx)
            total, contributions = reduce_terms(loss.terms, devices)
            return total, (loss, contributions)

        gradient, (loss, contributions) = jax.grad(objective, has_aux=True)(said)
        return loss, contributions, gradient


def assert_gradients_equal(golden, n, gradient, **tolerance):
    """Every gradient that the file holds for step `n` is ours."""
    tolerance = dict(rtol=2e-4, atol=2e-6) | tolerance
    stored = golden.below(f"step{n}/grad")
    assert stored
    for key, expected in stored.items():
        view, what = key.split("/", 1)
        ours = gradient[view].features if what == "features" else gradient[view].logits[what]
        np.testing.assert_allclose(ours, expected, **tolerance, err_msg=f"step {n}, {key}")
