"""Mapping one per-device step over devices: `pmap` by default, `shard_map` or `jit` by name.

The state has no leading device axis under any of them, so checkpoints are the same and moving from
one to another is a config value. On several hosts `shard_map` is the one to take: `pmap` converts
host-local arrays to global ones at every call.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, MutableMapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ltssl_jax.core import InputError, PyTree

AXIS = "data"
# XLA hands convolutions on processors to a library with which steps take 1.4 times as long as with
# its own code (docs/performance.md). Versions that know the flag: on others it would end Python.
_CONVOLUTION_FLAG = "xla_cpu_experimental_ynn_fusion_type"
_CONVOLUTIONS_BY_XLA = f"--{_CONVOLUTION_FLAG}=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
_KNOWING_VERSIONS = ("0.10", "0.11", "0.12")
MODES = ("pmap", "shard_map", "jit")


@dataclasses.dataclass(frozen=True)
class Runner:
    """How a step meets the devices.

    Attributes:
      mode: `"pmap"`, `"shard_map"` or `"jit"`.
      devices: all devices of the run, those of a process next to each other.
    """

    mode: str
    devices: tuple[jax.Device, ...]

    @property
    def axis(self) -> str | None:
        """Name of the mapped axis inside a step; None where the step sees the global batch."""
        return None if self.mode == "jit" else AXIS

    @property
    def num_devices(self) -> int:
        """Devices of the run, over all processes."""
        return len(self.devices)

    def stacks(self, word: str) -> bool:
        """Says whether views share their convolutions: by `"auto"`, on accelerators.

        Raises:
          InputError: `word` is not `"auto"`, `"on"` or `"off"`.
        """
        if word not in ("auto", "on", "off"):
            raise InputError.unknown("parallel.stack_views", word, ("auto", "on", "off"))
        return self.is_accelerated if word == "auto" else word == "on"

    @property
    def is_accelerated(self) -> bool:
        """Says whether the devices are something else than processors."""
        return self.devices[0].platform != "cpu"

    @functools.cached_property
    def _local(self) -> list[jax.Device]:
        return [d for d in self.devices if d.process_index == jax.process_index()]

    @functools.cached_property
    def _mesh(self) -> Mesh:
        # pmap sees the devices of its own process; the others see all of them.
        return Mesh(np.asarray(self._local if self.mode == "pmap" else self.devices), (AXIS,))

    @property
    def _everywhere(self) -> NamedSharding:
        return NamedSharding(self._mesh, P())

    def replicate(self, tree: PyTree) -> PyTree:
        """Copies a tree (donation forbids aliases) and places it on every device.

        Placing with the step's own axis name saves a second compilation.
        """
        return jax.device_put(jax.tree.map(jnp.copy, tree), self._everywhere)

    def share(self, batch: PyTree) -> PyTree:
        """Takes this process's contiguous rows of a global batch."""
        index, count = jax.process_index(), jax.process_count()
        return jax.tree.map(lambda x: np.split(x, count)[index], batch)

    def shard(self, batch: PyTree, *, axis: int = 0) -> PyTree:
        """Spreads this process's rows, those of `axis`, of a batch over its devices."""
        sharding = NamedSharding(self._mesh, _spec(axis))
        if self.mode == "pmap":
            count = len(self._local)
            split = lambda x: x.reshape(*x.shape[:axis], count, -1, *x.shape[axis + 1 :])  # noqa: E731
            return jax.device_put(jax.tree.map(split, batch), sharding)
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
        )

    def once(self, function: Callable) -> Callable:
        """Compiles a function of replicated trees, all of whose results are replicated."""
        return jax.jit(function, out_shardings=self._everywhere)

    def map(
        self,
        step: Callable,
        *,
        batch_axis: int = 0,
        num_shared: int = 0,
        donate_state: bool = False,
    ) -> Callable:
        """Compiles `step(state, batch, *shared)`.

        Args:
          step: written for one device; its outputs are equal on all of them.
          batch_axis: the axis of the batch's arrays that `shard` spreads over the devices.
          num_shared: number of further arguments, replicated like the state.
          donate_state: the state's buffers are reused for the next one.
        """
        shared, donated = (None,) * num_shared, (0,) if donate_state else ()
        if self.mode == "pmap":
            return jax.pmap(
                step,
                AXIS,
                in_axes=(None, batch_axis, *shared),
                out_axes=None,
                devices=self._devices_for_pmap(),
                donate_argnums=donated,
            )
        if self.mode == "shard_map":
            in_specs = (P(), _spec(batch_axis), *(P() for _ in shared))
            # check_vma=False: otherwise gradients of replicated weights arrive already summed.
            step = jax.shard_map(
                step, mesh=self._mesh, in_specs=in_specs, out_specs=P(), check_vma=False
            )
        return jax.jit(step, donate_argnums=donated)

    def _devices_for_pmap(self) -> list[jax.Device] | None:
        # None on several processes: naming devices there must include every process's.
        return self._local if jax.process_count() == 1 else None

    def check_batch(self, name: str, size: int) -> None:
        """Refuses a global batch that does not divide among the devices.

        Raises:
          InputError: names the batch, its size and the number of devices.
        """
        if size < self.num_devices or size % self.num_devices:
            lower, upper = (size // self.num_devices * self.num_devices, self.num_devices)
            nearest = max(lower, upper)
            raise InputError(
                f"{name} is {size}, which does not divide among {self.num_devices} devices;"
                f" use a multiple of {self.num_devices} such as {nearest}, or fewer devices"
                " (parallel.num_devices)"
            )


def choose_convolutions(environment: MutableMapping[str, str], jaxlib_version: str) -> None:
    """Adds to `XLA_FLAGS` what makes convolutions on processors fast, unless it is chosen there.

    Has an effect only before anything touches a device.
    """
    flags = environment.get("XLA_FLAGS", "")
    version = ".".join(jaxlib_version.split(".")[:2])
    if version in _KNOWING_VERSIONS and _CONVOLUTION_FLAG not in flags:
        environment["XLA_FLAGS"] = f"{flags} {_CONVOLUTIONS_BY_XLA}".strip()


def keep_compilations() -> None:
    """Keeps compiled programs between runs, unless the user has chosen a place for them."""
    if not jax.config.jax_compilation_cache_dir:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "ltssl_jax", "jax"))


def _spec(axis: int) -> P:
    return P(*[None] * axis, AXIS)


def make(mode: str = "pmap", *, num_devices: int = 0, is_local: bool = False) -> Runner:
    """Chooses devices and how to map over them.

    Args:
      mode: `"pmap"`, `"shard_map"` or `"jit"`.
      num_devices: over all processes; 0 takes every device there is.
      is_local: know the devices of this process only, and take as many of them as there are.

    Raises:
      InputError: an unknown mode, more devices than there are, or a part of a pod.
    """
    if mode not in MODES:
        raise InputError.unknown("parallel.mode", mode, MODES)
    if is_local:
        devices = jax.local_devices()
        return Runner(mode, tuple(devices[: num_devices or len(devices)]))
    devices = [d for p in range(jax.process_count()) for d in jax.local_devices(process_index=p)]
    if num_devices < 0 or num_devices > len(devices):
        raise InputError(
            f"parallel.num_devices is {num_devices}, but {describe(devices)} found;"
            f" set it to at most {len(devices)}, or to 0 for all"
        )
    if num_devices and num_devices < len(devices) and jax.process_count() > 1:
        raise InputError(
            f"parallel.num_devices is {num_devices} of {len(devices)} on {jax.process_count()}"
            " processes; a run on several processes uses all devices: set it to 0"
        )
    return Runner(mode, tuple(devices[: num_devices or len(devices)]))


def describe(devices: list[jax.Device] | tuple[jax.Device, ...]) -> str:
    """Says what the devices are, e.g. `2 cpu devices (no accelerator)`."""
    kinds = sorted({d.device_kind for d in devices})
    note = " (no accelerator)" if {d.platform for d in devices} == {"cpu"} else ""
    return f"{len(devices)} {', '.join(kinds)} device{'s' * (len(devices) != 1)}{note}"
