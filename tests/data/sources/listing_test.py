import numpy as np
import pytest
from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import listing
from ltssl_jax.data.sources.base import Settings, Skipped
from ltssl_jax.data.sources.listing import Row

NOISE = np.random.default_rng(3).integers(0, 256, (40, 5, 5, 3), np.uint8)


@pytest.fixture
def row(tmp_path):
    """Makes rows with real files, numbered in the order of first use."""
    numbers = {}

    def make(file, part, label="", group="", name=None):
        number = numbers.setdefault(file, len(numbers))
        Image.fromarray(NOISE[number]).save(tmp_path / f"{file}.png")
        return Row(str(tmp_path / f"{file}.png"), name or file, part, label, group)

    return make


def build(rows, **settings):
    return listing.build(rows, Settings(**settings), name="mine")


def test_rows_become_records(row):
    rows = [
        row("a", "train", "cat", "tom"),
        row("b", "pool", "dog", "tom"),
        row("c", "train", "", "ann"),
        row("d", "train", "ant"),
        row("e", "val", "cat"),
        row("f", "test", "ant", "ann"),
        row("g", "pool", "unheard of"),
    ]
    source = build(rows)
    assert (source.name, source.class_names) == ("mine", ("ant", "cat"))
    train = source.train
    assert train.names == ("a", "d", "b", "c", "g")
    assert train.labels.tolist() == [1, 0, -1, -1, -1]
    assert train.is_pool.tolist() == [False, False, True, True, True]
    np.testing.assert_array_equal(train.read(np.arange(5)), NOISE[[0, 3, 1, 2, 6]])
    assert (source.val.names, source.test.names) == (("e",), ("f",))
    # The numbers of groups are those of all parts together.
    assert train.groups[0] == train.groups[2] != train.groups[3] == source.test.groups[0]
    assert train.groups[[1, 4]].tolist() == [-1, -1]
    assert source.val.groups is None
    assert build([row("z", "pool", "cat"), *rows]).train.labels.tolist()[2] == 1  # for reports


def test_an_image_met_twice_is_used_once_and_on_one_side(row):
    rows = [
        row("a", "pool"),
        row("a", "train", "cat"),
        row("b", "train", "dog"),
        row("b", "train", "cat"),
        row("c", "train", "cat"),
        row("c", "test", "cat"),
        row("d", "val", "cat"),
        row("d", "pool"),
        row("e", "pool"),
        row("e", "pool", name="other name"),
        row("x", "test", "cat", name="a"),
        row("f", "train", "dog"),
    ]
    source = build(rows, max_skipped=0.7)
    assert source.test.names == ("c", "a") and source.val.names == ("d",)
    assert source.train.names == ("b", "f", "e")
    assert source.skipped == (
        Skipped("a", "train", "it has the id of another file in test"),
        Skipped("b", "train", "a second row of this train image with another class"),
        Skipped("c", "train", "also in test"),
        Skipped("a", "pool", "it has the id of another file in test"),
        Skipped("d", "pool", "also in val"),
        Skipped("other name", "pool", "a second row of this pool image"),
    )


def test_labeled_images_in_the_pool_are_no_fault(row):
    rows = [row("a", "train", "cat"), row("b", "train", "dog"), row("b", "pool"), row("c", "pool")]
    source = build(rows, max_skipped=0.0)
    assert source.train.names == ("a", "b", "c") and not source.skipped


def many(row, num_good, part="train"):
    return [row(f"{part}{i}", part, ("cat", "dog")[i % 2]) for i in range(num_good)]


def test_broken_files_are_left_out_up_to_a_share(row, tmp_path):
    rows = many(row, 20)
    (tmp_path / "train3.png").write_text("")
    (tmp_path / "train5.png").unlink()
    source = build(rows, max_skipped=0.1)
    assert len(source.train) == 18 and "train3" not in source.train.names
    assert source.skipped == (
        Skipped("train3", "train", "the file is empty"),
        Skipped("train5", "train", "there is no such file"),
    )
    with pytest.raises(InputError, match=r"2 of 20 train .*first: train3.*max_skipped=0.09.*raise"):
        build(rows, max_skipped=0.09)


def test_every_part_has_its_share(row, tmp_path):
    rows = many(row, 20) + many(row, 4, "test")
    (tmp_path / "test3.png").write_text("")
    with pytest.raises(InputError, match="1 of 4 test images cannot be used"):
        build(rows, max_skipped=0.2)


def test_test_images_without_label_are_left_out(row):
    source = build([*many(row, 4), row("t", "test"), row("u", "test", "cat")], max_skipped=1.0)
    assert source.skipped == (Skipped("t", "test", "no label"),)


def test_shape_and_channels_are_decided_by_the_training_images(row, tmp_path):
    rows = many(row, 4) + many(row, 2, "test")
    assert build(rows).train.image_shape == (5, 5, 3)
    for path in tmp_path.glob("train*"):
        Image.fromarray(NOISE[0, ..., 0]).save(path)
    source = build(rows)
    assert source.train.image_shape == source.test.image_shape == (5, 5, 1)
    assert build(rows, channels=4, image_size=3).train.image_shape == (3, 3, 4)
    Image.fromarray(NOISE[0, :, :4]).save(tmp_path / "train2.png")
    with pytest.raises(InputError, match="train0 has 5x5 .* train2 5x4; set data.image_size=4"):
        build(rows)
    assert build(rows, image_size=4).train.image_shape == (4, 4, 3)


def test_a_class_may_lose_all_its_images(row, tmp_path):
    rows = [*many(row, 4), row("rare", "train", "emu")]
    (tmp_path / "rare.png").write_text("")
    source = build(rows, max_skipped=0.5)
    assert source.class_names == ("cat", "dog", "emu")
    assert "1 of 3 classes have no labeled image: 'emu'" in source.notes[0]


def test_no_label_at_all_is_refused(row):
    with pytest.raises(InputError, match="'mine' has no labeled training image; label some"):
        build([row("a", "pool"), row("b", "train")])


def test_the_digest_follows_files_and_policy(row, tmp_path):
    rows = many(row, 4)
    first = build(rows).train.digest
    assert first and build(rows).train.digest == first
    assert build(rows, image_size=4).train.digest != first
    Image.fromarray(NOISE[30][:, ::-1]).save(tmp_path / "train1.png")
    assert build(rows).train.digest != first


def test_some_rows_can_be_taken(row):
    rows = [row("a", "train", "cat", "g"), row("b", "train", "dog"), row("c", "pool", "", "g")]
    records = build(rows).train
    taken = records.take(np.array([2, 0]))
    assert taken.names == ("c", "a") and taken.labels.tolist() == [-1, 0]
    assert taken.is_pool.tolist() == [True, False] and len(set(taken.groups.tolist())) == 1
    np.testing.assert_array_equal(taken.read(np.array([1, 0])), NOISE[[0, 2]])
    assert taken.digest not in ("", records.digest, records.take(np.array([0, 2])).digest)


def test_a_file_reached_by_two_ways_is_one_file(row, tmp_path):
    rows = [row("a", "train", "cat"), row("b", "train", "dog"), row("t", "test", "cat")]
    (tmp_path / "way").symlink_to(tmp_path)
    (tmp_path / "hard.png").hardlink_to(tmp_path / "t.png")
    again = [
        Row(str(tmp_path / "way/t.png"), "t again", "pool"),
        Row(str(tmp_path / "hard.png"), "t once more", "pool"),
        Row(str(tmp_path / "way/a.png"), "a again", "pool"),
        row("p", "pool"),
    ]
    source = build(rows + again)
    assert source.train.names == ("a", "b", "p")
    assert [s.reason for s in source.skipped] == ["also in test", "also in test"]


def test_a_part_that_is_lost_altogether_is_named(row, tmp_path):
    rows = many(row, 4) + many(row, 2, "test")
    for path in tmp_path.glob("test*"):
        path.write_text("")
    with pytest.raises(
        InputError, match="none of the 2 test images can be used .2 x the file is em"
    ):
        build(rows, max_skipped=1.0)


def test_class_names_do_not_steer_terminals(row):
    rows = [
        row("a", "train", "\x1b[31mred"),
        row("b", "train", "two\nlines \u202eevil"),
        row("c", "pool"),
    ]
    assert build(rows).class_names == ("\\x1b[31mred", "two\\nlines \\u202eevil")


def test_a_label_as_reports_write_it_is_the_class_itself(row, tmp_path):
    """As in Persian, where a character that is not seen parts a word."""
    rows = [row("a", "train", "\u06af\u0644\u200c\u0647\u0627"), row("b", "train", "dog")]
    first = build(rows)
    written = first.class_names[1]
    assert written == "\u06af\u0644\\u200c\u0647\u0627"
    source = build([*rows, row("c", "train", written), row("t", "test", written)])
    assert source.class_names == first.class_names
    assert source.train.labels.tolist() == [1, 0, 1] and source.test.labels.tolist() == [1]
    (tmp_path / "classes.txt").write_text("\u06af\u0644\u200c\u0647\u0627\ndog\n", encoding="utf-8")
    named = build(rows, classes=str(tmp_path / "classes.txt"))
    assert named.class_names == (written, "dog") and named.train.labels.tolist() == [0, 1]
