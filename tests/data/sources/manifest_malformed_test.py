"""What can be wrong with a manifest: each has its clear error, or is left out and listed."""

import json
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.data import sources
from ltssl_jax.data.sources.base import COLUMNS

NOISE = np.random.default_rng(3).integers(0, 256, (8, 3, 3, 3), np.uint8)
GOOD = "path,label,split\n" + "".join(
    f"{n}.png,{'ab'[n % 2]},{'test' if n > 5 else 'train'}\n" for n in range(8)
)


def camera_traps(**changes):
    document = dict(
        images=[dict(id=n, file_name=f"{n}.png", seq_id=f"s{n}") for n in range(8)],
        annotations=[dict(image_id=n, category_id=n % 2) for n in range(6)],
        categories=[dict(id=0, name="empty"), dict(id=1, name="lynx")],
    )
    return json.dumps(document | changes).encode()


def png_of(width, height):
    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def lines(*rows):
    return dict(text=GOOD + "\n".join(rows) + "\n")


def extra(content):
    """A labeled row whose file has this content."""
    return lines("x.png,a,train") | dict(files={"x.png": content})


ERRORS = {
    "no table": (dict(root="nowhere.csv"), "root is '.*nowhere.csv' but .* does not exist"),
    "nothing": (dict(root=""), "data.source.root is empty"),
    "a directory": (dict(root="."), "is a directory; give a file that ends in"),
    "no image_root": (dict(image_root="nowhere"), "image_root is .* does not exist"),
    "no test table": (dict(test="nowhere.csv"), "data.source.test is .* does not exist"),
    "no pool": (dict(pool="nowhere"), "data.source.pool is .* does not exist"),
    "a directory of tests": (dict(test="."), "is a directory; give a file"),
    "a pool without images": (dict(pool="empty"), "pool: .*empty has no image"),
    "a setting of others": (dict(download=True), "download is True, which means nothing to"),
    "empty": (dict(text=""), "is empty; its first line"),
    "header only": (dict(text="path,label\n"), "has no rows"),
    "no header": (dict(text=GOOD[17:]), r"columns.path 'path' is unknown.*known: 0.png, a, train"),
    "other delimiter": (dict(text=GOOD.replace(",", "|")), r"did you mean 'path\|label\|split'"),
    "no path": (dict(text=GOOD.replace("path", "paths")), "did you mean 'paths'\\? known: label"),
    "no label": (dict(text=GOOD.replace("label", "lable", 1)), "columns.label 'label'.*'lable'"),
    "label misspelt": (dict(columns=dict(label="labl")), "columns.label 'labl' .*mean 'label'"),
    "group misspelt": (dict(columns=dict(group="site")), "columns.group 'site' is unknown"),
    "split misspelt": (dict(columns=dict(split="fold")), "columns.split 'fold' is unknown"),
    "id misspelt": (dict(columns=dict(id="uid")), "columns.id 'uid' is unknown"),
    "no path wanted": (dict(columns=dict(path="")), "columns.path '' is unknown"),
    "unknown meaning": (dict(columns=dict(labels="label")), "data.source.columns 'labels'"),
    "one-hot misspelt": (dict(columns=dict(label="a,b")), "columns.label 'a' is unknown"),
    "test without label": (
        dict(test="t.csv", files={"t.csv": b"path\n0.png\n"}),
        "t.csv: data.source.columns.label 'label' is unknown; known: path",
    ),
    "pool without the group": (
        dict(
            text=GOOD.replace("split", "fold"),
            columns=dict(group="fold"),
            pool="p.csv",
            files={"p.csv": b"path\n0.png\n"},
        ),
        "p.csv: data.source.columns.group 'fold' is unknown",
    ),
    "unknown split": (lines("x.png,a,trian"), r"line 10 \(x.png\): split 'trian' .*mean 'train'"),
    "no 0 or 1": (
        dict(text="path,a,b\n0.png,1,0\n1.png,0,0.7\n", columns=dict(label="*")),
        r"line 3 \(1.png\): column 'b' holds '0.7'; one column per class needs 0 or 1",
    ),
    "classes of COCO as one-hot": (
        dict(root="t.json", columns=dict(label="*"), files={"t.json": camera_traps()}),
        "column 'id' holds|column 'seq_id' holds",
    ),
    "unknown class in test": (lines("x.png,zebra,test"), "test images have classes.*'zebra'"),
    "one class": (dict(text=GOOD.replace(",b,", ",a,")), "has 1 class"),
    "no labels at all": (
        dict(text=GOOD.replace(",a,", ",,").replace(",b,", ",NaN,").replace("test", "pool")),
        "no labeled training image|has 0 class",
    ),
    "all tests unlabeled": (
        dict(text=GOOD.replace("b,test", ",test").replace("a,test", ",test")),
        "none of the 2 test images can be used .2 x no label",
    ),
    "most files missing": (dict(image_root="empty"), "can be used .*no such file"),
    "short row": (lines("x.png,a"), "line 10 has 2 cells for 3 columns"),
    "Latin-1": (
        dict(files={"labels.csv": "path,label\nö.png,a".encode("latin-1")}),
        "not in UTF-8",
    ),
    "quote left open": (lines('"x.png,a,train'), "line 10: unexpected end"),
    "no classes file": (dict(classes="nowhere.txt"), "data.source.classes is .* does not exist"),
    "a class not in the file": (
        dict(classes="c.txt", files={"c.txt": b"b\nc\n"}),
        "train images have classes that are unknown: 'a'",
    ),
    "path a list": (
        dict(
            root="t.json",
            columns=dict(group="bbox"),
            files={
                "t.json": camera_traps(
                    images=[dict(id=0, file_name="0.png", bbox=[1, 2])], annotations=[]
                )
            },
        ),
        "image 0: column 'bbox' holds no text",
    ),
}

SKIPS = {
    "no file": (lines("y.png,a,train"), ("y.png", "train", "no such file")),
    "no file, no extension": (lines("y,a,train"), ("y", "train", "no such file")),
    "no directory": (lines("no/y,a,train"), ("no/y", "train", "no such file")),
    "empty path": (lines(",a,train"), ("line 10", "train", "no path")),
    "blank path": (lines('" ",a,train'), (" ", "train", "no path")),
    "outside": (lines("../y.png,a,test"), ("../y.png", "test", "outside .*image_root")),
    "outside by a detour": (
        lines("z/../../y.png,a,train"),
        ("../y.png", "train", "outside .*image_root"),
    ),
    "the root itself": (lines("z/..,a,train"), (".", "train", "outside|irectory")),
    "a directory": (lines("empty,a,train"), ("empty", "train", "irectory")),
    "path through a file": (lines("0.png/x.png,a,train"), ("0.png/x.png", "train", "irectory")),
    "two extensions": (
        lines("x,a,train") | dict(files={"x.png": b"", "x.jpg": b""}),
        ("x", "train", "several files: x.jpg, x.png"),
    ),
    "name too long": (lines("y" * 300 + ".png,a,train"), ("y" * 300 + ".png", "train", "long")),
    "test without label": (lines("0.png,,test"), ("0.png", "test", "no label")),
    "row twice": (lines("0.png,a,train"), ("0.png", "train", "second row")),
    "also in test": (lines("7.png,b,train"), ("7.png", "train", "also in test")),
    "several classes": (
        dict(text="path,a,b\n0.png,1,0\n1.png,0,1\n2.png,1,1\n", columns=dict(label="*")),
        ("2.png", "train", "several classes: a, b"),
    ),
    "empty file": (extra(b""), ("x.png", "train", "empty")),
    "no image": (extra(b"text"), ("x.png", "train", "no image")),
    "huge header": (extra(png_of(40_000, 40_000)), ("x.png", "train", "bomb")),
    "pickle": (extra(b"\x80\x04N."), ("x.png", "train", "no image")),
    "NUL in a name": (
        dict(
            root="t.json",
            files={
                "t.json": camera_traps(
                    images=[
                        dict(id=n, file_name=f, split="train")
                        for n, f in enumerate(("0.png", "1.png", "2.png\0", "3.png"))
                    ],
                    annotations=[dict(image_id=n, category_id=n % 2) for n in range(4)],
                )
            },
        ),
        ("2.png\\0", "train", "no such file"),
    ),
}


def prepared(tmp_path, case):
    """Writes the good tree with what the case changes; returns the settings."""
    case = dict(case)
    for n, image in enumerate(NOISE):
        Image.fromarray(image).save(tmp_path / f"{n}.png")
    (tmp_path / "empty").mkdir()
    files = {"labels.csv": case.pop("text", GOOD).encode()} | case.pop("files", {})
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    places = dict(root="labels.csv") | case
    for field in ("root", "val", "test", "pool", "image_root", "classes"):
        if places.get(field):
            places[field] = str(tmp_path / places[field])
    return places


def load(settings, **more):
    columns = COLUMNS | settings.pop("columns", {})
    return sources.load("manifest", columns=columns, **settings, **more)


@pytest.mark.parametrize("case", ERRORS)
def test_errors(tmp_path, case):
    changes, words = ERRORS[case]
    with pytest.raises(InputError, match=words):
        load(prepared(tmp_path, changes))


@pytest.mark.parametrize("case", SKIPS)
def test_skips(tmp_path, case):
    changes, (name, part, words) = SKIPS[case]
    source = load(prepared(tmp_path, changes), max_skipped=0.5)
    assert [(s.name, s.part) for s in source.skipped] == [(name, part)]
    assert re.search(words, source.skipped[0].reason)
    assert source.train.read(np.arange(len(source.train))).shape[1:] == (3, 3, 3)


def test_the_good_tree_is_good(tmp_path):
    source = load(prepared(tmp_path, {}))
    assert (len(source.train), len(source.test), source.skipped) == (6, 2, ())
    assert source.train.is_pool is None
