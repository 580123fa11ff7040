"""The TRAS train step in plain PyTorch, written from the equations; `step_time.py` starts it.

python torch_step.py JOB.npz STYLE

Reads commands from the standard input and answers each with one line: `check FILE` makes the first
step, in float32, and stores everything that it computed under the names of `step_time.record`;
`step N` and `whole N` make N steps on views that are there already, or on views made on the way.

Styles:
  authors: float32, NCHW; Adam, a loop over all tensors for EMA and shrink, every loss fetched every
    step, views made by loader workers with Pillow. Four forward passes.
  tuned: channels-last, bfloat16 on a GPU (float32 on a CPU), fused Adam, `torch._foreach` EMA and
    shrink, nothing fetched, views made on the device. Four forward passes too: their order and
    their separate batch statistics belong to the method.
  compiled: the same, its network compiled by `torch.compile`.

It needs only PyTorch, NumPy and Pillow, which may live in an environment of their own.
"""

import contextlib
import itertools
import json
import sys
import time
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import torch_augment
from torch import Tensor, nn


class Style(NamedTuple):
    """How the same step is programmed; see the module docstring."""

    is_tuned: bool = False
    is_compiled: bool = False


STYLES = {"authors": Style(), "tuned": Style(True), "compiled": Style(True, True)}


# --- network --------------------------------------------------------------------------------------


def conv(channels: int, filters: int, size: int, stride: int) -> nn.Conv2d:
    """Builds a convolution that keeps the image size at stride 1."""
    return nn.Conv2d(channels, filters, size, stride, padding=size // 2, bias=False)


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut; `entry` says who sees the normalized input."""

    def __init__(self, channels: int, filters: int, stride: int, entry: str, momentum: float):
        super().__init__()
        self.entry = entry
        if entry != "none":
            self.bn1 = nn.BatchNorm2d(channels, momentum=momentum)
        self.conv1 = conv(channels, filters, 3, stride)
        self.bn2 = nn.BatchNorm2d(filters, momentum=momentum)
        self.conv2 = conv(filters, filters, 3, 1)
        self.shortcut = conv(channels, filters, 1, stride) if channels != filters else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[B, channels, H, W]` to `[B, filters, H / stride, W / stride]`."""
        inner = x if self.entry == "none" else activated(self.bn1(x))
        shortcut = inner if self.entry == "both" else x
        if self.shortcut is not None:
            shortcut = self.shortcut(shortcut)
        return shortcut + self.conv2(activated(self.bn2(self.conv1(inner))))


def activated(x: Tensor) -> Tensor:
    """Applies the leaky ReLU of this field in place."""
    return F.leaky_relu(x, 0.1, inplace=True)


class WideResNet(nn.Module):
    """WRN with the entries that TRAS's authors released, and one dense classifier per head."""

    def __init__(self, depth: int, width: int, momentum: float, num_classes: int):
        super().__init__()
        self.conv1 = conv(3, 16, 3, 1)
        blocks, channels = {}, 16
        for stage, i in itertools.product((1, 2, 3), range((depth - 4) // 6)):
            filters, stride = 8 * 2**stage * width, 2 if stage > 1 and i == 0 else 1
            entry = "branch" if channels == filters else "both" if stage == 1 else "none"
            blocks[f"block{stage}_{i}"] = Block(channels, filters, stride, entry, momentum)
            channels = filters
        self.blocks = nn.ModuleDict(blocks)
        self.bn1 = nn.BatchNorm2d(channels, momentum=momentum)
        self.base = nn.Linear(channels, num_classes)
        self.balanced = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps `[B, 3, H, W]` to the logits of both heads, `[B, K]`."""
        x = self.conv1(images)
        for block in self.blocks.values():
            x = block(x)
        features = activated(self.bn1(x)).mean((2, 3))
        return self.base(features), self.balanced(features)


# --- loss -----------------------------------------------------------------------------------------


def tras_terms(log_pi, labeled, weak, strong, labels, *, A, B, temperature, threshold):
    """Computes the four terms of TRAS (arXiv:2205.13358) and the two masks.

    Args:
      log_pi: `[K]` log class frequencies of the labeled set.
      labeled, weak, strong: pairs of logits of the heads h and b; `[B, K]`, `[U, K]`, `[2 U, K]`.
      labels: `[B]` int.
      A, B, temperature, threshold: of the paper.
    """
    (labeled_h, labeled_b), (weak_h, weak_b), (strong_h, strong_b) = labeled, weak, strong
    confidence_h, labels_h = (weak_h - log_pi).softmax(1).max(1)
    confidence_b, labels_b = weak_b.softmax(1).max(1)
    mask_h, mask_b = ((c >= threshold).float() for c in (confidence_h, confidence_b))
    strength = A * (-log_pi).softmax(0) + B
    shift = (strength[labels_b][:, None] * log_pi).repeat(2, 1)
    target = ((strong_h.detach() - shift) / temperature).softmax(1)
    consistency = F.cross_entropy(strong_h, labels_h.repeat(2), reduction="none")
    transfer = -(target * strong_b.log_softmax(1)).sum(1)
    return {
        "loss/supervised": F.cross_entropy(labeled_h, labels),
        "loss/consistency": (mask_h.repeat(2) * consistency).mean(),
        "loss/supervised_balanced": F.cross_entropy(labeled_b + log_pi, labels),
        "loss/transfer": (mask_b.repeat(2) * transfer).mean(),
    }, {"monitor/mask/base": mask_h.mean(), "monitor/mask/balanced": mask_b.mean()}


# --- step -----------------------------------------------------------------------------------------


class Trainer:
    """Network, averages and optimizer, and the step that moves them.

    Attributes:
      online: weights and running statistics by name.
      average: their exponential moving averages.
      is_float32: compute in float32 whatever the style says.
    """

    def __init__(self, job: dict, style: Style, device: torch.device):
        self.job, self.style, self.device = job, style, device
        model = WideResNet(job["depth"], job["width"], job["momentum"], job["num_classes"])
        start = {k.removeprefix("start/"): v for k, v in job.items() if k.startswith("start/")}
        state = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
        assert state.keys() == start.keys(), state.keys() ^ start.keys()
        model.load_state_dict({k: torch.from_numpy(v) for k, v in start.items()}, strict=False)
        layout = torch.channels_last if style.is_tuned else torch.contiguous_format
        self.model = model.to(device, memory_format=layout)
        # References, not copies: parameters and buffers as the step changes them.
        self.online = {k: v.detach() for k, v in model.state_dict().items() if k in state}
        self.average = {k: v.clone() for k, v in self.online.items()}
        self.optimizer = torch.optim.Adam(
            model.parameters(), job["learning_rate"], **(dict(fused=True) if style.is_tuned else {})
        )
        self.forward = torch.compile(model) if style.is_compiled else model
        self.log_pi = torch.from_numpy(job["log_pi"]).to(device)
        self.is_float32 = False

    def step(self, views: tuple[Tensor, ...]) -> dict[str, Tensor | float]:
        """Makes one update from (weak, labeled, strong, strong, labels); returns the losses."""
        *views, labels = views
        if self.style.is_tuned:
            views = [v.contiguous(memory_format=torch.channels_last) for v in views]
        with torch.no_grad():
            weak = self._forward(views[0])
        labeled, *strong = map(self._forward, views[1:])
        strong = tuple(torch.cat(head) for head in zip(*strong, strict=True))
        numbers = {name: self.job[name] for name in ("A", "B", "temperature", "threshold")}
        terms, monitors = tras_terms(self.log_pi, labeled, weak, strong, labels, **numbers)
        self.optimizer.zero_grad()
        sum(terms.values()).backward()
        self.optimizer.step()
        self._follow()
        metrics = {name: value.detach() for name, value in (terms | monitors).items()}
        return metrics if self.style.is_tuned else {k: v.item() for k, v in metrics.items()}

    def _forward(self, view):
        # One autocast per pass: casts cached without gradient must not serve a pass with one.
        with self._autocast():
            logits = self.forward(view)
        return tuple(head.float() for head in logits)

    def _autocast(self):
        if self.device.type == "cuda" and self.style.is_tuned and not self.is_float32:
            return torch.autocast("cuda", torch.bfloat16)
        return contextlib.nullcontext()

    @torch.no_grad()
    def _follow(self):
        """Moves the averages, then shrinks weights and statistics, as the authors' code does."""
        decay, keep = self.job["decay"], 1 - self.job["shrink"] * self.job["learning_rate"]
        online, average = list(self.online.values()), list(self.average.values())
        if self.style.is_tuned:
            torch._foreach_lerp_(average, online, 1 - decay)
            torch._foreach_mul_(online, keep)
            return
        for new, old in zip(online, average, strict=True):
            old.mul_(decay).add_(new * (1 - decay))
            new.mul_(keep)

    def record(self, views: tuple[Tensor, ...]) -> dict[str, np.ndarray]:
        """Makes one step and returns all that it computed, by name."""
        metrics = self.step(views)
        moments = self.optimizer.state
        found = {f"gradient/{n}": moments[p]["exp_avg"] / 0.1
                 for n, p in self.model.named_parameters()}  # fmt: skip
        found |= {f"online/{name}": value for name, value in self.online.items()}
        found |= {f"average/{name}": value for name, value in self.average.items()}
        found = {name: value.detach().cpu().numpy() for name, value in found.items()}
        return found | {name: float(value) for name, value in metrics.items()}


# --- commands -------------------------------------------------------------------------------------


def main():
    """Answers commands until the standard input ends."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    style = STYLES[sys.argv[2]]
    with np.load(sys.argv[1]) as file:
        job = {k: v.item() if v.ndim == 0 else v for k, v in file.items()}
    trainer = Trainer(job, style, device)
    fixed = fixed_views(job, device)
    make = torch_augment.on_device if style.is_tuned else torch_augment.loader
    views = {"step": itertools.repeat(fixed), "whole": make(job, device)}
    threads = torch.get_num_threads()
    answer(device=device.type, torch=torch.__version__, threads=threads)
    for line in sys.stdin:
        command, argument = line.split()
        if command == "check":
            check(trainer, fixed, argument)
            answer(equal_pixels=torch_augment.equal_pixels(job, device))
        else:
            answer(seconds=timed(trainer, views[command], int(argument)))


def answer(**facts):
    """Writes one line for `step_time.py`."""
    print(json.dumps(facts), flush=True)


def fixed_views(job: dict, device: torch.device) -> tuple[Tensor, ...]:
    """Reads the views of the job, `[B, H, W, 3]` there, and their labels."""
    views = [job[f"views/{name}"] for name in ("weak", "labeled", "strong0", "strong1")]
    views = [torch.from_numpy(v).permute(0, 3, 1, 2).contiguous().to(device) for v in views]
    return *views, torch.from_numpy(job["views/labels"]).long().to(device)


def check(trainer: Trainer, views: tuple[Tensor, ...], path: str):
    """Makes one step in full float32, and stores what it computed."""
    is_allowed = torch.backends.cudnn.allow_tf32
    trainer.is_float32, torch.backends.cudnn.allow_tf32 = True, False
    np.savez(path, **trainer.record(views))
    trainer.is_float32, torch.backends.cudnn.allow_tf32 = False, is_allowed


def timed(trainer: Trainer, views, num_steps: int) -> float:
    """Returns the seconds of `num_steps` steps, until the last one is done."""
    began = time.perf_counter()
    for batch in itertools.islice(views, num_steps):
        trainer.step(batch)
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
