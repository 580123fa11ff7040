"""Runs views through the network, threading batch statistics in the method's own order.

In which order, and in which groups, do views update batch normalization? It is usually an accident
and it changes accuracy. Here it is the order of the calls that a method makes.
"""

import functools
import itertools
import zlib
from collections.abc import Iterable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ltssl_jax.core import Array, Ema, Images, Outputs, PyTree


class NetworkForward:
    """The `core.Forward` of one trace: remembers each view by identity, so asking again is free.

    With `stack_views`, neighbouring views of one shape that the method forwards apart share their
    convolutions: fewer, larger operations for an accelerator, and the same numbers. On processors
    it is slower, because a batch of several views falls out of the cache. It asks of a backbone
    that all its layers share one `momentum`, a field of it.

    Pass the batch's own arrays: a slice of one is a new view. Never call it inside `lax.cond`,
    `scan` or `vmap`.

    Attributes:
      batch_stats: the running statistics after the passes made so far.
    """

    def __init__(
        self,
        model: nn.Module,
        params: PyTree,
        batch_stats: PyTree,
        ema: Ema,
        *,
        stack_views: bool = False,
    ):
        self.batch_stats = batch_stats
        self._model, self._params, self._ema = model, params, ema
        self._group = jnp.shape if stack_views and _has_one_momentum(model) else id
        self._seen: dict[int, tuple[Images, Outputs]] = {}  # the view is kept: no id is reused

    def __call__(self, images: Images) -> Outputs:
        """Forwards `[B, H, W, C]` in a pass of its own, in training mode."""
        return self.apart(images)[0]

    def apart(self, *views: Images) -> tuple[Outputs, ...]:
        """Forwards each view not seen yet with statistics of its own, in this order."""
        for _, run in itertools.groupby(self._new(views), key=self._group):
            run = list(run)
            self._remember(run, _unstacked(self._train(jnp.stack(run)), len(run)))
        return self._remembered(views)

    def jointly(self, *views: Images) -> tuple[Outputs, ...]:
        """Forwards the views not seen yet in one pass that shares batch statistics."""
        new = self._new(views)
        if new:
            (outputs,) = _unstacked(self._train(jnp.concatenate(new)[None]), 1)
            self._remember(new, _split(outputs, new))
        return self._remembered(views)

    def replicated(self, images: Images) -> Outputs:
        """Forwards images that are equal on all devices, with the statistics of one of them."""
        if id(images) not in self._seen:
            alone = self._model.clone(backbone=self._model.backbone.clone(axis_name=None))
            self._remember([images], _unstacked(self._train(images[None], alone), 1))
        return self._remembered([images])[0]

    def head(self, name: str, features: Array) -> Array:
        """Applies one head to features `[..., D]`; running statistics stay as they are."""
        variables = {"params": self._params, "batch_stats": self.batch_stats}
        apply = functools.partial(self._model.apply, method="head", mutable=["batch_stats"])
        return apply(variables, name, features, True)[0]

    def kernel(self, name: str) -> Array:
        """Returns the weights `[D, K]` of one linear head."""
        return self._params[f"classifier_{name}"]["dense"]["kernel"]

    def teacher(self, images: Images, *, by_batch: bool = False) -> Outputs:
        """EMA weights, no gradient; running statistics, or `by_batch` those of these images."""
        outputs = evaluate(self._model, self._ema, images, by_batch=by_batch)
        return lax.stop_gradient(outputs)

    def _train(self, stacked: Images, model: nn.Module | None = None) -> Outputs:
        """Forwards `[V, B, H, W, C]`, each view by its own statistics, in one batch."""

        def forwarded(images):
            variables = {"params": self._params, "batch_stats": self.batch_stats}
            model_ = model or self._model
            return model_.apply(variables, images, True, mutable=["batch_stats"])

        outputs, updated = jax.vmap(forwarded)(stacked)
        if len(stacked) == 1:
            updated = jax.tree.map(lambda x: x[0], updated)
            self.batch_stats = updated.get("batch_stats", self.batch_stats)
        elif "batch_stats" in updated:
            follow = functools.partial(_one_by_one, keep=1 - self._model.backbone.momentum)
            self.batch_stats = jax.tree.map(follow, self.batch_stats, updated["batch_stats"])
        return outputs

    def _new(self, views: Iterable[Images]) -> list[Images]:
        return list({id(view): view for view in views if id(view) not in self._seen}.values())

    def _remember(self, views: list[Images], outputs: list[Outputs]) -> None:
        self._seen |= {id(v): (v, o) for v, o in zip(views, outputs, strict=True)}

    def _remembered(self, views: Iterable[Images]) -> tuple[Outputs, ...]:
        return tuple(self._seen[id(view)][1] for view in views)


def evaluate(model: nn.Module, weights: Ema, images: Images, *, by_batch: bool = False) -> Outputs:
    """Forwards `[B, H, W, C]` with running statistics, or `by_batch` with those of the images."""
    variables = {"params": weights.params, "batch_stats": weights.batch_stats}
    if by_batch:
        return model.apply(variables, images, True, mutable=["batch_stats"])[0]
    return model.apply(variables, images, False)


def _has_one_momentum(model: nn.Module) -> bool:
    has_branches = getattr(model.backbone, "branches", 1) > 1
    return not has_branches and all(h.kind != "normalized_mlp" for h in model.heads)


def _one_by_one(start: Array, updates: Array, *, keep: float) -> Array:
    """Running statistics after all views, from `[V, ...]` after one update by each of them.

    An update is `keep * running + something of the view`.
    """
    running = updates[0]
    for update in updates[1:]:
        running = update + keep * (running - start)
    return running


def _unstacked(outputs: Outputs, num_views: int) -> list[Outputs]:
    return [jax.tree.map(lambda x, v=v: x[v], outputs) for v in range(num_views)]


def _split(outputs: Outputs, views: list[Images]) -> list[Outputs]:
    ends = [sum(view.shape[0] for view in views[: i + 1]) for i in range(len(views))]
    return [
        jax.tree.map(lambda x, start=end - view.shape[0], end=end: x[start:end], outputs)
        for view, end in zip(views, ends, strict=True)
    ]


class AxisDevices:
    """The `core.Devices` of one mapped axis; with `axis=None` a device sees the global batch."""

    def __init__(self, axis: str | None):
        self.axis = axis

    def mean(self, tree: PyTree) -> PyTree:
        """Averages over the devices, without gradient."""
        return self._apply(lambda x: lax.pmean(x, self.axis), tree)

    def sum(self, tree: PyTree) -> PyTree:
        """Sums over the devices, without gradient."""
        return self._apply(lambda x: lax.psum(x, self.axis), tree)

    def gather(self, tree: PyTree, *, differentiable: bool = False) -> PyTree:
        """Concatenates the devices' batches along axis 0, without gradient unless asked for.

        A row then collects the gradients of all devices' objectives, so that averaging gradients
        over devices afterwards gives that of the objectives' average.
        """

        def concatenated(x):
            return lax.all_gather(x, self.axis, tiled=True)

        return self._apply(concatenated, tree, differentiable=differentiable)

    def share(self, tree: PyTree) -> PyTree:
        """Takes this device's rows of what `gather` returned, without gradient."""

        def own(x):
            size = x.shape[0] // lax.axis_size(self.axis)
            return lax.dynamic_slice_in_dim(x, lax.axis_index(self.axis) * size, size)

        return self._apply(own, tree)

    def _apply(self, collective, tree: PyTree, *, differentiable: bool = False) -> PyTree:
        tree = tree if differentiable else lax.stop_gradient(tree)
        return tree if self.axis is None else jax.tree.map(collective, tree)


class ExampleKeys:
    """The `core.Rng` of one step."""

    def __init__(self, key: Array):
        self._key = key

    def per_example(self, stream: str, index: Array) -> Array:
        """One key per example `[B]`, from the stream's name and the example's index `[B]`."""
        key = self.shared(stream)
        return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)

    def shared(self, stream: str) -> Array:
        """One key for all examples, from the stream's name."""
        return jax.random.fold_in(self._key, zlib.crc32(stream.encode()))
