"""Orbax checkpoints of a run: atomic, latest and best kept, with an identity card.

The state is saved as host NumPy arrays, so every runner and any number of devices writes and reads
the same checkpoint. All Orbax calls of the library are in this file.
"""

import itertools
import json
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict
from orbax.checkpoint import checkpoint_managers

from ltssl_jax.core import InputError, PyTree, TrainState

METRIC = "balanced_accuracy"
# What may differ between a run and the checkpoint that it continues.
NOT_IDENTITY = ("versions",)
_QUESTIONS = itertools.count()  # of all stores of a process: stages follow each other


class CheckpointStore:
    """The checkpoints under one directory; use as a context manager.

    Attributes:
      identity: the card of this experiment: plain JSON values, nested.

    Args:
      is_reader: leave the directory alone, in which a run may be saving at this moment.
    """

    def __init__(
        self,
        directory: str | pathlib.Path,
        identity: Mapping[str, Any],
        *,
        is_reader: bool = False,
    ):
        self.identity = json.loads(json.dumps(identity))  # as a checkpoint gives it back
        logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax narrates every save

        def score(metrics):
            return metrics[METRIC]

        # Not max_to_keep with best_fn: together they delete the newest checkpoints.
        keep = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(1),
                checkpoint_managers.BestN(
                    get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        self._manager = ocp.CheckpointManager(
            pathlib.Path(directory).resolve(),
            # Named here, because only then can the stored dtypes be read before the arrays.
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "card": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                best_fn=score,
                best_mode="max",
                preservation_policy=keep,
                cleanup_tmp_directories=True,
                read_only=is_reader,  # which overrules the line before
            ),
        )

    def __enter__(self) -> "CheckpointStore":
        return self

    def __exit__(self, *_):
        self._manager.wait_until_finished()
        self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """The newest step saved, or None."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """The step with the highest balanced accuracy saved, or None."""
        return self._manager.best_step()

    def is_preempted(self) -> bool:
        """Says whether a SIGTERM reached any process of a run on several; the same on all.

        To be asked by all processes equally often: they agree on the number of a question, counted
        one by one, which the steps, made many at once, are not.
        """
        number = next(_QUESTIONS)
        return jax.distributed.is_initialized() and self._manager.reached_preemption(number)

    def save(self, state: TrainState, metrics: Mapping[str, float] | None = None) -> None:
        """Saves the state in the background under its own step; a step is saved once.

        Args:
          state: replicated over the devices.
          metrics: `balanced_accuracy` decides which checkpoint is the best; without it the
            checkpoint is only ever the latest.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(_to_host(state)), card=ocp.args.JsonSave(self.identity)
        )
        scores = None if metrics is None else {METRIC: float(metrics[METRIC])}
        self._manager.save(step, args=items, metrics=scores, force=True)

    def restore_or(self, state: TrainState, step: int | None = None) -> TrainState:
        """Returns the latest checkpoint (or that of `step`) if there is one, else `state`.

        Args:
          state: of the right structure, shapes and dtypes.
          step: None for the latest.

        Returns:
          NumPy leaves in the structure of `state`, to be placed on devices; or `state` itself.

        Raises:
          InputError: the checkpoint is of another experiment; every differing field is named.
        """
        step = self.latest_step if step is None else step
        if step is None:
            return state
        self._check_identity(step)
        like = _to_host(state)
        self._check_dtypes(step, like)
        restore = ocp.args.Composite(state=ocp.args.StandardRestore(like))
        return self._manager.restore(step, args=restore).state

    def _check_dtypes(self, step: int, like: PyTree) -> None:
        # Orbax would cast silently.
        stored = jax.tree.leaves(self._manager.item_metadata(step).state.tree)
        dtypes = {array.name: array.dtype for array in stored}
        for path, x in jax.tree_util.tree_leaves_with_path(like):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            if dtypes.get(name, x.dtype) != x.dtype:
                raise InputError(
                    f"checkpoint {step} holds {name} as {dtypes[name]}, this run has {x.dtype};"
                    " continue with the version that wrote it, or give another --workdir"
                )

    def _check_identity(self, step: int) -> None:
        restore = ocp.args.Composite(card=ocp.args.JsonRestore())
        theirs = flatten_dict(self._manager.restore(step, args=restore).card, sep=".")
        ours = flatten_dict(self.identity, sep=".")
        fields = sorted(k for k in ours | theirs if k.split(".")[0] not in NOT_IDENTITY)
        differing = [
            f"{k}: checkpoint {theirs.get(k, 'nothing')}, this run {ours.get(k, 'nothing')}"
            for k in fields
            if theirs.get(k, None) != ours.get(k, None)
        ]
        if differing:
            raise InputError(
                f"{self._manager.directory} holds another experiment; give this run another"
                " --workdir, or undo the difference:\n  " + "\n  ".join(differing)
            )


def _to_host(tree: PyTree) -> PyTree:
    """Replicated device arrays to NumPy: the first shard is all of it."""

    def fetch(x):
        return np.asarray(x.addressable_shards[0].data) if isinstance(x, jax.Array) else x

    return jax.tree.map(fetch, tree)
