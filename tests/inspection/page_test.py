"""The page is one file, holds what was found, and lets nothing hostile through."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ltssl_jax.data.sources import Skipped
from ltssl_jax.inspection import findings, overview, page, pictures

HOSTILE = "<script>alert('x')</script>\"' onerror=alert(1) {{ 271*271 }} ünï"


def content(names, **changes):
    """What an inspection finds, with the smallest content that it can have."""
    number = len(names)
    counts = [max(1, 100 // (k + 1)) for k in range(number)]
    copies = dict(clusters=1, images=2, superfluous=1, conflicts=1, is_complete=False)
    found = {
        "data": dict(name=names[0], class_names=names, split_fingerprint="", notes=[names[0]]),
        "totals": dict.fromkeys(overview.PARTS, 7),
        "counts": {p: counts if p == "labeled" else [0] * number for p in overview.PARTS},
        "pool_unknown": 5,
        "labeled_in_pool": 0,
        "imbalance": overview.imbalance(np.array(counts)),
        "few": {"threshold": 10, "classes": [number - 1]},
        "absent": {"labeled": [], "test": [0]},
        "images": {"shape": [8, 8, 3], "sizes": overview.sizes(np.array([[9, 8, 3], [4, 5, 1]]))},
        "skipped": overview.skipped([]),
        "groups": [{"parts": ["pool", "test"], "groups": 2, "images": 3}],
        "duplicates": {
            "distance": 6, "correlation": 0.96, "listed": [],
            "exact": copies | {"between": {"labeled/test": 1}},
            "near": copies | {"between": {"labeled/test": 2}},
        },
        "shift": {"reason": "too few"},
        "frechet": {"reason": "too few"},
        "cost": {"reason": "not asked for"},
        "made_by": names[0],
    }  # fmt: skip
    found |= changes
    return found | {"findings": [one._asdict() for one in findings.findings(found)]}


def rendered(names, **changes):
    shown = {"picture": "data:,", "captions": [f"test: {names[0]}"], "is_conflict": True}
    return page.render(content(names, **changes), {"samples": [""] * len(names), "copies": [shown]})


class Tags(HTMLParser):
    """Collects tags and attributes, and checks that elements are closed in order."""

    VOID = ("meta", "img", "br", "line", "polyline")

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        if tag not in ("li", "p"):
            while self.open[-1] in ("li", "p") and self.open[-1] != tag:
                self.open.pop()
        assert self.open.pop() == tag


def test_hostile_names_are_text():
    text = rendered([HOSTILE, "b"], skipped=overview.skipped([skip(HOSTILE)]))
    tags = Tags(text)
    assert "script" not in tags.tags
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in text and "73441" not in text
    assert text.count("&lt;script&gt;") >= 6  # title, classes, findings, copies, skipped, command


def skip(name):
    return overview.Skipped(name, "train", HOSTILE)


def test_the_page_refers_to_nothing_outside():
    tags = Tags(rendered(["a", "b"]))
    links = [value for name, value in tags.attributes if name in ("src", "href")]
    assert links and all(link.startswith("data:") for link in links)
    assert not {"script", "link", "iframe"} & set(tags.tags)
    assert "url(" not in rendered(["a", "b"])


@pytest.mark.parametrize("number", [2, 60, 2000])
def test_any_number_of_classes(number):
    text = rendered([f"class {k}" for k in range(number)])
    Tags(text)
    assert text.count('<div class="class">') == number
    assert ("<details open>" in text) == (number <= 60)
    assert len(text) < 40_000 + 1200 * number


def test_shift_and_cost_are_shown():
    groups = [
        {"classes": [0], "labeled": 0.9, "pool": 0.5, "low": 0.4, "high": 0.6},
        {"classes": [1, 2, 3, 4], "labeled": 0.1, "pool": 0.5, "low": 0.4, "high": 0.6},
    ]
    shift = dict(
        reason="", groups=groups, distance=[0.4, 0.3, 0.5], balanced_accuracy=0.8, chance=0.5,
    )  # fmt: skip
    frechet = dict(
        reason="", distance=2.5, low=2.0, high=3.0, yardstick=0.5, yardstick_high=0.7,
        num_images=99,
    )  # fmt: skip
    cost = dict(
        reason="", compile_seconds=3, step_seconds=0.02, timed_steps=30, memory_bytes=2**25,
        steps=1000, total_seconds=7205.0, baseline_seconds=185.0, devices="1 cpu", feed="resident",
    )  # fmt: skip
    text = rendered(list("abcde"), shift=shift, frechet=frechet, cost=cost)
    Tags(text)
    assert "b, c, d and 1 more" in text and "32 MiB" in text and "2.0 hours" in text
    assert "5.0 times that of random halves" in text and "a diagnostic, no verdict" in text
    assert "30% to 50% of its images (40%)" in text
    assert "and 3.1 min for the baselines" in text
    without = rendered(list("abcde"), cost=cost | {"baseline_seconds": 0.0})
    assert "baselines" not in without


def test_images_of_the_pool_that_test_are_no_problem():
    found = content(
        ["a", "b"], skipped=overview.skipped([Skipped("x", "pool", "also in test")] * 90)
    )
    (one,) = [f for f in findings.findings(found) if "two parts" in f.text]
    assert one.level == "note" and one.text.startswith("90 images")


def test_problems_come_first():
    found = content(["a", "b"], skipped=overview.skipped([skip("x.png")] * 9))
    levels = [one["level"] for one in found["findings"]]
    assert levels == sorted(levels, key=findings.LEVELS.index)
    texts = [one["text"] for one in found["findings"] if one["level"] == "problem"]
    assert "2 test images have a copy among the labeled ones, 1 of them with the same" in texts[0]
    assert "2 groups lie in pool and in test" in texts[1]
    assert "9 files cannot be used" in texts[2]


def test_strips_hold_the_images():
    images = np.zeros((3, 8, 4, 1), np.uint8)
    images[1] = 255
    kind, data = pictures.strip(images, side=16).split(",")
    assert kind == "data:image/jpeg;base64"
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert sheet.shape == (16, 3 * 8 + 2 * 2, 3)
    assert sheet[8, 4].max() < 20 and sheet[8, 14].min() > 235 and sheet[8, 24].max() < 20


def test_samples_are_of_each_class():
    labels = np.array([2, 0, 2, 2, 0, 3] * 5)
    found = pictures.samples(labels, 5)
    assert [len(rows) for rows in found] == [10, 0, 10, 5, 0]
    assert all((labels[rows] == k).all() for k, rows in enumerate(found))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123, "12 ms"), (59, "59.0 s"), (150, "2.5 min"), (4e5, "4.6 days")]
)
def test_duration(seconds, text):
    assert page.duration(seconds) == text


def test_shares_keep_their_digits():
    assert [page.percent(x) for x in (0.5, 0.0123, 0)] == ["50 %", "1.2 %", "0 %"]
    assert not re.search(r"\de-", page.percent(0.002))
