"""Every convolution of a program, found in its trace, timed and laid out by itself."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import hlo_profile
import jax
import numpy as np
from jax import lax


class Convolution(NamedTuple):
    """A convolution as traced: shape and type of its operands, shape of its result, parameters."""

    left: jax.ShapeDtypeStruct
    right: jax.ShapeDtypeStruct
    result: tuple[int, ...]
    parameters: tuple[tuple[str, object], ...]

    @property
    def purpose(self) -> str:
        """Forward, or gradient of the input or the weights: told by the order of dimensions."""
        left, right, _ = dict(self.parameters)["dimension_numbers"]
        if left[0] != 0:
            return hlo_profile.WEIGHTS
        return hlo_profile.FORWARD if right[0] > right[1] else hlo_profile.INPUT

    @property
    def name(self) -> str:
        """Purpose and shapes."""
        shapes = (self.left.shape, self.right.shape, self.result)
        left, right, result = ("x".join(map(str, shape)) for shape in shapes)
        return f"{self.purpose}: {left} * {right} = {result}"

    def __call__(self, left: jax.Array, right: jax.Array) -> jax.Array:
        """Convolves."""
        return lax.conv_general_dilated(left, right, **dict(self.parameters))


def find(jaxpr) -> Iterator[Convolution]:
    """Yields every convolution of a traced program, those of its parts included."""
    for equation in jaxpr.eqns:
        if equation.primitive is lax.conv_general_dilated_p:
            left, right = (
                jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in equation.invars
            )
            chosen = {k: v for k, v in equation.params.items() if k != "out_sharding"}
            result = equation.outvars[0].aval.shape
            yield Convolution(left, right, result, tuple(sorted(chosen.items())))
        for part in jax.tree.leaves(list(equation.params.values())):
            if hasattr(part, "eqns"):  # a traced program, closed or open
                yield from find(getattr(part, "jaxpr", part))


def alone(found: Mapping[Convolution, int], calls: int) -> dict[str, Callable[[], Any]]:
    """Returns each convolution by itself, `calls` times on different inputs in one program."""
    works = {}
    for convolution in found:
        key = jax.random.key(0)
        lefts = [
            jax.random.normal(jax.random.fold_in(key, i), convolution.left.shape).astype(
                convolution.left.dtype
            )
            for i in range(calls)
        ]
        right = jax.random.normal(key, convolution.right.shape).astype(convolution.right.dtype)
        each = jax.jit(lambda lefts, right, apply=convolution: [apply(x, right) for x in lefts])
        works[convolution.name] = functools.partial(each, lefts, right)
    return works


def rows(found: Mapping[Convolution, int], times: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lists the convolutions, the most expensive first; speed counts what is multiplied."""
    table = []
    for convolution, number in found.items():
        call = jax.jit(lambda left, right, apply=convolution: apply(left, right))
        cost = call.lower(convolution.left, convolution.right).cost_analysis()
        seconds = float(np.median(times[convolution.name]))
        table.append(
            dict(
                convolution=convolution.name,
                number=number,
                milliseconds=seconds * 1e3,
                all_milliseconds=number * seconds * 1e3,
                gigaoperations_per_second=cost["flops"] / seconds / 1e9,
            )
        )
    return sorted(table, key=lambda row: -row["all_milliseconds"])


def text(rows: list[dict[str, Any]]) -> str:
    """Lays out the convolutions that matter."""
    total = sum(row["all_milliseconds"] for row in rows)
    lines = [f"\n{'number':>6} {'ms each':>9} {'ms all':>8} {'G/s':>9}  convolution by itself"]
    for row in rows:
        if row["all_milliseconds"] > total / 100:
            lines.append(
                f"{row['number']:6} {row['milliseconds']:9.3f} {row['all_milliseconds']:8.2f}"
                f" {row['gigaoperations_per_second']:9.1f}  {row['convolution']}"
            )
    return "\n".join(lines)
