import io
import json
import os
import tarfile
import threading

import numpy as np
import pytest
from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.data import sources

NOISE = np.random.default_rng(11).integers(0, 256, (12, 6, 8, 3), np.uint8)


def png(i, **options):
    file = io.BytesIO()
    Image.fromarray(NOISE[i]).save(file, "png", **options)
    return file.getvalue()


def shard(path, *files):
    """Writes names with bytes, or TarInfos that have no bytes, one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def special(name, kind, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


@pytest.fixture
def root(tmp_path):
    shard(
        tmp_path / "train-0000.tar",
        ("a/0.png", png(0)),
        ("a/0.cls", b"cat\n"),
        ("a/1.cls", b"ant"),
        ("a/1.PNG", png(1)),
        ("a/__notes__", b"nothing"),
    )
    shard(tmp_path / "train-0001.tar", ("0.png", png(2)), ("1.png", png(3)), ("1.cls", b"cat"))
    shard(tmp_path / "test-0.tar", ("0.png", png(4)), ("0.cls", b"ant"))
    shard(tmp_path / "val.tar", ("0.png", png(5)), ("0.cls", b"cat"))
    shard(tmp_path / "pool-7.tar", ("0.png", png(6)), ("1.png", png(7)))
    return tmp_path


def load(root, **options):
    return sources.load("webdataset", root=str(root), **options)


def reasons(source):
    return {(s.name, s.part): s.reason for s in source.skipped}


def test_shards_are_read_in_their_parts(root):
    source = load(root)
    assert (source.name, source.class_names) == (root.name, ("ant", "cat"))
    assert source.train.labels.tolist() == [1, 0, 1, -1, -1, -1]
    assert source.train.is_pool.tolist() == [False] * 3 + [True] * 3
    assert source.train.names == (
        *("train-0000.tar/a/0", "train-0000.tar/a/1", "train-0001.tar/1"),
        *("train-0001.tar/0", "pool-7.tar/0", "pool-7.tar/1"),
    )
    images = source.train.read(np.arange(6))
    np.testing.assert_array_equal(images, NOISE[[0, 1, 3, 2, 6, 7]])
    np.testing.assert_array_equal(source.test.read(np.array([0])), NOISE[[4]])
    np.testing.assert_array_equal(source.val.read(np.array([0])), NOISE[[5]])
    assert (source.test.labels.tolist(), source.val.labels.tolist()) == ([0], [1])
    assert source.skipped == () and sources.load("auto", root=str(root)).name == root.name
    assert sorted(os.listdir(root)) == [
        *("pool-7.tar", "test-0.tar", "train-0000.tar", "train-0001.tar", "val.tar")
    ]


def test_threads_read_at_their_own_places(root):
    train, found = load(root).train, {}

    def read(i):
        found[i] = [train.read(np.array([i, 5 - i])) for _ in range(20)]

    threads = [threading.Thread(target=read, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    order = [0, 1, 3, 2, 6, 7]
    for i, images in found.items():
        for image in images:
            np.testing.assert_array_equal(image, NOISE[[order[i], order[5 - i]]])


def test_patterns_and_equal_keys_in_equally_named_shards(tmp_path):
    shard(tmp_path / "a/0.tar", ("0.png", png(0)), ("0.cls", b"x"), ("1.png", png(1)))
    shard(tmp_path / "a/1.tar", ("0.png", png(2)), ("0.cls", b"y"))
    shard(tmp_path / "b[1]/0.tar", ("0.png", png(3)), ("0.cls", b"x"))
    shard(tmp_path / "more.tar", ("0.png", png(4)), ("0.cls", b"x"))
    source = load(
        f"{tmp_path}/a/*.tar", test=str(tmp_path / "b[1]"), pool=str(tmp_path / "more.tar")
    )
    assert source.train.labels.tolist() == [0, 1, -1, 0]  # a pool image keeps what is known
    assert source.train.is_pool.tolist() == [False, False, True, True]
    assert source.test.names == ("b[1]/0.tar/0",) and source.skipped == ()


def test_json_labels_groups_and_numbers(tmp_path):
    facts = [
        dict(label=10, group="s1", kind="y"),
        dict(label="9"),
        dict(label=None, group="s1"),
        dict(label=-1),
        dict(kind="x", label=9, group=4),
    ]
    files = [(f"{i}.json", json.dumps(f).encode()) for i, f in enumerate(facts)]
    shard(tmp_path / "train-0.tar", *files, *((f"{i}.png", png(i)) for i in range(5)))
    source = load(tmp_path)
    assert source.class_names == ("9", "10")  # by number, not by letter
    assert source.train.labels.tolist() == [1, 0, 0, -1, -1]
    assert source.train.groups.tolist() == [1, -1, 0, 1, -1]
    renamed = load(tmp_path, columns=dict(label="kind"))
    assert renamed.class_names == ("x", "y")
    assert renamed.train.labels.tolist() == [1, 0, -1, -1, -1]


def test_numbers_become_the_names_of_the_classes_file(root, tmp_path):
    shard(tmp_path / "train-0001.tar", ("0.png", png(2)), ("0.cls", b"0"))
    (tmp_path / "names.txt").write_text("cat\nant\nbee\n")
    source = load(root, classes=str(tmp_path / "names.txt"))
    assert source.class_names == ("cat", "ant", "bee")
    assert source.train.labels[:3].tolist() == [0, 1, 0]
    assert any("no labeled image: 'bee'" in note for note in source.notes)


def test_what_cannot_be_used_is_counted(root):
    shard(
        root / "train-0002.tar",
        ("0.png", b""),
        ("0.cls", b"ant"),
        ("1.png", png(8)[:100]),
        ("1.cls", b"ant"),
        ("2.png", png(8)),
        ("2.cls", b"\xff\xfe"),
        ("3.png", png(8)),
        ("3.json", b"{"),
        ("4.png", png(8)),
        ("4.json", b'{"label": [1]}'),
        ("5.png", png(8)),
        ("5.json", b'{"label": NaN}'),
        ("6.cls", b"ant"),
        ("7.png", png(8)),
        ("7.jpg", png(8)),
        ("8.png", png(8)),
        ("8.png", png(9)),
        ("9.png", png(8)),
        ("9.json", b"[" * 100_000),
        ("10.png", png(8)),
        ("10.cls", b" \n"),
        ("11.png", png(8)),
        ("11.cls", b"ant" * 2**19),
        special("link.png", tarfile.SYMTYPE, "/etc/passwd"),
        special("hard.png", tarfile.LNKTYPE, "8.png"),
        special("device.png", tarfile.CHRTYPE),
        ("../out.png", png(8)),
        ("/etc/abs.png", png(8)),
        special("directory.png", tarfile.DIRTYPE),
        (".hidden.png", b"hidden"),
        (b"\xff\xfe.png".decode("utf-8", "surrogateescape"), png(9)),
    )
    source = load(root, max_skipped=0.9)
    at = "train-0002.tar/"
    found = reasons(source)
    assert {name.removeprefix(at) for name, _ in found} == {
        *map(str, (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11)),
        *("8.png", "link.png", "hard.png", "device.png", "../out.png", "/etc/abs.png"),
    }
    assert len(source.skipped) == 17 and {part for _, part in found} == {"train"}
    for name, words in {
        "0": "the file is empty",
        "1": "truncated",
        "2": "no text in UTF-8",
        "4": "neither text nor a whole number",
        "5": "nan in its JSON",
        "6": "a label without an image",
        "7": "several images",
        "8.png": "a second such file",
        "9": "recursion",
        "10": "label is empty",
        "11": "longer than 1 MiB",
        "link.png": "a link",
        "hard.png": "a link",
        "../out.png": "leads out",
        "/etc/abs.png": "leads out",
    }.items():
        assert words in found[at + name, "train"], name
    assert source.train.names[4:6] == (at + "8", at + r"\xff\xfe")
    np.testing.assert_array_equal(source.train.read(np.arange(4, 6)), NOISE[[8, 9]])
    with pytest.raises(InputError, match="17 of .* train images cannot be used"):
        load(root)


@pytest.mark.parametrize("cut", ["inside the image", "after a file", "garbage"])
def test_a_shard_that_ends_early_is_counted(root, cut):
    path = shard(
        root / "train-0002.tar",
        *(("0.cls", b"ant"), ("0.png", png(8)), ("1.cls", b"ant"), ("1.png", png(9))),
    )
    data = path.read_bytes()
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    if cut == "inside the image":
        path.write_bytes(data[: last.offset_data + 50])
    elif cut == "after a file":
        path.write_bytes(data[: last.offset])
    else:
        path.write_bytes(data[: last.offset] + b"\x07" * 2000)
    source = load(root, max_skipped=0.5)
    found = reasons(source)
    assert found["train-0002.tar", "train"] == "the shard ends early; what may follow is lost"
    assert "train-0002.tar/0" in source.train.names
    assert "train-0002.tar/1" not in source.train.names
    assert ("train-0002.tar/1.png", "train") in found or cut != "inside the image"


def test_what_is_no_shard_is_named(root, tmp_path):
    with pytest.raises(InputError, match="root is '' where there is no shard|root is '', where"):
        load("")
    with pytest.raises(InputError, match="root is '/no/.*where there is no shard"):
        load("/no/*.tar")
    with pytest.raises(InputError, match="data.source.test is '/no'"):
        load(root, test="/no")
    (root / "train-0002.tar").write_bytes(b"")
    with pytest.raises(
        InputError, match="train-0002.tar cannot be read as a shard.*not compressed"
    ):
        load(root)
    with tarfile.open(root / "train-0002.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("0.cls"))
    with pytest.raises(InputError, match="train-0002.tar cannot be read as a shard"):
        load(root)
    os.rename(root / "train-0002.tar", root / "training.tar")
    with pytest.raises(InputError, match="training.tar is of no part: begin its name with train,"):
        load(root)
    shard(tmp_path / "empty/train.tar")
    with pytest.raises(InputError, match="no labeled training image|has 0 class"):
        load(tmp_path / "empty")
