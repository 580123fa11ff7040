import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import images
from ltssl_jax.data.sources import survey as survey_
from ltssl_jax.data.sources.images import Header, Policy, Unreadable

NOISE = np.random.default_rng(3).integers(0, 256, (12, 6, 8, 3), np.uint8)
GREY = NOISE[7][..., 0]
AS_IT_IS = Policy(size=0, resize="crop", channels=3)


def saved(path, pixels, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return str(path)


def decode(path, **changes):
    return images.decode(path, AS_IT_IS._replace(**changes))


# --- channels and bits ----------------------------------------------------------------------------


def test_grey_alpha_and_palettes_become_rgb(tmp_path):
    three = np.repeat(GREY[..., None], 3, axis=2)
    np.testing.assert_array_equal(decode(saved(tmp_path / "grey.png", GREY)), three)
    deep = saved(tmp_path / "deep.png", GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(decode(deep), three)
    alpha = saved(tmp_path / "alpha.png", np.dstack([NOISE[8], GREY]))
    np.testing.assert_array_equal(decode(alpha), NOISE[8])
    few = Image.fromarray(NOISE[9]).quantize(16)
    np.testing.assert_array_equal(
        decode(saved(tmp_path / "few.gif", few, transparency=0)), np.asarray(few.convert("RGB"))
    )


def test_one_and_four_channels(tmp_path):
    with_alpha = np.dstack([NOISE[8], GREY])
    path = saved(tmp_path / "alpha.png", with_alpha)
    np.testing.assert_array_equal(decode(path, channels=4), with_alpha)
    opaque = decode(saved(tmp_path / "rgb.png", NOISE[8]), channels=4)
    np.testing.assert_array_equal(opaque, np.dstack([NOISE[8], np.full_like(GREY, 255)]))
    grey = decode(saved(tmp_path / "grey.png", GREY), channels=1)
    np.testing.assert_array_equal(grey, GREY[..., None])
    assert decode(path, channels=4, size=3).shape == (3, 3, 4)


def test_16_bits_keep_their_full_scale(tmp_path):
    deep = np.array([[0, 128, 129, 257 * 9, 65535]], np.uint16)
    assert decode(saved(tmp_path / "x.png", deep), channels=1).ravel().tolist() == [0, 0, 1, 9, 255]


# --- size -----------------------------------------------------------------------------------------


def test_three_ways_to_a_square(tmp_path):
    stripes = np.zeros((4, 12, 3), np.uint8)
    stripes[:, 4:8] = NOISE[0, :4, :4]
    path = saved(tmp_path / "x.png", stripes)
    np.testing.assert_array_equal(decode(path, size=4), NOISE[0, :4, :4])
    padded = decode(path, size=12, resize="pad")
    np.testing.assert_array_equal(padded[4:8], stripes)
    assert not padded[:4].any() and not padded[8:].any()
    squeezed = np.asarray(Image.fromarray(stripes).resize((4, 4), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(decode(path, size=4, resize="stretch"), squeezed)


@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
def test_arrays_are_resized_as_files_are(tmp_path, resize):
    for pixels, channels in ((NOISE[0], 3), (GREY[..., None], 1), (np.dstack([NOISE[1], GREY]), 4)):
        path = saved(tmp_path / "x.png", pixels[..., 0] if channels == 1 else pixels)
        np.testing.assert_array_equal(
            images.fit_array(pixels, 5, resize),
            decode(path, size=5, resize=resize, channels=channels),
        )


def test_a_large_photograph_is_decoded_at_a_fraction_of_its_size(tmp_path):
    x, y = np.meshgrid(np.linspace(0, 255, 1600), np.linspace(0, 255, 1200))
    path = saved(tmp_path / "x.jpg", np.dstack([x, y, 255 - x]).astype(np.uint8), quality=95)
    exact = images.fit(Image.open(path), 32, "crop")
    np.testing.assert_allclose(decode(path, size=32).astype(int), np.asarray(exact), atol=3)


def test_the_exif_orientation_is_applied(tmp_path):
    smooth = np.linspace(0, 255, 8 * 6).reshape(8, 6).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    path = saved(tmp_path / "turned.jpg", smooth, exif=exif, quality=100)
    turned = decode(path, channels=1)[..., 0]
    np.testing.assert_allclose(turned.astype(int), np.rot90(smooth, -1), atol=4)
    assert images.header(path) == Header(8, 6, 1)


# --- what cannot be used --------------------------------------------------------------------------


def png_header(width, height):
    """The first bytes of a PNG of any size."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    body = struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + end
    return b"\x89PNG\r\n\x1a\n" + body


def broken(path):
    """Writes every kind of file that cannot be used; what is wrong with each."""
    saved(path / "float.tiff", NOISE[0, ..., 0].astype(np.float32))
    frames = [Image.fromarray(image) for image in NOISE[:3]]
    frames[0].save(path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(path / "pages.tiff", save_all=True, append_images=frames[1:])
    whole = io.BytesIO()
    Image.fromarray(np.tile(NOISE[0], (9, 9, 1))).save(whole, "JPEG")
    (path / "half.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (path / "empty.png").write_bytes(b"")
    (path / "text.png").write_text("no image")
    (path / "bomb.png").write_bytes(png_header(40_000, 40_000))
    (path / "large.png").write_bytes(png_header(10_000, 10_000))
    (path / "directory.png").mkdir()
    return {
        "float.tiff": "floating-point pixels",
        "moving.gif": "3 frames",
        "pages.tiff": "3 frames",
        "half.jpg": "truncated",
        "empty.png": "the file is empty",
        "text.png": "no image that Pillow knows",
        "bomb.png": "bomb",
        "large.png": "10000 x 10000 pixels",
        "directory.png": "directory",
        "gone.png": "no such file",
    }


def test_what_cannot_be_used_says_why(tmp_path, recwarn):
    for name, why in broken(tmp_path).items():
        with pytest.raises(Unreadable, match=why):
            decode(str(tmp_path / name))


def test_a_survey_finds_them_all_and_goes_on(tmp_path):
    expected = broken(tmp_path)
    saved(tmp_path / "a.png", NOISE[0])
    saved(tmp_path / "wrong_ending.jpg", GREY, format="PNG")
    paths = [str(tmp_path / name) for name in ("a.png", *expected, "wrong_ending.jpg")]
    calls = []
    first, *bad, last = survey(paths, progress=lambda *call: calls.append(call))
    assert (first, last) == (Header(8, 6, 3), Header(8, 6, 1))
    for reason, why in zip(bad, expected.values(), strict=True):
        assert why in reason
    assert calls[-1] == ("checking images", 12, 12)
    # A header does not tell that the rest is missing.
    assert survey([paths[4]], is_decoding=False) == [Header(72, 54, 3)]
    assert "truncated" in survey([paths[4]])[0]


def survey(paths, is_decoding=True, stamps=None, **options):
    stamps = stamps or [(0,)] * len(paths)
    return survey_.survey(paths, stamps, is_decoding=is_decoding, **options)


@pytest.fixture
def counting():
    """Opens files and remembers which."""

    def open_file(path):
        open_file.paths.append(path)
        return images.plain_open(path)

    open_file.paths = []
    return open_file


def test_what_was_found_is_remembered_until_a_file_changes(tmp_path, counting):
    paths = [saved(tmp_path / "a.png", NOISE[0]), str(tmp_path / "b.png")]
    first = survey(paths, open_file=counting)
    assert counting.paths and first[1] == "there is no such file"
    counting.paths.clear()
    assert survey(paths[::-1], open_file=counting) == first[::-1] and not counting.paths
    saved(tmp_path / "b.png", GREY)
    assert survey(paths, stamps=[(0,), (1,)], open_file=counting) == [first[0], Header(8, 6, 1)]
    assert set(counting.paths) == {paths[1]}  # one file more is one file to look at
    assert survey(paths, is_decoding=False, open_file=counting)[0] == first[0]
    assert paths[0] in counting.paths  # less was looked at then


def test_a_passing_fault_is_not_remembered(tmp_path):
    paths = [saved(tmp_path / "a.png", NOISE[0])]

    def denied(path):
        raise PermissionError(13, "Permission denied")

    assert survey(paths, open_file=denied) == ["Permission denied"]
    assert survey(paths) == [Header(8, 6, 3)]


def test_an_interrupted_survey_keeps_what_it_found(tmp_path, counting, monkeypatch):
    monkeypatch.setattr(survey_, "_BLOCK", 2)
    paths = [saved(tmp_path / f"{i}.png", NOISE[i]) for i in range(8)]

    def stop(what, done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        survey(paths, progress=stop)
    assert survey(paths, open_file=counting) == [Header(8, 6, 3)] * 8
    assert set(counting.paths) == set(paths[4:])


def test_odd_exif_data_do_not_matter(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    exif[0x9000] = 7  # a version, which should be four bytes
    smooth = np.linspace(0, 255, 8 * 6).reshape(8, 6).astype(np.uint8)
    path = saved(tmp_path / "odd.jpg", smooth, exif=exif, quality=100)
    assert survey([path]) == [Header(8, 6, 1)]
    turned = decode(path, channels=1)[..., 0]
    np.testing.assert_allclose(turned.astype(int), np.rot90(smooth), atol=4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_those_of_pillow(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "x.png", NOISE[0], exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(decode(path), expected)


def test_unusual_colours_are_refused_at_once(tmp_path):
    path = saved(tmp_path / "lab.tiff", Image.fromarray(NOISE[0]).convert("LAB"))
    (why,) = survey([path])
    assert "LAB" in why


def test_reading_a_file_that_changed_names_it(tmp_path):
    path = saved(tmp_path / "a.png", NOISE[0])
    read = images.reader([path], AS_IT_IS, (6, 8, 3), num_threads=1)
    np.testing.assert_array_equal(read(np.array([0, 0])), NOISE[[0, 0]])
    saved(tmp_path / "a.png", NOISE[0, :4])
    with pytest.raises(InputError, match=r"a.png has the shape \(4, 8, 3\) where \(6, 8, 3\)"):
        read(np.array([0]))
    (tmp_path / "a.png").write_text("")
    with pytest.raises(
        InputError, match="a.png cannot be decoded .the file is empty.*check=decode"
    ):
        read(np.array([0]))
