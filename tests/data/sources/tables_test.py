import datetime
import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import tables


def write(directory, name, content):
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def read(path, columns=None):
    table = tables.open_table(path)
    columns = table.columns if columns is None else columns
    return [(place, tuple(cells)) for place, cells in table.rows(columns)]


def traps(**changes):
    """Three images at two sites; the last has no annotation."""
    document = dict(
        images=[
            dict(id="u1", file_name="a/1.jpg", location="north", seq_id=7),
            dict(id="u2", file_name="a/2.jpg", location="north", frame_num=2.0),
            dict(id="u3", file_name="b/3.jpg", location=11),
        ],
        annotations=[
            dict(id="x", image_id="u1", category_id=5),
            dict(id="y", image_id="u2", category_id=0),
            dict(id="z", image_id="u1", category_id=5),
        ],
        categories=[dict(id=0, name="empty"), dict(id=5, name="lynx")],
    )
    return json.dumps(document | changes)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "path,label\n1.png,cat\n2.png,\n"),
        ("a.CSV", "\ufeffpath,label\r\n1.png,cat\r\n2.png,\r\n"),  # as spreadsheets write it
        ("a.csv", "path;label\n1.png;cat\n2.png;"),
        ("a.tsv", "path\tlabel\n1.png\tcat\n2.png\t\n"),
        ("a.txt", "path , label\r1.png, cat\r2.png, \r"),
        ("a.csv", '"path","label"\n"1.png", "cat"\n"2.png",""\n'),
    ],
)
def test_text_in_every_dress(tmp_path, name, content):
    path = write(tmp_path, name, content)
    assert read(path, ["path", "label"]) == [(2, ("1.png", "cat")), (3, ("2.png", ""))]


def test_names_with_delimiters_quotes_and_line_ends(tmp_path):
    content = (
        'path,label\n"a,b.png",x\n\n"two\r\nlines.png",y\n,\n"say ""hi"".png",ü\n5" plate.png,z\n'
    )
    assert read(write(tmp_path, "a.csv", content)) == [
        (2, ("a,b.png", "x")),
        (4, ("two\r\nlines.png", "y")),
        (7, ('say "hi".png', "ü")),
        (8, ('5" plate.png', "z")),
    ]


def test_columns_are_picked_by_name(tmp_path):
    path = write(tmp_path, "a.csv", ",a,b,,\n0,1,2,,\n")  # a spreadsheet's margin has no names
    assert read(path, ["b", None, "a", "b"]) == [(2, ("2", "", "1", "2"))]
    assert read(path, ["a"]) == [(2, ("1",))]


def test_parquet_becomes_text(tmp_path):
    path = str(tmp_path / "a.parquet")
    columns = dict(
        path=["1.png", None, "3.png"],
        label=pa.array([3.0, None, float("nan")]),
        part=pa.array(["val", "test", "val"]).dictionary_encode(),
        flag=[True, False, None],
        day=[datetime.date(2026, 1, 2)] * 3,
        share=[0.5, 1e20, -2.0],
        pixels=[[1], [2], [3]],
    )
    pq.write_table(pa.table(columns), path)
    assert read(path, ["path", "label", None, "part", "flag", "day", "share"]) == [
        (1, ("1.png", "3", "", "val", "1", "2026-01-02", "0.5")),
        (2, ("", "", "", "test", "0", "2026-01-02", "100000000000000000000")),
        (3, ("3.png", "", "", "val", "", "2026-01-02", "-2")),
    ]
    with pytest.raises(InputError, match="a.parquet, row 1: column 'pixels' holds no text"):
        read(path, ["path", "pixels"])


def test_parquet_is_read_in_batches(tmp_path):
    path = str(tmp_path / "a.pq")
    numbers = list(range(150_000))  # more than pyarrow's batch
    pq.write_table(pa.table(dict(n=numbers, blob=[b"no text"] * len(numbers))), path)
    rows = read(path, ["n"])
    assert rows[0] == (1, ("0",)) and rows[-1] == (150_000, ("149999",)) and len(rows) == 150_000


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="needs pyarrow.*pip install pyarrow"):
        read(write(tmp_path, "a.parquet", "x"))


def test_camera_traps(tmp_path):
    path = write(tmp_path, "a.json", traps())
    table = tables.open_table(path)
    assert table.columns == ("id", "file_name", "location", "seq_id", "label", "frame_num")
    assert table.meanings == dict(path="file_name", group="location", id="file_name")
    assert read(path, ["file_name", "location", "label", "seq_id", "frame_num", None]) == [
        (1, ("a/1.jpg", "north", "lynx", "7", "", "")),
        (2, ("a/2.jpg", "north", "empty", "", "2", "")),
        (3, ("b/3.jpg", "11", "", "", "", "")),
    ]


def test_camera_traps_with_numbers_for_ids(tmp_path):
    changes = dict(
        images=[dict(id=1, file_name="1.jpg"), dict(id=2, file_name="2.jpg")],
        annotations=[
            dict(image_id="1", category_id="5"),
            dict(image_id=1, category_id=0),
            dict(image_id=9, category_id=0),
        ],
    )
    assert read(write(tmp_path, "a.json", traps(**changes)), ["file_name", "id", "label"]) == [
        (1, ("1.jpg", "1", "lynx\x1fempty")),
        (2, ("2.jpg", "2", "")),
        (3, ("", "9", "empty")),  # annotated, but not listed
    ]


def test_json_text_that_no_file_can_have(tmp_path):
    images = [dict(id="u1", file_name="a\0\ud800ü.jpg")]
    path = write(tmp_path, "a.json", traps(images=images, annotations=[]))
    assert read(path, ["file_name"]) == [(1, ("a\\0\\ud800ü.jpg",))]


DEEP = b'{"images": ' + b"[" * 100_000

BAD_FILES = {
    "empty": ("a.csv", "", "a.csv is empty; its first line must name"),
    "only blank lines": ("a.csv", "\n \n,,\n", "a.csv is empty"),
    "header only": ("a.csv", "path,label\n", "names its columns but has no rows"),
    "column twice": ("a.csv", "path,label, label\nx,y,z\n", "several columns 'label'; rename"),
    "short row": ("a.csv", "path,label\nx,y\n\nz\n", "a.csv, line 4 has 1 cells for 2 columns"),
    "long row": ("a.csv", "path,label\nx,y\na,b.png,y\n", "line 3 has 3 cells for 2.*quotes"),
    "quote left open": ("a.csv", 'path,label\nx,y\n"a,b\nc,d\n', "line 3: unexpected end"),
    "text after quote": ("a.csv", 'path,label\n"a"b,c\n', "line 2: .*expected after"),
    "no end of cell": ("a.csv", f'path,label\n"{"x" * 200_000}', "line 2: field larger"),
    "NUL": ("a.csv", "path,label\nx,y\na\0b,c\n", "line 3 has a NUL character"),
    "Latin-1": (
        "a.csv",
        "path,label\nx,y\nköln.png,z\n".encode("latin-1"),
        "not in UTF-8: line 3, byte 2 is 0xf6",
    ),
    "UTF-16": ("a.csv", "path,label\nx,y\n".encode("utf-16"), "line 1, byte 1 is 0xff"),
    "UTF-16 without mark": ("a.csv", "path,label\nx,y\n".encode("utf-16-le"), "line 1 has a NUL"),
    "zip": ("a.csv", b"PK\x03\x04\x00\x00", "NUL"),
    "no Parquet": ("a.parquet", "path,label\n", "a.parquet cannot be read .*write it again"),
    "empty Parquet": ("a.parquet", "", "a.parquet cannot be read"),
    "no JSON": ("a.json", "path,label\n", "cannot be read as JSON .*line 1 column 1"),
    "JSON cut off": ("a.json", traps()[:-40], "cannot be read as JSON"),
    "JSON too deep": ("a.json", DEEP, "cannot be read as JSON"),
    "JSON in Latin-1": ("a.json", '{"ä": 1}'.encode("latin-1"), "cannot be read as JSON"),
    "a list": ("a.json", "[1, 2]", "holds a list; give COCO Camera Traps"),
    "no images": ("a.json", traps(images=None), "no list 'images'.*found: annotations, cat"),
    "no annotations": ("a.json", traps(annotations={}), "no list 'annotations'"),
    "image a number": ("a.json", traps(images=[1]), "entry 1 of images has no usable id and file"),
    "image no file": ("a.json", traps(images=[dict(id=1)]), "images has no usable file_name"),
    "id a list": ("a.json", traps(categories=[dict(id=[], name="x")]), "no usable id; each needs"),
    "no category": (
        "a.json",
        traps(annotations=[dict(image_id="u1")]),
        "entry 1 of annotations has no usable category_id",
    ),
    "unknown category": (
        "a.json",
        traps(annotations=[dict(image_id="u1", category_id=6)]),
        "annotation of image 'u1' has the category_id '6'",
    ),
    "category twice": (
        "a.json",
        traps(categories=[dict(id=0, name="x"), dict(id="0", name="y")]),
        "several of its categories have the id '0'",
    ),
    "image twice": (
        "a.json",
        traps(images=[dict(id="u1", file_name="a"), dict(id="u1", file_name="b")]),
        "several of its images have the id 'u1'",
    ),
    "images empty": ("a.json", traps(images=[], annotations=[]), "has no rows"),
    "spreadsheet": ("a.xlsx", "PK", "a.xlsx is no table; give a file that ends in .csv, .tsv"),
    "pickle": ("a.pkl", b"\x80\x04N.", "a.pkl is no table"),
    "no ending": ("labels", "path,label\n", "labels is no table"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_named(tmp_path, case):
    name, content, words = BAD_FILES[case]
    with pytest.raises(InputError, match=words) as raised:
        read(write(tmp_path, name, content))
    assert str(tmp_path / name) in str(raised.value)


def test_bad_places_are_named(tmp_path):
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(InputError, match="dir.csv is a directory; give a file"):
        read(str(tmp_path / "dir.csv"))
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    with pytest.raises(InputError, match="loop.csv is no table"):
        read(str(tmp_path / "loop.csv"))
    no_rows = str(tmp_path / "none.parquet")
    pq.write_table(pa.table(dict(path=pa.array([], pa.string()))), no_rows)
    with pytest.raises(InputError, match="none.parquet names its columns but has no rows"):
        read(no_rows)
    twice = str(tmp_path / "twice.parquet")
    pq.write_table(pa.Table.from_arrays([pa.array(["x"])] * 2, names=["a", "a"]), twice)
    with pytest.raises(InputError, match="twice.parquet has several columns 'a'"):
        read(twice)


def test_damaged_parquet_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    text = pa.table(dict(path=[f"{i}.png" for i in range(2000)]))
    pq.write_table(text, path, compression="zstd", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[200:400] = b"\xff" * 200
    path.write_bytes(content)
    with pytest.raises(InputError, match="a.parquet cannot be read"):
        read(str(path), ["path"])
