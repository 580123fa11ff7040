"""Images as text for a page: strips of thumbnails, and what a bar is as wide as."""

import base64
import io

import numpy as np


def strip(images: np.ndarray, *, side: int) -> str:
    """Returns a data URI of `[n, H, W, C]` uint8 images next to each other, `side` pixels high."""
    from PIL import Image

    height, width = images.shape[1:3]
    scale = side / height
    cell = max(1, round(width * scale)), side
    sheet = Image.new("RGB", (len(images) * (cell[0] + 2) - 2, side), "white")
    for i, pixels in enumerate(images):
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
        # Pixels stay visible where there are few; where there are many, they are averaged.
        how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
        sheet.paste(image.resize(cell, how), (i * (cell[0] + 2), 0))
    data = io.BytesIO()
    sheet.save(data, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def samples(labels: np.ndarray, num_classes: int, *, seed: int = 0) -> list[np.ndarray]:
    """Draws positions of a few images of each class, fewer where there are many classes."""
    most = int(np.clip(1000 // num_classes, 2, 10))
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    starts = np.searchsorted(labels[order], np.arange(num_classes + 1))
    return [
        np.sort(order[a : min(a + most, b)]) for a, b in zip(starts[:-1], starts[1:], strict=True)
    ]
