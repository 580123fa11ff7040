"""The command, and what a browser makes of its page."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.report import __main__ as command
from tests.report import made


def test_what_cannot_be_written_is_refused(tmp_path):
    run = made.write(tmp_path / "run", num_classes=2, vectors=False, kept=False)
    with pytest.raises(InputError, match="ends in .html"):
        command.report([run], tmp_path / "report.pdf")
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(InputError, match="notes.md is no report"):
        command.report([run], tmp_path / "notes.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        command.report([run], tmp_path / "file" / "report.html")
    with pytest.raises(InputError, match="holds no run"):
        command.report([tmp_path / "nothing"], tmp_path / "report.html")


def test_what_cannot_be_read_is_left_out_and_said(tmp_path, capsys):
    for name in ("one", "two"):
        made.write(tmp_path / "runs" / name, num_classes=2, vectors=False, kept=False)
    (tmp_path / "runs/model").mkdir()
    (tmp_path / "runs/model/config.json").write_text('{"model_type": "vit"}')
    for paths in (["runs"], ["runs/one", "runs"]):
        out = command.report([tmp_path / path for path in paths], tmp_path / "report.html")
        assert out.read_text().count("Left out: ") == 1 and "model is no run" in out.read_text()
        said = " ".join(capsys.readouterr().out.split())
        assert said.count("left out: ") == 1 and "is no run" in said
    shutil.rmtree(tmp_path / "runs/two")
    out = command.report([tmp_path / "runs"], tmp_path / "report.html", is_quiet=True)
    assert "Left out: " in out.read_text() and "Left out: " in out.with_suffix(".md").read_text()


def test_what_a_sweep_is_over_tells_its_runs_apart(tmp_path):
    for mode in ("jit", "pmap"):  # which no comparison minds by itself
        parts = dict(num_classes=2, vectors=False, kept=False, parallel={"mode": mode})
        made.write(tmp_path / mode / "0", **parts)
    for axes, number in (([], 1), (["parallel.mode"], 2), ("parallel.mode", 1)):
        (tmp_path / "sweep.json").write_text(json.dumps({"axes": axes}))
        out = command.report([tmp_path], tmp_path / "report.html", is_quiet=True)
        found = json.loads(out.with_suffix(".json").read_text())
        assert len(found["comparison"]["groups"]) == number


@pytest.mark.parametrize("argv", [[], ["--nonsense"]])
def test_mistakes_on_the_command_line_end_in_a_sentence(argv):
    with pytest.raises(SystemExit, match="error: .*--help"):
        command.parsed(["report", *argv])


@pytest.mark.whole
def test_the_command_writes_three_files(tmp_path):
    run = made.write(tmp_path / "run", num_classes=3, vectors=False)
    out = tmp_path / "deep" / "page.html"
    again = run / ".." / run.name  # given twice, it is one run
    words = [sys.executable, "-m", "ltssl_jax.report", run, again, "--out", out]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"written to .*page\.html \(\d+ kB\), beside it .*\n", done.stdout)
    assert {path.name for path in out.parent.iterdir()} == {"page.html", "page.md", "page.json"}
    assert "<h1>run</h1>" in out.read_text()


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

# A window has a least width that is more than a telephone's: a frame has none.
FRAME = """<iframe src="measured.html" style="width: 390px; height: 800px; border: 0"></iframe>
<script>onmessage = event => document.title = event.data;</script>"""
MEASURED = """<script>
document.querySelectorAll("details").forEach(one => one.open = true);
document.querySelectorAll("img").forEach(one => one.loading = "eager");
addEventListener("load", () => {
  const small = [...document.querySelectorAll("svg")].filter(
    one => one.getBoundingClientRect().width < 250 || one.getBoundingClientRect().height < 100);
  const broken = [...document.images].filter(one => !one.naturalWidth);
  const wide = document.documentElement.scrollWidth;
  parent.postMessage([innerWidth, wide, document.images.length, broken.length, small.length], "*");
});
</script>"""


@pytest.fixture
def browse(tmp_path):
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]

    def run(path, *more):
        words = [found, *flags, f"--user-data-dir={tmp_path / 'profile'}", *more, path.as_uri()]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout

    return run


@pytest.mark.whole
def test_a_browser_shows_all_of_it_on_any_width(tmp_path, browse):
    how = dict(validation=True, skill=1.5, command="x" * 300)
    run = made.write(tmp_path / "a long name of a run that goes on and on and on", **how)
    out = command.report([run], tmp_path / "report.html", is_quiet=True)
    (tmp_path / "measured.html").write_text(out.read_text() + MEASURED)
    (tmp_path / "frame.html").write_text(FRAME)
    title = re.search("<title>(.*)</title>", browse(tmp_path / "frame.html", "--dump-dom"))
    inner, scroll, images, broken, small = map(int, title[1].split(","))
    assert inner == 390 and scroll <= 390, "the page is wider than a telephone"
    assert images == 90 and broken == small == 0

    shot = tmp_path / "shot.png"
    browse(out, "--window-size=1280,2400", f"--screenshot={shot}")
    pixels = np.asarray(Image.open(shot).convert("RGB")).reshape(2400, 1280, 3)
    inked = (pixels.astype(int).max(axis=(1, 2)) - pixels.min(axis=(1, 2))) > 60
    assert inked.mean() > 0.5, "most of the page is blank"
    # Figures take their colours from the page; without them everything would be black.
    for colour in ((0x2F, 0x6F, 0xB0), (0xB0, 0x7A, 0x1E), (0xB8, 0x43, 0x2F)):
        assert (pixels == colour).all(axis=2).sum() > 50
