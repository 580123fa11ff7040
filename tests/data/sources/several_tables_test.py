"""Labels from several tables at once: what suggestions that were filled in go back as."""

import csv
import os
import zlib

import numpy as np
import pytest
from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.data import sources
from ltssl_jax.data.sources.base import COLUMNS, roots

IDS = ("path", "label", "id")
NOISE = np.random.default_rng(3).integers(0, 256, (999, 3, 3, 3), np.uint8)


@pytest.fixture
def place(tmp_path):
    """Images `images/0.png` to `9.png`, the first four labeled in `labels.csv`."""
    for n in range(10):
        save(tmp_path / f"images/{n}.png")
    table(tmp_path / "labels.csv", [(f"images/{n}.png", "ab"[n % 2]) for n in range(4)])
    return tmp_path


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(NOISE[zlib.crc32(os.fsencode(path)) % len(NOISE)]).save(path)


def table(path, rows, header=("path", "label")):
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def suggested(place, labels, **names):
    """A table as `suggest` writes it, elsewhere, with absolute paths and columns of its own."""
    rows = [
        (place / f"images/{n}.png", label, names.get(f"i{n}", f"images/{n}.png"), "a", "rare")
        for n, label in labels.items()
    ]
    return table(place / "run/suggestions.csv", rows, ("path", "label", "id", "guess", "why"))


def load(*tables, kind="manifest", max_skipped=0.0, columns=(), **settings):
    root = ",".join(map(str, tables))
    settings |= dict(root=root, columns=COLUMNS | dict(columns), max_skipped=max_skipped)
    return sources.load(kind, **settings)


def named(source):
    classes = [*source.class_names, ""]
    is_pool = source.train.labels < 0 if source.train.is_pool is None else source.train.is_pool
    known = zip(source.train.names, source.train.labels, is_pool, strict=True)
    return {name: f"[{classes[k]}]" if pool else classes[k] for name, k, pool in known}


def labels_of(*numbers):
    return {f"images/{n}.png": "ab"[n % 2] for n in numbers}


@pytest.mark.parametrize("kind", ["manifest", "auto"])
def test_labels_join_those_that_are_there(place, kind):
    """Classes are those of both; without label an image is the pool's; nothing is left out."""
    further = suggested(place, {5: "b", 6: "c", 7: "", 8: " nan"})
    pool = str(place / "images")
    before = load(place / "labels.csv", pool=pool)
    assert named(before) == labels_of(0, 1, 2, 3) | {f"images/{n}.png": "[]" for n in range(4, 10)}
    source = load(place / "labels.csv", further, pool=pool, kind=kind)
    assert source.class_names == ("a", "b", "c") and source.name == "labels"
    expected = labels_of(0, 1, 2, 3) | {"images/5.png": "b", "images/6.png": "c"}
    assert named(source) == expected | {f"images/{n}.png": "[]" for n in (4, 7, 8, 9)}
    assert not source.skipped
    assert set(source.train.names) == set(before.train.names)


def test_labels_join_rows_without_any(place):
    """Of an image that the first table lists, all is kept: its name, its group, its place."""
    header = ("file", "species", "site", "key")
    rows = [(f"images/{n}.png", "ab"[n % 2] if n < 4 else "", f"s{n // 2}", n) for n in range(10)]
    root = table(place / "all.csv", rows, header)
    columns = dict(path="file", label="species", group="site", id="key")
    further = suggested(place, {5: "b", 7: ""}, i5="5", i7="7")
    source = load(root, further, columns=columns)
    assert sorted(source.train.names) == list("0123456789") and not source.skipped
    assert named(source)["5"] == "b" and named(source)["7"] == "[]"
    groups = dict(zip(source.train.names, source.train.groups.tolist(), strict=True))
    assert groups["4"] == groups["5"] != groups["7"] >= 0
    assert (source.train.labels >= 0).sum() == 5


def test_groups_of_the_pool_are_kept(place):
    rows = [(f"images/{n}.png", "b", "s") for n in (5, 6)]
    pool = table(place / "pool.csv", rows, ("path", "label", "group"))
    source = load(place / "labels.csv", suggested(place, {5: "a"}), pool=str(pool))
    groups = dict(zip(source.train.names, source.train.groups.tolist(), strict=True))
    assert groups["images/5.png"] == groups["images/6.png"] >= 0
    assert named(source)["images/5.png"] == "a"  # its label there is for reports only


def test_two_labels_of_one_image_are_an_error(place):
    further = suggested(place, {2: "a", 3: "a"})
    with pytest.raises(InputError, match=r"3.png is 'b' in .*labels.csv, but 'a' in .*sugg.*; cor"):
        load(place / "labels.csv", further)
    # The same through another path to the file; and between the second table and the third.
    (place / "images/link.png").symlink_to(place / "images/3.png")
    with pytest.raises(InputError, match="is 'b' in .*, but 'a' in"):
        load(place / "labels.csv", table(place / "more.csv", [("images/link.png", "a")]))
    with pytest.raises(InputError, match="is 'a' in .*one.csv, but 'b' in .*two.csv"):
        one = table(place / "one.csv", [("images/9.png", "a")])
        load(place / "labels.csv", one, table(place / "two.csv", [("images/9.png", "b")]))


def test_within_one_table_the_first_row_counts(place):
    further = table(place / "more.csv", [("images/5.png", "a"), ("images/5.png", "b")])
    source = load(place / "labels.csv", further, max_skipped=0.5)
    assert named(source)["images/5.png"] == "a"
    (left_out,) = source.skipped
    assert left_out.reason == "a second row of this train image with another class"


def test_an_image_that_has_moved_is_known_by_its_id(place):
    further = suggested(place, {5: "b"})
    (place / "images").rename(place / "elsewhere")
    rows = [
        (f"elsewhere/{n}.png", "ab"[n % 2] if n < 4 else "", f"images/{n}.png") for n in range(10)
    ]
    source = load(table(place / "all.csv", rows, ("path", "label", "id")), further)
    assert named(source)["images/5.png"] == "b"
    assert len(source.train) == 10 and not source.skipped


def test_an_image_that_has_moved_is_that_of_the_pool(place):
    """The images and their table move, the suggestions say where they were."""
    further = suggested(place, {5: "b", 6: ""})
    (place / "home").mkdir()
    for name in ("images", "labels.csv"):
        (place / name).rename(place / "home" / name)
    source = load(place / "home/labels.csv", further, pool=str(place / "home/images"))
    pool = {f"images/{n}.png": "[]" for n in (4, 6, 7, 8, 9)}
    assert named(source) == labels_of(0, 1, 2, 3, 5) | pool and not source.skipped
    files = dict(zip(source.train.names, source.train.files, strict=True))
    assert files["images/5.png"] == str(place / "home/images/5.png")


def test_two_images_with_one_id_are_an_error(place):
    """As numbers of two sites, of which one would get the label of the other."""
    root = table(place / "all.csv", [(f"images/{n}.png", "ab"[n % 2], n) for n in range(6)], IDS)
    (place / "site").mkdir()
    Image.new("RGB", (3, 3)).save(place / "site/5.png")
    other = [(place / "site/5.png", "b", "5")]
    further = table(place / "run/more.csv", other, IDS)
    with pytest.raises(InputError, match=r"5 is .*images/5.png in .*all.csv, but .*site/5.png in .*"
                       "more.csv: two images with one id; give one of them another"):  # fmt: skip
        load(root, further)
    # A copy is the same image, in the pool, too, whatever it is called there.
    for name in ("5", "6"):
        (place / f"site/{name}.png").write_bytes((place / "images/5.png").read_bytes())
    copies = [(place / "site/5.png", "b", "again"), (place / "site/6.png", "b", "5")]
    source = load(root, further, pool=str(table(place / "pool.csv", copies, IDS)))
    assert named(source) == {str(n): "ab"[n % 2] for n in range(6)} and not source.skipped
    assert str(place / "images/5.png") in source.train.files


@pytest.mark.parametrize("gone", ["images/5.png", "site/5.png"])
def test_of_two_places_of_an_image_that_counts_where_it_is(place, gone):
    save(place / "site/5.png")
    (place / gone).unlink()
    rows = [(f"images/{n}.png", "" if n == 5 else "ab"[n % 2], n) for n in range(6)]
    further = table(place / "run/more.csv", [(place / "site/5.png", "b", 5)], IDS)
    source = load(table(place / "all.csv", rows, IDS), further)
    assert named(source)["5"] == "b" and not source.skipped
    here = {"images/5.png", "site/5.png"} - {gone}
    assert {str(place / one) for one in here} < set(source.train.files)


def test_a_class_that_only_an_added_table_names_is_told(place):
    labels = {4: "Ab", 5: "a", 6: "none", 7: "none", 8: ""}
    root = table(place / "ab.csv", [(f"images/{n}.png", ["ab", "a"][n % 2]) for n in range(4)])
    source = load(root, suggested(place, labels))
    assert source.notes == (
        "'Ab' is named by suggestions.csv alone (1 image); did you mean 'ab'?",
        "'none' is named by suggestions.csv alone (2 images)",
    )
    new = table(place / "b.csv", [("images/9.png", "none")])
    assert (
        "by suggestions.csv and b.csv alone (3"
        in load(root, suggested(place, labels), new).notes[1]
    )
    classes = place / "classes.txt"
    classes.write_text("a\nab\nAb\nnone\n")
    assert not load(root, suggested(place, labels), classes=str(classes)).notes
    many = suggested(place, {n: f"new {n}" for n in range(10)})
    bare = table(place / "bare.csv", [(f"images/{n}.png", "") for n in range(10)])
    assert not load(bare, many).notes
    notes = load(table(place / "c.csv", [("more.png", "c")]), many, max_skipped=0.5).notes
    assert len(notes) == 10 and notes[8] == "2 more classes are named by added tables alone"
    rows = [("images/0.png", "no\u00adte"), ("images/1.png", "b")]
    odd = table(place / "odd.csv", rows)
    assert not load(odd, suggested(place, {5: "no\\xadte"})).notes


def test_paths_begin_beside_each_table_or_at_the_image_root(place):
    save(place / "further/images/x.png")
    further = table(place / "further/more.csv", [("images/x.png", "b")])
    source = load(place / "labels.csv", further)
    assert named(source) == labels_of(0, 1, 2, 3) | {"further/images/x.png": "b"}
    table(further, [("images/5.png", "b")])
    source = load(place / "labels.csv", further, image_root=str(place))
    assert named(source) == labels_of(0, 1, 2, 3, 5)


def test_a_column_per_class_and_one_for_the_class(place):
    rows = [(f"images/{n}.png", n % 2, 1 - n % 2) for n in range(4)]
    root = table(place / "bits.csv", rows, ("path", "b", "a"))
    source = load(root, suggested(place, {5: "b", 6: ""}), columns=dict(label="*"))
    assert source.class_names == ("b", "a")
    expected = labels_of(0, 1, 2, 3, 5) | {"images/6.png": "[]"}
    assert named(source) == expected
    new = suggested(place, {5: "c"})
    with pytest.raises(
        InputError, match="unknown: 'c' .*; known are .*source.classes: .*name the cl"
    ):
        load(root, new, columns=dict(label="*"))
    (place / "classes.txt").write_text("a\nb\nc\n")
    source = load(root, new, columns=dict(label="*"), classes=str(place / "classes.txt"))
    assert named(source)["images/5.png"] == "c" and not source.notes


@pytest.mark.parametrize("kind", ["folder", "auto"])
def test_a_folder_and_a_table(place, kind):
    home = place / "home"
    for name in ("train/a/0", "train/b/1", "train/none/x", "test/a/2", "pool/3", "pool/4"):
        save(home / f"{name}.png")
    (home / "train/none/x.png").unlink()
    rows = [(home / "pool/3.png", "c", "pool/3.png"), (home / "pool/4.png", "", "pool/4.png")]
    further = table(place / "run/s.csv", rows, ("path", "label", "id"))
    source = load(home, further, kind=kind)
    assert source.class_names == ("a", "b", "c", "none")
    assert named(source) == {
        **{"train/a/0.png": "a", "train/b/1.png": "b", "pool/3.png": "c"},
        **{"pool/4.png": "[]"},
    }
    assert source.test.names == ("test/a/2.png",) and not source.skipped
    with pytest.raises(InputError, match="is 'a' in .*home, but 'b' in .*s.csv"):
        load(home, table(further, [(home / "train/a/0.png", "b")]), kind=kind)


def test_paths_with_commas(place, monkeypatch):
    monkeypatch.chdir(place)
    odd = (place / "labels.csv").rename(place / "a,labels.csv")
    assert len(load(odd).train) == 4
    assert roots("a,labels.csv") == ["a,labels.csv"]
    (place / "a").mkdir()
    (place / "labels.csv").write_text("")
    assert roots("a,labels.csv") == ["a,labels.csv"]
    assert roots("a, labels.csv,") == ["a", "labels.csv"]
    assert roots("no,where.csv") == ["no,where.csv"] and roots("") == [""]


def test_what_is_missing_is_named(place):
    with pytest.raises(InputError, match="data.source.root is '.*nowhere.csv' but .* not exist"):
        load(place / "labels.csv", place / "nowhere.csv")
    with pytest.raises(InputError, match="images is a directory; give a file that ends in"):
        load(place / "labels.csv", place / "images")
    with pytest.raises(InputError, match=r"more.csv: .*label 'label' is unknown.*known: path"):
        load(place / "labels.csv", table(place / "more.csv", [("images/5.png",)], ("path",)))
