import pathlib

import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.data import counts

GOLDEN = pathlib.Path(__file__).parents[3] / "shared" / "golden" / "longtail_counts.npz"

# (num_max, imbalance_ratio): counts of ten classes, as the released code of the field gives them.
TEN_CLASSES = {
    (500, 100): (500, 299, 179, 107, 64, 38, 23, 13, 8, 5),
    (1000, 50): (1000, 647, 419, 271, 175, 113, 73, 47, 30, 20),
    (1000, 100): (1000, 599, 359, 215, 129, 77, 46, 27, 16, 10),
    (1500, 100): (1500, 899, 539, 323, 193, 116, 69, 41, 25, 15),
    (3000, 100): (3000, 1798, 1078, 646, 387, 232, 139, 83, 50, 30),
    (4000, 100): (4000, 2397, 1437, 861, 516, 309, 185, 111, 66, 40),
    (500, 150): (500, 286, 164, 94, 53, 30, 17, 10, 5, 3),
    (1500, 150): (1500, 859, 492, 282, 161, 92, 53, 30, 17, 10),
    (3000, 150): (3000, 1719, 985, 564, 323, 185, 106, 60, 34, 20),
    (4000, 150): (4000, 2292, 1313, 752, 431, 247, 141, 81, 46, 26),
}

# (num_max, imbalance_ratio, classes): smallest count, total.
TOTALS = {
    (1500, 50, 10): (30, 4196),
    (3000, 50, 10): (60, 8397),
    (50, 10, 100): (5, 1911),
    (400, 10, 100): (40, 15651),
    (150, 10, 100): (15, 5835),
    (300, 10, 100): (30, 11720),
    (50, 15, 100): (3, 1687),
    (150, 15, 100): (10, 5153),
    (300, 15, 100): (20, 10352),
    (50, 20, 100): (2, 1545),
    (400, 20, 100): (20, 12719),
    (150, 20, 100): (7, 4741),
    (200, 20, 100): (10, 6333),
    (300, 20, 100): (15, 9527),
    (150, 50, 100): (3, 3751),
    (300, 50, 100): (6, 7546),
    (150, 100, 100): (1, 3218),
    (300, 100, 100): (3, 6486),
    (150, 10, 10): (15, 609),
    (450, 10, 10): (45, 1835),
    (150, 20, 10): (7, 507),
    (450, 20, 10): (22, 1528),
}


@pytest.mark.parametrize(("setting", "expected"), TEN_CLASSES.items())
def test_counts_of_ten_classes(setting, expected):
    assert tuple(counts.long_tailed(*setting, 10)) == expected


@pytest.mark.parametrize(("setting", "expected"), TOTALS.items())
def test_smallest_count_and_total(setting, expected):
    result = counts.long_tailed(*setting)
    assert (result[0], result[-1], result.sum()) == (setting[0], *expected)
    assert result.dtype == np.int64


def test_counts_equal_the_recorded_ones():
    if not GOLDEN.exists():
        pytest.skip("recorded counts are not in this checkout")
    with np.load(GOLDEN) as recorded:
        for key in recorded.files:
            num_max, num_classes, ratio = map(int, key.split("_"))
            ours = counts.long_tailed(num_max, ratio, num_classes)
            np.testing.assert_array_equal(ours, recorded[key], err_msg=key)


def test_ratio_one_is_uniform():
    assert counts.long_tailed(37, 1, 5).tolist() == [37] * 5


# Ten and five classes at ratio 100: the first the integers of N1 = 500, the second 500 158 50 15 5.
@pytest.mark.parametrize(
    ("shape", "of_ten", "of_five"),
    [
        ("consistent", (500, 299, 179, 107, 64, 38, 23, 13, 8, 5), (500, 158, 50, 15, 5)),
        ("reversed", (5, 8, 13, 23, 38, 64, 107, 179, 299, 500), (5, 15, 50, 158, 500)),
        ("middle", (8, 23, 64, 179, 500, 299, 107, 38, 13, 5), (5, 50, 500, 158, 15)),
        ("head_tail", (299, 107, 38, 13, 5, 8, 23, 64, 179, 500), (158, 15, 5, 50, 500)),
        ("uniform_max", (500,) * 10, (500,) * 5),
        ("uniform_mean", (50,) * 10, (100,) * 5),
    ],
)
def test_shapes(shape, of_ten, of_five):
    assert tuple(counts.shaped(shape, 500, 100, 10)) == of_ten
    assert tuple(counts.shaped(shape, 500, 100, 5)) == of_five


def test_no_shape_but_the_uniform_ones_changes_the_counts():
    for shape in counts.SHAPES[:4]:
        for num_classes in (2, 3, 6, 101):
            sizes = counts.shaped(shape, 300, 20, num_classes)
            decaying = counts.long_tailed(300, 20, num_classes)
            np.testing.assert_array_equal(np.sort(sizes)[::-1], decaying, err_msg=shape)


def test_unknown_shape():
    with pytest.raises(InputError, match="unlabeled_shape 'head-tail' is .* mean 'head_tail'"):
        counts.shaped("head-tail", 500, 100, 10)
