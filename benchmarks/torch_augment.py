"""The data work of the PyTorch steps: loader workers with Pillow, or tensor operations.

`loader` is how the authors of these methods do it: worker processes make every view with Pillow,
one image at a time (`pillow_views`). It is given the best of that way: workers live for the whole
run instead of starting anew each epoch, and batches arrive in pinned memory.

`on_device` is what a well-written PyTorch program does: the uint8 images live on the device, and
the recipe is a dozen batched tensor operations. All sixteen operations of RandAugment are there:
warps are one nearest-neighbour gather, everything that looks at one value is a table of 256
entries, saturation, sharpness and boxes are computed for all and change nothing where they were not
drawn. A view is made of the same uniforms as in `pillow_views`, so the two can be compared.
"""

import functools
import math
from collections.abc import Iterator

import numpy as np
import pillow_views
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

NUM_STRONG = 2
FOREVER = 2**40  # examples
OP = {name: number for number, (name, _, _) in enumerate(pillow_views.OPS)}
RANGE = {name: bounds for name, bounds, _ in pillow_views.OPS}
LUMA = (19595, 38470, 7471)  # Pillow's grey, in units of 2^-16
GREY = (125, 123, 114)  # of the box


# --- the authors' way -----------------------------------------------------------------------------


class Views(Dataset):
    """Views of one stream `[3, H, W]`, and the label, made when asked for."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, num_strong: int):
        self.images, self.labels, self.num_strong = images, labels, num_strong

    def __len__(self) -> int:
        """Counts the images."""
        return len(self.images)

    def __getitem__(self, index: int):
        """Makes one weak view and the strong ones with Pillow."""
        # Workers seed PyTorch each on its own, and nothing else.
        rng = np.random.default_rng(torch.randint(2**62, ()).item())
        image = Image.fromarray(self.images[index])
        views = [pillow_views.weak(image, rng)]
        views += [pillow_views.strong(image, rng) for _ in range(self.num_strong)]
        views = [torch.from_numpy(view.transpose(2, 0, 1).copy()) for view in views]
        return *views, int(self.labels[index])


def loader(job: dict, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    """Yields (weak, labeled, strong, strong, labels), for ever, made by worker processes."""

    def stream(name, num_strong):
        dataset = Views(job[f"{name}_images"], job[f"{name}_labels"], num_strong)
        batches = DataLoader(
            dataset,
            batch_size=job["batch_size"],
            sampler=RandomSampler(dataset, num_samples=FOREVER),
            num_workers=job["num_workers"],
            pin_memory=device.type == "cuda",
        )
        return iter(batches)

    labeled, unlabeled = stream("labeled", 0), stream("unlabeled", NUM_STRONG)
    for (image, label), (weak, *strong, _) in zip(labeled, unlabeled, strict=True):
        yield tuple(x.to(device, non_blocking=True) for x in (weak, image, *strong, label))


# --- the well-written way -------------------------------------------------------------------------


def on_device(job: dict, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    """Yields (weak, labeled, strong, strong, labels), for ever, made where the images live."""
    batch_size = job["batch_size"]
    labels = torch.from_numpy(job["labeled_labels"]).long().to(device)
    labeled, unlabeled = (
        torch.from_numpy(job[f"{name}_images"]).permute(0, 3, 1, 2).contiguous().to(device)
        for name in ("labeled", "unlabeled")
    )

    def order(size):
        while True:
            yield from torch.randperm(size, device=device).split(batch_size)[: size // batch_size]

    def uniforms(size, draws):
        return torch.rand(size, draws, device=device)

    for one, other in zip(order(len(labeled)), order(len(unlabeled)), strict=True):
        images = unlabeled[other]
        both = torch.cat([labeled[one], images])
        image, weak = weak_view(both, uniforms(len(both), pillow_views.WEAK_DRAWS)).chunk(2)
        many = images.repeat(NUM_STRONG, 1, 1, 1)
        strong = strong_view(many, uniforms(len(many), pillow_views.STRONG_DRAWS))
        yield weak, image, *strong.chunk(NUM_STRONG), labels[one]


def weak_view(images: Tensor, uniforms: Tensor) -> Tensor:
    """Crops, flips and normalizes `[B, 3, H, W]` uint8 to float32."""
    return _normalize(_crop_and_flip(images, uniforms))


def strong_view(images: Tensor, uniforms: Tensor) -> Tensor:
    """Applies three operations, crops, flips, normalizes and cuts out `[B, 3, H, W]`."""
    ops, place, cutout = uniforms.split([3 * pillow_views.NUM_OPS, 3, 2], dim=1)
    for op, *where in ops.reshape(-1, pillow_views.NUM_OPS, 3).permute(1, 2, 0):
        images = _apply_ops(images, (op * len(OP)).long(), where)
    views = _normalize(_crop_and_flip(images, place))
    height, width = images.shape[2:]
    side = height // 2
    top, left = (cutout[:, 0] * height).long(), (cutout[:, 1] * width).long()
    inside = _box(images, top - side // 2, left - side // 2, side)
    return views.masked_fill(inside, 0.0)


def equal_pixels(job: dict, device: torch.device) -> float:
    """Returns the share of values of strong views on which `on_device` and Pillow agree."""
    images = job["unlabeled_images"][:512]
    draws = pillow_views.STRONG_DRAWS
    uniforms = np.random.default_rng(0).random((len(images), draws), np.float32)
    pairs = zip(images, uniforms, strict=True)
    wanted = np.stack([pillow_views.strong_view(Image.fromarray(i), u) for i, u in pairs])
    on_device = (torch.from_numpy(x).to(device) for x in (images.transpose(0, 3, 1, 2), uniforms))
    found = strong_view(*on_device).permute(0, 2, 3, 1).cpu().numpy()
    return float(np.mean(np.abs(found - wanted) < 1e-4))


def _apply_ops(images, op, where):
    """Applies operation `op` `[B]` to each image; `where` are two uniforms `[B]`."""

    def value(name, otherwise):
        low, high = RANGE[name]
        return torch.where(op == OP[name], low + pillow_views.LEVEL * (high - low), otherwise)

    images = _warp(images, value, torch.where(where[0] > 0.5, -1.0, 1.0))
    table = _table(images, op, value)
    images = table.gather(2, images.flatten(2).long()).reshape(images.shape)
    images = _blend(_luma(images), images, value("color", 1.0)[:, None, None, None])
    images = _sharpen(images, value("sharpness", 1.0)[:, None, None, None])
    height, width = images.shape[2:]
    side = value("cutout", -32 / height) * (height / 32)
    left = (where[0] * width - side / 2).clamp(min=0).floor()
    top = (where[1] * height - side / 2).clamp(min=0).floor()
    inside = _box(images, top, left, side.floor() + 1)
    return torch.where(inside, _channels(GREY, torch.uint8, images.device), images)


def _warp(images, value, sign):
    """Looks each pixel up where its operation says; black outside."""
    batch, _, height, width = images.shape
    angle = sign * value("rotate", 0.0) * (math.pi / 180)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    shear_x, shear_y, right, down = (
        (sign * value(name, 0.0))[:, None, None]
        for name in ("shear_x", "shear_y", "translate_x", "translate_y")
    )
    y, x = (torch.arange(n, device=images.device) + 0.5 for n in (height, width))
    y, x = y[None, :, None], x[None, None, :]
    from_x, from_y = x - width / 2, y - height / 2
    scale = height / 32
    source_x = cos * from_x - sin * from_y + width / 2 + shear_x * y + right * scale
    source_y = sin * from_x + cos * from_y + height / 2 + shear_y * x + down * scale
    source_x, source_y = source_x.floor().long(), source_y.floor().long()
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    index = torch.where(inside, source_y * width + source_x, 0).reshape(batch, 1, -1)
    moved = images.flatten(2).gather(2, index.expand(-1, 3, -1)).reshape(images.shape)
    return moved * inside[:, None]


def _table(images, op, value):
    """Returns what each of 256 values becomes, `[B, 3, 256]` uint8."""

    def drawn(name):
        return (op == OP[name])[:, None, None]

    levels = torch.arange(256, device=images.device)[None, None, :]
    dropped = 8 - value("posterize", 8.0).long().clamp(min=1)[:, None, None]
    table = (levels >> dropped) << dropped
    table = (table + value("solarize_add", 0.0).long()[:, None, None]).clamp(max=255)
    threshold = torch.where(drawn("invert"), 0.0, value("solarize", 256.0)[:, None, None])
    threshold = torch.where(drawn("solarize_add"), 128.0, threshold)
    table = torch.where(table < threshold, table, 255 - table)
    mean = (_luma(images).flatten(1).float().mean(1) + 0.5).floor()[:, None, None]
    contrast = value("contrast", 1.0)[:, None, None]
    table = _blend(torch.where(drawn("contrast"), mean, 0.0), table, contrast)
    table = _blend(torch.zeros_like(mean), table, value("brightness", 1.0)[:, None, None])
    table = table.expand(-1, 3, -1)
    table = torch.where(drawn("auto_contrast"), _auto_contrast(images, levels), table)
    return torch.where(drawn("equalize"), _equalize(images), table)


def _auto_contrast(images, levels):
    low, high = (x[..., None].long() for x in images.flatten(2).aminmax(dim=2))
    stretched = (levels - low).clamp(min=0).minimum(high - low) * 255 // (high - low).clamp(min=1)
    return torch.where(high > low, stretched, levels).to(torch.uint8)


def _equalize(images):
    values = images.flatten(2).long()
    ones = torch.ones_like(values)
    counts = torch.zeros(*values.shape[:2], 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(2, values, ones)
    num_brightest = counts.gather(2, values.amax(2, keepdim=True))
    step = (values.shape[2] - num_brightest) // 255
    flattened = (step // 2 + counts.cumsum(2) - counts) // step.clamp(min=1)
    identity = torch.arange(256, device=images.device)[None, None, :]
    return torch.where(step > 0, flattened.clamp(max=255), identity).to(torch.uint8)


def _luma(images):
    weights = _channels(LUMA, torch.int32, images.device)
    weighted = (images.int() * weights).sum(1, keepdim=True)
    return (weighted + 0x8000) >> 16


def _blend(degenerate, values, factor):
    mixed = degenerate + factor * (values.float() - degenerate)
    return mixed.clamp(0, 255).to(torch.uint8)


def _sharpen(images, factor):
    """Blends with a smoothed version that leaves the border alone."""
    values = images.float()
    kernel = torch.ones(3, 1, 3, 3, device=images.device)
    kernel[:, :, 1, 1] = 5
    smooth = values.clone()
    smooth[:, :, 1:-1, 1:-1] = (F.conv2d(values, kernel, groups=3) / 13 + 0.5).floor()
    return _blend(smooth, images, factor)


def _box(images, top, left, side):
    """Says which pixels lie in the square `[top, top + side) x [left, left + side)`."""
    height, width = images.shape[2:]
    top, left = top[:, None], left[:, None]
    side = side[:, None] if torch.is_tensor(side) else side
    row, column = (torch.arange(n, device=images.device)[None, :] for n in (height, width))
    rows = (row >= top) & (row < top + side)
    columns = (column >= left) & (column < left + side)
    return rows[:, None, :, None] & columns[:, None, None, :]


def _crop_and_flip(images, uniforms):
    """Moves by up to an eighth, black outside, and mirrors half of the images."""
    batch, _, height, width = images.shape
    padding = height // 8
    top, left = ((uniforms[:, i] * (2 * padding + 1)).long() for i in (0, 1))
    row = top[:, None] + torch.arange(height, device=images.device)[None, :]
    column = torch.arange(width, device=images.device)[None, :]
    column = torch.where(uniforms[:, 2:] < 0.5, width - 1 - column, column) + left[:, None]
    padded = F.pad(images, (padding,) * 4)
    example = torch.arange(batch, device=images.device)[:, None, None]
    return padded[example, :, row[:, :, None], column[:, None, :]].permute(0, 3, 1, 2)


def _normalize(images):
    mean, std = (
        _channels(tuple(x.tolist()), torch.float32, images.device)
        for x in (pillow_views.MEAN, pillow_views.STD)
    )
    return (images.float() / 255 - mean) / std


# Kept: copying constants to the device would make the host wait for it every time.
@functools.cache
def _channels(values, dtype, device):
    return torch.tensor(values, dtype=dtype, device=device)[None, :, None, None]
