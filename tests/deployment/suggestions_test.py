import base64
import csv
import io
import re

import numpy as np
import pytest
from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.deployment import suggestions
from ltssl_jax.deployment.suggestions import Suggestion
from ltssl_jax.evaluation import acquisition

HOSTILE = "<script>alert('x')</script>\"' onerror=alert(1) {{ 271*271 }} ünï"


def row(name="i", guess="cat", label=""):
    return Suggestion("/a b,c.png", label, name, guess, "0.5123", "dog", "rare: cat", "0.25")


def rendered(rows, classes, again=""):
    shown = suggestions.picture(np.zeros((4, 4, 3), np.uint8))
    facts = dict(run="runs/0", network="step 3", total=1234, again=again)
    return suggestions.render(rows, [shown] * len(rows), classes=classes, facts=facts)


def test_reasons_are_in_words():
    """Of each number only what few images have is a reason."""
    probs = np.full((40, 3), [0.97, 0.02, 0.01])
    probs[:3] = [[0.5, 0.49, 0.01], [0.1, 0.05, 0.85], [0.1, 0.45, 0.45]]
    counts = np.array([50, 40, 2])
    worth = acquisition.worth(probs, counts)
    novelty = np.array([0.1, 0.2, 0.8, 0.99])
    taken = acquisition.Chosen(np.arange(4), np.array([3.0, 2.0, 1.0, 0.5]), novelty)
    places = [(f"/{n}.png", f"id{n}") for n in range(4)]
    rows = suggestions.told(places, worth, taken, ("ant", "bee", "cat"), counts)
    assert [row.why for row in rows] == [
        "uncertain: ant or bee",
        "uncertain: cat or ant; rare: cat has 2 labeled",
        "uncertain: bee or cat; rare: cat has 2 labeled; unlike the labeled images",
        "unlike the labeled images",
    ]
    taken = taken._replace(rows=np.array([20]), scores=np.array([0.1]), novelty=np.array([0.1]))
    (row,) = suggestions.told(places[:1], worth, taken, ("ant", "bee", "cat"), counts)
    assert row.why == "unlike the labeled images"  # not much, but the most that is to be said
    assert rows[1][:6] == ("/1.png", "", "id1", "cat", "0.85", "ant") and rows[1].score == "2"


def test_the_table_is_read_as_it_was_written(tmp_path):
    rows = [row("a\nb", 'say "cat"'), row("ü", "x;y")]
    suggestions.write(tmp_path, rows, "page")
    with open(tmp_path / "suggestions.csv", newline="", encoding="utf-8") as file:
        header, *found = csv.reader(file)
    assert header == "path label id guess probability runner_up why score".split()
    assert [Suggestion(*one) for one in found] == rows
    assert (tmp_path / "suggestions.html").read_text() == "page"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(suggestions.FILES)


def test_labels_are_never_written_over(tmp_path):
    suggestions.check_free(tmp_path / "new/place")
    suggestions.write(tmp_path, [row(), row(label=" ")], "page")
    suggestions.check_free(tmp_path)
    suggestions.write(tmp_path, [row(), row(label="cat")], "page")
    with pytest.raises(InputError, match="suggestions.csv has labels, which would be lost; move"):
        suggestions.check_free(tmp_path)
    for content in ("", "a,b\n1,2\n", "path,label\n"):
        (tmp_path / "suggestions.csv").write_text(content)
        with pytest.raises(InputError, match="is no table of suggestions; move it"):
            suggestions.check_free(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file cannot be used"):
        suggestions.check_free(tmp_path / "file")


def test_the_sheet_has_every_image_under_its_guess_the_rarest_first():
    rows = [row("first", "dog"), row("second", "cat"), row("third", "dog")]
    page = rendered(rows, [("dog", 70), ("emu", 9), ("cat", 2)], again="--again")
    assert re.findall(r"<h2>(\w+)\?", page) == ["cat", "dog"]
    assert re.findall(r"<b>(\d)</b> (\w+): 51 %, or dog", page) == [
        ("2", "cat"), ("1", "dog"), ("3", "dog"),
    ]  # fmt: skip
    assert "cat (2), emu (9), dog (70)" in page and "--again" in page and "1,234" in page
    assert "Then train again" not in rendered(rows, [("dog", 70), ("cat", 2)])
    assert not re.search(r'(src|href)="(?!data:image/)', page)


def test_hostile_names_are_text():
    page = rendered([row(HOSTILE, HOSTILE)], [(HOSTILE, 3)], again=HOSTILE)
    assert "<script" not in page and "73441" not in page and page.count("&lt;script&gt;") >= 4


def test_pictures_keep_their_form(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (300, 600, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    for image, size, is_tiny in (
        (str(tmp_path / "x.png"), (192, 96), False),
        (noise[:8, :6, :1], (6, 8), True),
    ):
        found = suggestions.picture(image)
        kind, data = re.fullmatch(r"data:image/(\w+);base64,(.*)", found["uri"]).groups()
        shown = Image.open(io.BytesIO(base64.b64decode(data)))
        assert shown.size == size and found["is_tiny"] == is_tiny
        assert kind == ("png" if is_tiny else "jpeg")
    np.testing.assert_array_equal(np.asarray(shown)[..., :1], noise[:8, :6, :1])
