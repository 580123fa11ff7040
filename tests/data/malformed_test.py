"""What users have on their disks: each fault gets one clear sentence, or is counted and left out.

Every case spoils one thing in a data set that works. None may end in anything but an `InputError`.
"""

import io
import json
import os
import re
import struct
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image

from ltssl_jax import defaults
from ltssl_jax.core import InputError
from ltssl_jax.data import opening

NUM_IMAGES = 12  # class "cat" and "dog" in turns; the last two are the test images
PIXELS = np.random.default_rng(1).integers(0, 256, (NUM_IMAGES, 6, 6, 3), np.uint8)


def encoded(number, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[number]).save(buffer, kind, **options)
    return buffer.getvalue()


def png_of(width, height):
    """A PNG that says how large it is, and nothing else."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    body = struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + end
    return b"\x89PNG\r\n\x1a\n" + body


def moving():
    frames = [Image.fromarray(pixels) for pixels in PIXELS[:3]]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def floating():
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[0, ..., 0].astype(np.float32)).save(buffer, "TIFF")
    return buffer.getvalue()


class Manifest:
    """`labels.csv` and `images/`; rows may be changed, and the text of the table."""

    kind, root = "manifest", "labels.csv"

    def __init__(self, path):
        self.path, self.header = path, "path,label,split"
        (path / "images").mkdir()
        self.rows = []
        for i in range(NUM_IMAGES):
            (path / f"images/{i}.png").write_bytes(encoded(i))
            part = "test" if i >= NUM_IMAGES - 2 else "train"
            self.rows.append(f"images/{i}.png,{('cat', 'dog')[i % 2]},{part}")
        self.rows[3] = "images/3.png,,train"
        self.write()

    def write(self, encoding="utf-8", end="\n"):
        text = end.join([self.header, *self.rows]) + end
        (self.path / "labels.csv").write_bytes(text.encode(encoding, "surrogateescape"))

    def row(self, number, text):
        self.rows[number] = text
        self.write()

    def text(self, content):
        data = content if isinstance(content, bytes) else content.encode()
        (self.path / "labels.csv").write_bytes(data)

    def image(self, number, content):
        (self.path / f"images/{number}.png").write_bytes(content)


class Folder:
    """`train/CLASS`, `test/CLASS` and `pool/`."""

    kind, root = "folder", ""

    def __init__(self, path):
        self.path = path
        for i in range(NUM_IMAGES):
            part = "test" if i >= NUM_IMAGES - 2 else "pool" if i == 3 else "train"
            place = path / part / ("" if part == "pool" else ("cat", "dog")[i % 2])
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{i}.png").write_bytes(encoded(i))

    def image(self, number, content):
        (found,) = self.path.rglob(f"{number}.png")
        found.write_bytes(content)


class Arrays:
    """One `.npz`."""

    kind, root = "arrays", "mine.npz"

    def __init__(self, path):
        self.path = path
        labels = np.arange(NUM_IMAGES) % 2
        labels[3] = -1
        self.arrays = dict(train_images=PIXELS[:-2], train_labels=labels[:-2])
        self.arrays |= dict(test_images=PIXELS[-2:], test_labels=labels[-2:])
        self.change()

    def change(self, **arrays):
        kept = {k: v for k, v in {**self.arrays, **arrays}.items() if v is not None}
        np.savez(self.path / "mine.npz", **kept)


class Shards:
    """`train-0.tar` and `test-0.tar`."""

    kind, root = "webdataset", ""

    def __init__(self, path):
        self.path = path
        self.write("train", range(NUM_IMAGES - 2))
        self.write("test", range(NUM_IMAGES - 2, NUM_IMAGES))

    def write(self, part, numbers, **changed):
        """Writes a shard; `changed` maps file names, with _ for the dot, to other contents."""
        with tarfile.open(self.path / f"{part}-0.tar", "w") as shard:
            for i in numbers:
                files = {f"{i}.png": encoded(i)}
                if i != 3:
                    files[f"{i}.cls"] = ("cat", "dog")[i % 2].encode()
                files |= {
                    name: changed[f"n{i}_{name.rpartition('.')[2]}"]
                    for name in list(files)
                    if f"n{i}_{name.rpartition('.')[2]}" in changed
                }
                for name, content in files.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))


def link(made, name, target):
    (made.path / name).symlink_to(target)


def camera_traps(made, **changes):
    """Replaces the table by COCO Camera Traps JSON."""
    rows = [row.split(",") for row in made.rows]
    document = dict(
        images=[
            dict(id=i, file_name=path, location=f"site {i // 2}", split=split)
            for i, (path, _, split) in enumerate(rows)
        ],
        annotations=[
            dict(id=i, image_id=i, category_id=("cat", "dog").index(label))
            for i, (_, label, _) in enumerate(rows)
            if label
        ],
        categories=[dict(id=0, name="cat"), dict(id=1, name="dog")],
    )
    (made.path / "labels.json").write_text(json.dumps(document | changes))


def other_root(made, name):
    made.root = name


JSON = dict(root="labels.json")
LOSE = dict(max_skipped=0.5)

# name: (data set, what spoils it, settings, what is said); a text is an error, a pair a skipped
# image and why.
CASES = {
    # --- where things are
    "no root": (Manifest, lambda m: other_root(m, None), {}, "data.source.root is empty"),
    "root nowhere": (Manifest, lambda m: other_root(m, "x.csv"), {}, "x.csv.* does not exist"),
    "root is a directory": (Manifest, lambda m: other_root(m, ""), {}, "is a directory"),
    "a table of unknown kind": (
        Manifest,
        lambda m: (
            (m.path / "labels.csv").rename(m.path / "labels.xls") and other_root(m, "labels.xls")
        ),
        {},
        "labels.xls is no table; give a file that ends in .*csv",
    ),
    "a setting of another kind": (Folder, None, dict(image_root="x"), "image_root.*'folder'"),
    "pool nowhere": (Manifest, None, dict(pool="gone"), "data.source.pool is 'gone'"),
    "classes nowhere": (Folder, None, dict(classes="gone"), "data.source.classes is 'gone'"),
    "unknown check": (Folder, None, dict(check="deep"), "data.source.check 'deep'.*decode"),
    "impossible share": (Folder, None, dict(max_skipped=5.0), "max_skipped is 5.0.*0 to 1"),
    "misspelt column": (Manifest, None, dict(columns=dict(pth="x")), "columns 'pth'.*'path'"),
    # --- tables
    "empty table": (Manifest, lambda m: m.text(""), {}, "labels.csv is empty"),
    "only blank lines": (Manifest, lambda m: m.text("\n\n\n"), {}, "labels.csv"),
    "only a header": (
        Manifest,
        lambda m: m.text("path,label\n"),
        {},
        "names its columns but has no",
    ),
    "no path column": (
        Manifest,
        lambda m: m.text("file,label\na,b\n"),
        {},
        "columns.path 'path' is unknown; known: file",
    ),
    "asked column missing": (
        Manifest,
        None,
        dict(columns=dict(label="lable")),
        "'lable' is unknown; did you mean 'label'",
    ),
    "asked group missing": (
        Manifest,
        None,
        dict(columns=dict(group="site")),
        "columns.group 'site' is unknown",
    ),
    "a column twice": (
        Manifest,
        lambda m: m.text("path,path,label\na,b,c\n"),
        {},
        "several columns 'path'",
    ),
    "too many cells": (
        Manifest,
        lambda m: m.row(4, "images/4.png,cat,train,x"),
        {},
        "line 6.*4.*3",
    ),
    "too few cells": (Manifest, lambda m: m.row(4, "images/4.png"), {}, "line 6"),
    "an open quote": (Manifest, lambda m: m.row(9, 'images/9.png,"dog,train'), {}, "line|quote"),
    "not UTF-8": (
        Manifest,
        lambda m: m.text("path,label\ncaf\xe9,x\n".encode("latin-1")),
        {},
        "UTF-8",
    ),
    "UTF-16": (Manifest, lambda m: m.write("utf-16"), {}, "UTF-8"),
    "a binary file": (Manifest, lambda m: m.text(encoded(0)), {}, "labels.csv"),
    "zero bytes inside": (Manifest, lambda m: m.row(4, "images/4.png,c\0at,train"), {}, "NUL|zero"),
    "unknown split": (Manifest, lambda m: m.row(4, "images/4.png,cat,trian"), {}, "trian.*train"),
    "parquet that is none": (
        Manifest,
        lambda m: (m.path / "x.parquet").write_text("a,b") and other_root(m, "x.parquet"),
        {},
        "x.parquet",
    ),
    # --- labels
    "no label at all": (
        Manifest,
        lambda m: m.text("path,label\nimages/0.png,\nimages/1.png,\n"),
        {},
        "no labeled training image",
    ),
    "NaN labels only": (
        Manifest,
        lambda m: m.text("path,label\nimages/0.png,nan\nimages/1.png,NaN\n"),
        {},
        "no labeled training image",
    ),
    "one class": (
        Manifest,
        lambda m: m.text("path,label,split\nimages/0.png,cat,train\nimages/1.png,cat,test\n"),
        {},
        r"has 1 class \(cat\)",
    ),
    "unknown class in test": (
        Manifest,
        lambda m: m.row(11, "images/11.png,emu,test"),
        {},
        "test images have classes that are unknown: 'emu' .first: images/11.png",
    ),
    "unknown class in val": (
        Manifest,
        lambda m: m.row(5, "images/5.png,emu,val"),
        {},
        "val .*'emu'",
    ),
    "a class that the file of classes lacks": (
        Folder,
        lambda m: (m.path / "classes.txt").write_text("cat\nemu\n"),
        dict(classes="{path}/classes.txt"),
        "train images have classes that are unknown: 'dog'",
    ),
    "a file of classes with doubles": (
        Folder,
        lambda m: (m.path / "classes.txt").write_text("cat\ndog\ncat\n"),
        dict(classes="{path}/classes.txt"),
        "names cat twice",
    ),
    "an empty file of classes": (
        Folder,
        lambda m: (m.path / "classes.txt").write_text("\n"),
        dict(classes="{path}/classes.txt"),
        "names none",
    ),
    "no label in test": (
        Manifest,
        lambda m: m.row(11, "images/11.png,,test"),
        LOSE,
        ("images/11.png", "no label"),
    ),
    # --- rows and files
    "label without file": (
        Manifest,
        lambda m: m.row(4, "images/none.png,cat,train"),
        LOSE,
        ("images/none.png", "no such file"),
    ),
    "too many labels without file": (
        Manifest,
        lambda m: m.row(4, "images/none.png,cat,train"),
        {},
        "1 of 10 train images cannot be used .*no such file.*max_skipped=0.05",
    ),
    "row without path": (
        Manifest,
        lambda m: m.row(4, ",cat,train"),
        LOSE,
        ("line 6", "no path|path"),
    ),
    "file outside the root": (
        Manifest,
        lambda m: m.row(4, "../../etc/passwd,cat,train"),
        LOSE,
        ("../../etc/passwd", "outside"),
    ),
    "a row twice": (
        Manifest,
        lambda m: m.row(4, "images/0.png,cat,train"),
        LOSE,
        ("images/0.png", "a second row"),
    ),
    "in training and test": (
        Manifest,
        lambda m: m.row(4, "images/10.png,cat,train"),
        LOSE,
        ("images/10.png", "also in test"),
    ),
    "a directory as image": (
        Manifest,
        lambda m: m.row(4, "images,cat,train"),
        LOSE,
        ("images", "irect"),
    ),
    "name with a line break": (
        Manifest,
        lambda m: m.row(4, '"images/a\nb.png",cat,train'),
        LOSE,
        ("images/a\nb.png", "no such file"),
    ),
    # --- images
    "0 bytes": (Manifest, lambda m: m.image(4, b""), LOSE, ("images/4.png", "the file is empty")),
    "0 bytes in a folder": (Folder, lambda m: m.image(4, b""), LOSE, ("train/cat/4.png", "empty")),
    "truncated": (
        Manifest,
        lambda m: m.image(4, encoded(4)[:-40]),
        LOSE,
        ("images/4.png", "truncat|broken"),
    ),
    "truncated JPEG": (
        Folder,
        lambda m: m.image(4, encoded(4, "JPEG")[:-40]),
        LOSE,
        ("train/cat/4.png", "truncated"),
    ),
    "text": (Folder, lambda m: m.image(4, b"no image"), LOSE, ("train/cat/4.png", "no image that")),
    "HTML of an error page": (
        Manifest,
        lambda m: m.image(4, b"<!DOCTYPE html><title>404"),
        LOSE,
        ("images/4.png", "no image that"),
    ),
    "40,000 x 40,000 pixels": (
        Manifest,
        lambda m: m.image(4, png_of(40_000, 40_000)),
        LOSE,
        ("images/4.png", "bomb"),
    ),
    "animated": (Folder, lambda m: m.image(4, moving()), LOSE, ("train/cat/4.png", "3 frames")),
    "floating point": (
        Folder,
        lambda m: m.image(4, floating()),
        LOSE,
        ("train/cat/4.png", "floating"),
    ),
    "unreadable in the pool": (
        Folder,
        lambda m: m.image(3, b"x"),
        dict(max_skipped=1.0),
        "none of the 1 pool images can be used .1 x no image that Pillow knows",
    ),
    "all test images broken": (
        Folder,
        lambda m: (m.image(10, b""), m.image(11, b"")),
        LOSE,
        "none of the 2 test images can be used .2 x the file is empty",
    ),
    "another size": (
        Folder,
        lambda m: m.image(4, png_bytes((4, 9))),
        {},
        "images differ in size.*set data.image_size=4",
    ),
    # --- directories
    "no train": (
        Folder,
        lambda m: (m.path / "train").rename(m.path / "trian"),
        {},
        "train is missing .*trian",
    ),
    "no classes": (
        Folder,
        lambda m: (
            [p.unlink() or None for p in (m.path / "test").rglob("*.png")]
            and [p.rmdir() for p in (m.path / "test").iterdir()]
        ),
        {},
        "test has no class directories",
    ),
    "a class of its own in test": (
        Folder,
        lambda m: (m.path / "test/cat").rename(m.path / "test/emu"),
        {},
        "test images have classes that are unknown: 'emu'",
    ),
    "a loop of links": (
        Folder,
        lambda m: link(m, "train/cat/loop", m.path / "train"),
        LOSE,
        ("train/cat/loop", "directory above"),
    ),
    "a link to itself": (
        Folder,
        lambda m: link(m, "train/cat/self.png", "self.png"),
        LOSE,
        ("train/cat/self.png", "symbolic links"),
    ),
    "a link to nothing": (
        Folder,
        lambda m: link(m, "train/cat/x.png", "gone.png"),
        LOSE,
        ("train/cat/x.png", "no such file"),
    ),
    "no test images": (
        Folder,
        lambda m: (m.path / "test").rename(m.path / "kept"),
        {},
        "test_fraction",
    ),
    "a fraction beside test images": (Folder, None, dict(test_fraction=0.2), "test_fraction"),
    "a fraction of everything": (Folder, None, dict(val_fraction=1.5), "val_fraction.*1.5"),
    # --- camera traps
    "JSON that is none": (
        Manifest,
        lambda m: (m.path / "labels.json").write_text("{"),
        JSON,
        "labels.json",
    ),
    "JSON of something else": (
        Manifest,
        lambda m: (m.path / "labels.json").write_text("[1, 2]"),
        JSON,
        "images",
    ),
    "JSON without categories": (
        Manifest,
        lambda m: camera_traps(m, categories=None),
        JSON,
        "categories",
    ),
    "an annotation of no category": (
        Manifest,
        lambda m: camera_traps(m, annotations=[dict(image_id=0, category_id=9)]),
        JSON,
        "9",
    ),
    "two animals on one image": (
        Manifest,
        lambda m: camera_traps(
            m,
            annotations=[dict(image_id=i, category_id=i % 2) for i in range(NUM_IMAGES)]
            + [dict(image_id=4, category_id=1)],
        ),
        JSON | LOSE,
        ("images/4.png", "several classes: cat, dog"),
    ),
    # --- arrays
    "no such array": (Arrays, lambda m: m.change(train_labels=None), {}, "lacks train_labels"),
    "a pickle": (
        Arrays,
        lambda m: m.change(class_names=np.array(["cat", None], object)),
        {},
        "cannot be read.*without objects",
    ),
    "floating-point images": (
        Arrays,
        lambda m: m.change(train_images=PIXELS[:-2] / 255),
        {},
        "float64",
    ),
    "channels first": (
        Arrays,
        lambda m: m.change(train_images=np.zeros((10, 3, 6, 6), np.uint8)),
        {},
        "channels",
    ),
    "too few labels": (
        Arrays,
        lambda m: m.change(train_labels=np.zeros(3, int)),
        {},
        r"\(3,\).*10 images",
    ),
    "NaN as label": (Arrays, lambda m: m.change(train_labels=np.full(10, np.nan)), {}, "float64"),
    "labels below -1": (
        Arrays,
        lambda m: m.change(train_labels=np.arange(-2, 8) % 2 - 2 * (np.arange(10) == 0)),
        {},
        "train_labels",
    ),
    "no npz": (
        Arrays,
        lambda m: (m.path / "mine.npz").write_text("text"),
        {},
        "mine.npz cannot be read",
    ),
    # --- shards
    "a truncated shard": (
        Shards,
        lambda m: os.truncate(m.path / "train-0.tar", 12_000),
        LOSE,
        ("train-0.tar", "ends early"),
    ),
    "no shard": (Shards, lambda m: (m.path / "train-0.tar").unlink(), {}, "train"),
    "a label that is no text": (
        Shards,
        lambda m: m.write("train", range(10), n4_cls=b"\xff\xfe"),
        LOSE,
        ("4", "no text in UTF-8"),
    ),
    "a broken image in a shard": (
        Shards,
        lambda m: m.write("train", range(10), n4_png=b"x"),
        LOSE,
        ("4", "no image that"),
    ),
}


def png_bytes(size):
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_table_is_long_enough():
    assert len(CASES) >= 60


@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_named_or_counted(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind, spoil, settings, expected = CASES[case]
    made = kind(tmp_path)
    if spoil:
        spoil(made)
    root = "" if made.root is None else str(tmp_path / made.root)
    columns = settings.get("columns", {})
    settings = dict(root=root) | {k: v for k, v in settings.items() if k != "columns"}
    settings = {
        k: v.format(path=tmp_path) if isinstance(v, str) else v for k, v in settings.items()
    }
    source = defaults.source(made.kind, **settings)
    source["columns"] |= columns
    if isinstance(expected, str):
        with pytest.raises(InputError, match=rf"(?s){expected}"):
            opened(source)
        return
    found, _ = opened(source)
    name, reason = expected
    (skipped,) = found.skipped
    assert skipped.name.endswith(name) and re.search(reason, skipped.reason)
    assert len(found.train) + len(found.test) >= NUM_IMAGES - 3
    for records in (found.train, found.test):  # what is left can be used
        assert len(records.read(np.arange(len(records)))) == len(records)


def opened(source):
    return opening.opened(
        source,
        defaults.split(protocol="given", overlap=True),
        image_size=0,
        resize="crop",
        channels=0,
    )


@pytest.mark.parametrize("kind", [Manifest, Folder, Arrays, Shards])
def test_unspoilt_they_work(kind, tmp_path):
    made = kind(tmp_path)
    found, split = opened(defaults.source(made.kind, root=str(tmp_path / made.root)))
    assert (len(found.train), len(found.test), len(found.skipped)) == (10, 2, 0)
    assert split.labeled_counts.tolist() == [5, 4]
