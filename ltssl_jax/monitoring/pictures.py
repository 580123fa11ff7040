"""Pictures of a run that goes on, for sinks that show any: `[H, W, 3]` uint8."""

import warnings
from collections.abc import Sequence

import jax
import numpy as np

from ltssl_jax.core import RawBatch, Resident, Stream, Views

WRITTEN = 30  # up to so many classes, names and numbers can be read
GAP = 2  # pixels between the images of a sheet
SMALLEST = 64  # pixels of a side of an image on a sheet


def confusion(matrix: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Draws counts `[K, K]`, each row by its share of the class."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(7, 6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    shown = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    axes.set(xlabel="prediction", ylabel="class")
    if len(matrix) <= WRITTEN:
        places = range(len(matrix))
        names = [name.encode("utf-8", "replace").decode() for name in class_names]
        axes.set_xticks(places, names, rotation=90, parse_math=False)
        axes.set_yticks(places, names, parse_math=False)
    figure.colorbar(shown, label="share of the class")
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def views(recipe: Views, images: np.ndarray, *, seed: int) -> np.ndarray:
    """Shows unlabeled images as the network is given them; a row for each, its views side by side.

    Args:
      recipe: makes the views.
      images: `[N, H, W, C]` uint8.
      seed: of the run.
    """
    rows = np.arange(len(images), dtype=np.int32)
    stream = Stream(rows, rows, np.full(len(rows), -1, np.int32), images)
    made = jax.jit(recipe)(RawBatch(stream, stream), Resident(), jax.random.key(seed), 0).unlabeled
    return sheet(np.stack([made.weak, *made.more_weak, *made.strong, *made.contrastive]))


def sheet(columns: np.ndarray) -> np.ndarray:
    """Lays `[V, N, H, W, C]` side by side; normalized values are stretched to what can be shown."""
    low, high = columns.min(), columns.max()
    shown = np.uint8(255 * (columns - low) / max(high - low, np.finfo(np.float32).tiny))
    shown = shown.repeat(3, axis=-1) if shown.shape[-1] == 1 else shown[..., :3]
    times = -(-SMALLEST // shown.shape[2])
    shown = shown.repeat(times, axis=2).repeat(times, axis=3)
    shown = np.pad(shown, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)))
    return np.concatenate(np.concatenate(shown, axis=2))
