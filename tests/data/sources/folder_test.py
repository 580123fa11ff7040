import numpy as np
import pytest
from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.data import sources
from ltssl_jax.data.sources import folder

NOISE = np.random.default_rng(3).integers(0, 256, (12, 6, 8, 3), np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def root(tmp_path):
    """Two classes of lossless 6x8 colour images: cat 3 + 1, ant 2 + 1."""
    save(tmp_path / "train/cat/b.png", NOISE[0])
    save(tmp_path / "train/cat/a.webp", NOISE[1], lossless=True)
    save(tmp_path / "train/cat/deeper/still/c.BMP", NOISE[2])
    save(tmp_path / "train/ant/1.tiff", NOISE[3])
    save(tmp_path / "train/ant/10.png", NOISE[4])
    save(tmp_path / "test/cat/x.png", NOISE[5])
    save(tmp_path / "test/ant/x.png", NOISE[6])
    (tmp_path / "train/ant/.hidden.png").write_text("not an image")
    (tmp_path / "train/ant/notes.txt").write_text("not an image")
    return tmp_path


def load(root, **options):
    return sources.load("folder", root=str(root), **options)


def read_one(root, name, **options):
    records = load(root, **options).train
    return records.read(np.array([records.names.index(name)]))[0]


def test_files_are_sorted_by_class_and_path(root):
    source = load(root)
    assert source.name == root.name and load(root, name="pets").name == "pets"
    assert source.class_names == ("ant", "cat")
    assert source.train.names == (
        "train/ant/1.tiff",
        "train/ant/10.png",
        "train/cat/a.webp",
        "train/cat/b.png",
        "train/cat/deeper/still/c.BMP",
    )
    assert source.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert source.train.image_shape == (6, 8, 3)
    np.testing.assert_array_equal(source.train.read(np.arange(5)), NOISE[[3, 4, 1, 0, 2]])
    np.testing.assert_array_equal(source.test.read(np.array([1, 0, 1])), NOISE[[5, 6, 5]])


@pytest.mark.parametrize("pixels_per_thread", [1, 10**6])
def test_many_images_keep_their_order(root, monkeypatch, pixels_per_thread):
    monkeypatch.setattr(folder, "_PIXELS_PER_THREAD", pixels_per_thread)
    records, positions = load(root).train, np.random.default_rng(0).integers(0, 5, 700)
    np.testing.assert_array_equal(records.read(positions), NOISE[[3, 4, 1, 0, 2]][positions])
    assert records.read(np.array([], int)).shape == (0, 6, 8, 3)


def test_formats_become_rgb_of_8_bits(root):
    grey = NOISE[7][..., 0]
    save(root / "train/cat/grey.png", grey)
    save(root / "train/cat/deep.png", grey.astype(np.uint16) * 257)
    save(root / "train/cat/alpha.png", np.dstack([NOISE[8], grey]))
    Image.fromarray(NOISE[9]).quantize(16).save(root / "train/cat/palette.gif", transparency=0)
    for name in ("grey", "deep"):
        expected = np.repeat(grey[..., None], 3, axis=2)
        np.testing.assert_array_equal(read_one(root, f"train/cat/{name}.png"), expected)
    np.testing.assert_array_equal(read_one(root, "train/cat/alpha.png"), NOISE[8])
    quantized = np.asarray(Image.fromarray(NOISE[9]).quantize(16).convert("RGB"))
    np.testing.assert_array_equal(read_one(root, "train/cat/palette.gif"), quantized)


def test_one_grey_class_does_not_make_the_set_grey(root):
    save(root / "train/ant/0.png", NOISE[7][..., 0])
    assert load(root).train.image_shape == (6, 8, 3)


def test_grey_sets_have_one_channel(tmp_path):
    grey = NOISE[..., 0]
    for number, part in enumerate(("train/a", "train/b", "test/a", "test/b")):
        save(tmp_path / part / "x.png", grey[number])
    records = load(tmp_path).train
    np.testing.assert_array_equal(records.read(np.arange(2)), grey[:2, ..., None])


def test_exif_orientation_is_honoured(root):
    smooth = np.linspace(0, 255, 8 * 6).reshape(8, 6).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    save(root / "train/cat/turned.jpg", smooth, exif=exif, quality=100)
    turned = read_one(root, "train/cat/turned.jpg")
    expected = np.repeat(np.rot90(smooth, -1)[..., None], 3, axis=2)
    np.testing.assert_allclose(turned.astype(int), expected, atol=4)


def test_other_sizes_are_refused_or_resized(root):
    save(root / "train/cat/wide.png", np.full((6, 20, 3), 7, np.uint8))
    with pytest.raises(InputError, match=r"wide.png has 6x20 .* 6x8; set data.image_size=6"):
        load(root).train.read(np.arange(6))
    images = load(root, image_size=4).train.read(np.arange(6))
    assert images.shape == (6, 4, 4, 3)
    assert (images[5] == 7).all()


def test_resizing_keeps_the_central_square(tmp_path):
    stripes = np.zeros((4, 12, 3), np.uint8)
    stripes[:, 4:8] = NOISE[0, :4, :4]
    for part in ("train/a", "train/b", "test/a"):
        save(tmp_path / part / "x.png", stripes)
    np.testing.assert_array_equal(
        load(tmp_path, image_size=4).train.read(np.arange(1))[0], NOISE[0, :4, :4]
    )


@pytest.mark.parametrize("content", [b"", b"not an image", "truncated"])
def test_broken_files_are_named(root, content):
    if content == "truncated":
        content = (root / "train/cat/b.png").read_bytes()[:-60]
    (root / "train/cat/oops.png").write_bytes(content)
    records = load(root).train
    with pytest.raises(InputError, match="oops.png cannot be decoded .* replace or remove"):
        records.read(np.arange(len(records)))


def test_floating_point_pixels_are_refused(root):
    save(root / "train/cat/float.tiff", NOISE[0, ..., 0].astype(np.float32))
    with pytest.raises(InputError, match="float.tiff has floating-point pixels"):
        read_one(root, "train/cat/float.tiff")


def test_bad_layouts_are_named(root, tmp_path_factory):
    with pytest.raises(InputError, match="data.root is empty"):
        load("")
    with pytest.raises(InputError, match="nowhere does not exist"):
        load(root / "nowhere")
    with pytest.raises(InputError, match="test is missing .found ant, cat"):
        (other := tmp_path_factory.mktemp("other")).joinpath("train").mkdir()
        for name in ("ant", "cat"):
            save(other / "train" / name / "x.png", NOISE[0])
            save(other / name / "x.png", NOISE[0])
        load(other)
    with pytest.raises(InputError, match="no class directories"):
        (tmp_path_factory.mktemp("empty") / "train").mkdir()
        load(tmp_path_factory.getbasetemp() / "empty0")
    (root / "train/bee").mkdir()
    with pytest.raises(InputError, match="train/bee has no image"):
        load(root)
    (root / "train/bee").rmdir()
    save(root / "test/bee/x.png", NOISE[0])
    save(root / "test/eel/x.png", NOISE[0])
    with pytest.raises(InputError, match="train lacks: bee, eel"):
        load(root)


def test_one_class_is_not_enough(tmp_path):
    save(tmp_path / "train/only/x.png", NOISE[0])
    save(tmp_path / "test/only/x.png", NOISE[0])
    with pytest.raises(InputError, match=r"has 1 class \(only\).*at least two"):
        load(tmp_path)
