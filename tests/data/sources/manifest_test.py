import csv
import json
import os
import zlib

import numpy as np
import pytest
from PIL import Image

from ltssl_jax.data import sources
from ltssl_jax.data.sources.base import COLUMNS

NOISE = np.random.default_rng(3).integers(0, 256, (999, 3, 3, 3), np.uint8)


def save(directory, *names):
    """Saves different images, always the same for the same name."""
    for name in names:
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Image.fromarray(pixels(name)).save(path, "png")


def pixels(name):
    return NOISE[zlib.crc32(os.fsencode(os.path.basename(name))) % len(NOISE)]


def table(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


def load(root, **settings):
    columns = COLUMNS | settings.pop("columns", {})
    return sources.load("manifest", root=str(root), columns=columns, **settings)


def named(records, source):
    """Maps names to classes; the pool's are in brackets."""
    classes = [*source.class_names, ""]
    is_pool = np.zeros(len(records), bool) if records.is_pool is None else records.is_pool
    known = zip(records.names, records.labels, is_pool, strict=True)
    return {name: f"[{classes[k]}]" if pool else classes[k] for name, k, pool in known}


# --- published shapes -----------------------------------------------------------------------------


def test_plankton_in_three_tables(tmp_path):
    """UVP5: object_id, image_fn, label."""
    save(tmp_path, *(f"img/{n}.png" for n in range(8)))
    head = "object_id,image_fn,label\n"
    files = dict(
        root=table(tmp_path / "train.csv", head + "o0,img/0.png,copepod\no1,img/1.png,detritus\n"),
        val=table(tmp_path / "val.csv", head + "o2,img/2.png,detritus\n"),
        test=table(tmp_path / "test.csv", head + "o3,img/3.png,copepod\no4,img/4.png,detritus\n"),
        pool=table(tmp_path / "unlabeled.csv", "object_id,image_fn\no5,img/5.png\no0,img/0.png\n"),
    )
    source = load(**files, columns=dict(path="image_fn", id="object_id"))
    assert (source.name, source.class_names) == ("train", ("copepod", "detritus"))
    assert named(source.train, source) == {"o0": "copepod", "o1": "detritus", "o5": "[]"}
    assert named(source.val, source) == {"o2": "detritus"}
    assert named(source.test, source) == {"o3": "copepod", "o4": "detritus"}
    expected = [pixels(f"{n}.png") for n in (0, 1, 5)]
    np.testing.assert_array_equal(source.train.read(np.arange(3)), expected)
    assert not source.skipped


@pytest.mark.parametrize("label", ["NV, MEL,UNK,NV", "*"])
def test_skin_lesions_with_one_hot_labels(tmp_path, label):
    """ISIC: file names without extension in another directory, one column per class."""
    save(tmp_path, *(f"input/ISIC_{n}.png" for n in range(7)))
    (tmp_path / "input/ISIC_0.txt").write_text("no image")
    (tmp_path / "input/ISIC_1").write_bytes((tmp_path / "input/ISIC_2.png").read_bytes())
    root = table(
        tmp_path / "truth/train.csv",
        "image,NV,MEL,UNK\nISIC_0,1.0,0.0,0.0\nISIC_1,0,1,0\nISIC_2,0,0,0\nISIC_3,,true,False\n"
        "ISIC_4,1,1,0\n",
    )
    test = table(tmp_path / "truth/test.csv", "image,MEL,UNK,NV\nISIC_5,1,0,0\n")
    pool = table(tmp_path / "truth/pool.csv", "image,width,height\nISIC_6,512,384\n")
    columns = dict(path="image", label=label)
    where = dict(image_root=str(tmp_path / "input"), max_skipped=0.5)
    source = load(root, test=test, pool=pool, columns=columns, **where)
    assert source.class_names == ("NV", "MEL", "UNK")
    assert named(source.train, source) == {
        **{"ISIC_0": "NV", "ISIC_1": "MEL", "ISIC_3": "MEL"},
        **{"ISIC_2": "[]", "ISIC_6": "[]"},
    }
    # A file of exactly that name goes before the one with an extension.
    np.testing.assert_array_equal(source.train.read(np.array([1]))[0], pixels("ISIC_2.png"))
    assert named(source.test, source) == {"ISIC_5": "MEL"}
    assert source.skipped == (("ISIC_4", "train", "several classes: NV, MEL"),)
    assert any("UNK" in note for note in source.notes)


def camera_traps(**changes):
    document = dict(
        images=[
            dict(id=n, file_name=f"{n}.png", location=f"site{n // 2}", seq_id=f"s{n}")
            for n in range(6)
        ],
        annotations=[
            dict(image_id=0, category_id=1),
            dict(image_id=1, category_id=2),
            dict(image_id=1, category_id=2),
            dict(image_id=2, category_id=1),
            dict(image_id=2, category_id=2),
            dict(image_id=4, category_id=1),
            dict(image_id=77, category_id=1),
        ],
        categories=[dict(id=1, name="empty"), dict(id=2, name="lynx"), dict(id=3, name="wolf")],
    )
    return json.dumps(document | changes)


def test_camera_traps(tmp_path):
    """COCO Camera Traps: the location is the group."""
    save(tmp_path, *(f"{n}.png" for n in range(6)))
    root = table(tmp_path / "traps.json", camera_traps())
    source = load(root, max_skipped=0.4)
    assert source.class_names == ("empty", "lynx")
    assert named(source.train, source) == {
        **{"0.png": "empty", "1.png": "lynx", "4.png": "empty"},
        **{"3.png": "[]", "5.png": "[]"},
    }
    groups = dict(zip(source.train.names, source.train.groups, strict=True))
    assert groups["0.png"] == groups["1.png"] and groups["4.png"] == groups["5.png"]
    assert len({groups[f"{n}.png"] for n in (0, 3, 4)}) == 3
    assert source.skipped == (
        ("2.png", "train", "several classes: empty, lynx"),
        ("image 7", "train", "no path"),  # annotated, but not listed
    )


def test_camera_traps_with_splits_and_other_columns(tmp_path):
    save(tmp_path, *(f"{n}.png" for n in range(6)))
    images = json.loads(camera_traps())["images"]
    for image, split in zip(images, ("train", "train", "pool", "pool", "test", None), strict=True):
        image["split"] = split
    kept = json.loads(camera_traps())["annotations"][:3] + [dict(image_id=4, category_id=1)]
    root = table(tmp_path / "traps.json", camera_traps(images=images, annotations=kept))
    source = load(root, columns=dict(group="seq_id", id="seq_id"))
    assert named(source.train, source) == {
        **{"s0": "empty", "s1": "lynx"},
        **{"s2": "[]", "s3": "[]", "s5": "[]"},
    }
    assert named(source.test, source) == {"s4": "empty"}
    assert len(set(source.train.groups.tolist())) == 5


def test_labels_for_some_and_a_folder_of_many_more(tmp_path):
    """The pool holds the labeled images, and images elsewhere that are called like them."""
    save(tmp_path, "all/a.png", "all/b.png", "all/deep/er/c.png", "all/a.PNG", "a.png")
    (tmp_path / "all/notes.txt").write_text("no image")
    root = table(tmp_path / "labels.csv", "path,label\nall/a.png,cat\n./all//x/../b.png,dog\n")
    source = load(root, pool=str(tmp_path / "all"))
    assert named(source.train, source) == {
        **{"all/a.png": "cat", "all/b.png": "dog"},
        **{"all/a.PNG": "[]", "all/deep/er/c.png": "[]"},
    }
    assert not source.skipped
    save(tmp_path, "other/all/a.png", "other/b.png")
    source = load(root, pool=str(tmp_path / "other"))
    assert list(source.train.names)[2:] == ["other/all/a.png", "other/b.png"]
    source = load(
        table(tmp_path / "all/l.csv", "path,label\na.png,cat\nb.png,dog\n"),
        pool=str(tmp_path / "other"),
    )
    assert list(source.train.names)[2:] == ["../other/all/a.png", "../other/b.png"]


def test_tables_in_several_directories(tmp_path):
    """A name says one file, wherever the table lies that names it."""
    save(tmp_path, "x/a.png", "x/b.png", "y/a.png", "y/b.png")
    root = table(tmp_path / "x/labels.csv", "path,label\na.png,cat\nb.png,dog\n")
    pool = table(tmp_path / "y/pool.csv", "path\na.png\nb.png\n../x/b.png\n")
    source = load(root, pool=pool, max_skipped=0.5)
    assert source.train.names == ("a.png", "b.png", "../y/a.png", "../y/b.png")
    assert source.skipped[0][:2] == ("../x/b.png", "pool")
    assert "outside" in source.skipped[0].reason and "image_root" in source.skipped[0].reason
    absolute = table(tmp_path / "y/pool.csv", f"path\n{tmp_path}/x/b.png\n{tmp_path}/y/b.png\n")
    source = load(root, pool=absolute)
    assert source.train.names == ("a.png", "b.png", f"{tmp_path}/y/b.png")


# --- rules ----------------------------------------------------------------------------------------


def test_every_split_has_its_words(tmp_path):
    words = "train,TRAINING,,val,valid,Validation,dev,test,testing,pool,unlabeled,Unlabelled,nan"
    rows = [f"{n}.png,{'ab'[n % 2]},{word}" for n, word in enumerate(words.split(","))]
    save(tmp_path, *(f"{n}.png" for n in range(13)))
    source = load(table(tmp_path / "l.csv", "path,label,split\n" + "\n".join(rows)))
    assert named(source.train, source) == {
        **{f"{n}.png": "ab"[n % 2] for n in (0, 1, 2, 12)},
        **{"9.png": "[b]", "10.png": "[a]", "11.png": "[b]"},
    }
    assert source.val.names == tuple(f"{n}.png" for n in (3, 4, 5, 6))
    assert source.test.names == ("7.png", "8.png")


def test_only_the_first_table_is_split(tmp_path):
    save(tmp_path, "0.png", "1.png", "2.png")
    root = table(tmp_path / "l.csv", "path,label,fold\n0.png,a,train\n1.png,b,train\n")
    test = table(tmp_path / "t.csv", "path,label,fold\n2.png,a,train\n")
    assert load(root, test=test, columns=dict(split="fold")).test.names == ("2.png",)
    test = table(tmp_path / "t.csv", "path,label\n2.png,a\n")
    assert load(root, test=test, columns=dict(split="fold")).test.names == ("2.png",)


def test_labels_as_programs_write_them(tmp_path):
    """A column of numbers with gaps becomes floating point; what is missing has many names."""
    cells = ["3.0", "12", " 3 ", "", "nan", "NaN", "null", "<NA>", "0.5", "None", "-1.0"]
    save(tmp_path, *(f"{n}.png" for n in range(11)))
    rows = [f"{n}.png,{cell}" for n, cell in enumerate(cells)]
    source = load(table(tmp_path / "l.csv", "path,label\n" + "\n".join(rows)))
    assert source.class_names == ("0.5", "12", "3", "None")
    expected = ["3", "12", "3", "0.5", "None", *["[]"] * 6]
    assert list(named(source.train, source).values()) == expected


def test_groups_agree_between_tables(tmp_path):
    save(tmp_path, *(f"{n}.png" for n in range(5)))
    root = table(tmp_path / "l.csv", "path,label,group\n0.png,a,7.0\n1.png,b,\n2.png,b,nan\n")
    test = table(tmp_path / "t.csv", "path,label,group\n3.png,a,7\n4.png,b,8\n")
    source = load(root, test=test)
    assert source.train.groups[0] == source.test.groups[0] >= 0
    assert source.train.groups[1:].tolist() == [-1, -1]
    assert source.test.groups[1] not in source.train.groups
    assert load(root, test=test, columns=dict(group="")).train.groups is None


def test_ids_name_images(tmp_path):
    save(tmp_path, "0.png", "1.png", "2.png")
    root = table(tmp_path / "l.csv", "path,label,id\n0.png,a,17.0\n1.png,b,x\n2.png,b,\n")
    assert load(root).train.names == ("17", "x", "2.png")
    assert load(root, columns=dict(id="")).train.names == ("0.png", "1.png", "2.png")


def test_parquet(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    save(tmp_path, *(f"{n}.png" for n in range(4)))
    columns = dict(path=[f"{n}.png" for n in range(4)], label=[0.0, 1.0, None, float("nan")])
    pq.write_table(pa.table(columns), tmp_path / "l.parquet")
    source = load(tmp_path / "l.parquet")
    assert list(named(source.train, source).values()) == ["0", "1", "[]", "[]"]


def test_names_of_any_kind(tmp_path):
    names = [
        "a..b.png",
        "a,b.png",
        "two\nlines.png",
        'say "hi".png',
        "grün.png",
        " dot. .png",
        "#1;2.png",
    ]
    save(tmp_path, *names)
    with open(tmp_path / "l.csv", "w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(
            [("path", "label"), *((name, f"class\n{n % 2}") for n, name in enumerate(names))]
        )
    source = load(tmp_path / "l.csv")
    assert source.train.names == tuple(names) and not source.skipped
    np.testing.assert_array_equal(source.train.read(np.arange(7)), [pixels(n) for n in names])


def test_names_that_are_no_text(tmp_path):
    """A pool may hold them; reports get something that can be written."""
    odd = os.fsdecode(b"pool/k\xf6ln.png")
    save(str(tmp_path), "0.png", "1.png", odd)
    root = table(tmp_path / "l.csv", "path,label\n0.png,a\n1.png,b\n")
    source = load(root, pool=str(tmp_path / "pool"))
    assert source.train.names[2] == "pool/k\\xf6ln.png"
    np.testing.assert_array_equal(source.train.read(np.array([2]))[0], pixels(odd))


def test_links(tmp_path):
    """Links to files and directories are followed, a loop is left out."""
    save(tmp_path, "elsewhere/0.png", "elsewhere/1.png", "data/pool/2.png")
    (tmp_path / "data/img").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/pool/link.png").symlink_to(tmp_path / "elsewhere/0.png")
    (tmp_path / "data/pool/up").symlink_to(tmp_path / "data")
    (tmp_path / "data/pool/self").symlink_to(tmp_path / "data/pool/self")
    root = table(tmp_path / "data/l.csv", "path,label\nimg/0.png,a\nimg/1.png,b\n")
    source = load(root, pool=str(tmp_path / "data/pool"), max_skipped=0.5)
    assert source.train.names == ("img/0.png", "img/1.png", "pool/2.png")  # link.png is 0.png
    assert [(s.name, s.part) for s in source.skipped] == [("up", "pool")]


def test_a_directory_is_listed_once(tmp_path, monkeypatch):
    save(tmp_path, "img/0.png", "img/1.png")
    calls, listdir = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: calls.append(path) or listdir(path))
    load(table(tmp_path / "l.csv", "path,label\nimg/0,a\nimg/1,b\n"))
    assert calls.count(str(tmp_path / "img")) == 1
