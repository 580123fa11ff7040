"""Each protocol cuts a data set as its authors do; expectations are written out from their code."""

import pathlib
import types

import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.data import protocols, published, splits

SIZES = {"cifar10": (10, 5000), "svhn": (10, 5000), "cifar100": (100, 500), "stl10": (10, 500)}
RNG = np.random.default_rng(3)


def images(labels, is_pool=None):
    """As much of `Records` as a protocol reads."""
    return types.SimpleNamespace(labels=np.asarray(labels, np.int32), is_pool=is_pool)


def balanced(dataset):
    num_classes, size = SIZES[dataset]
    labels = RNG.permutation(np.repeat(np.arange(num_classes), size))
    return np.concatenate([labels, np.full(1000, -1)]) if dataset == "stl10" else labels


LABELS = {dataset: balanced(dataset) for dataset in SIZES}
COUNTS = dict(num_max=500, unlabeled_num_max=4000, imbalance_ratio=100.0)
NEUTRAL = dict(num_max=1000, imbalance_ratio=100.0)
NOT_CHOSEN = dict(unlabeled_num_max=0)  # where a setting gives other fields


def cut(protocol, dataset, labels=None, **fields):
    labels = LABELS[dataset] if labels is None else labels
    num_classes = int(labels.max()) + 1
    return protocols.cut(
        images(labels), num_classes=num_classes, dataset=dataset, protocol=protocol, **fields
    )


# protocol, data set: is labeled in the pool, too; first images with seed 0, with seed 1; held out.
CUTS = {
    ("tras", "cifar10"): (False, True, True, 0),
    ("tras", "svhn"): (False, True, True, 0),
    ("tras", "cifar100"): (True, True, True, 0),
    ("abc", "cifar10"): (False, True, True, 0),
    ("abc", "svhn"): (False, True, True, 0),
    ("abc", "cifar100"): (True, True, True, 0),
    ("darp_fixmatch", "cifar10"): (True, True, True, 0),
    ("darp_fixmatch", "cifar100"): (True, True, True, 0),
    ("darp_fixmatch", "stl10"): (True, True, True, 0),
    ("darp_mixmatch", "cifar10"): (False, True, True, 0),
    ("darp_mixmatch", "cifar100"): (False, True, True, 0),
    ("darp_mixmatch", "stl10"): (False, True, True, 0),
    ("cossl", "cifar10"): (True, True, False, 0),
    ("cossl", "cifar100"): (True, True, False, 0),
    ("cdmad", "cifar10"): (True, True, True, 0),
    ("cdmad", "cifar100"): (True, True, False, 0),
    ("cdmad", "stl10"): (True, True, True, 0),
    ("acr", "cifar10"): (True, True, True, 0),
    ("acr", "cifar100"): (True, True, True, 0),
    ("acr", "stl10"): (False, True, True, 0),
    ("ccl", "cifar10"): (True, True, True, 0),
    ("ccl", "cifar100"): (True, True, True, 0),
    ("ccl", "stl10"): (False, True, True, 0),
    ("simpro", "cifar10"): (False, True, True, 0),
    ("simpro", "cifar100"): (False, True, True, 0),
    ("simpro", "stl10"): (False, True, True, 0),
    ("daso", "cifar10"): (False, False, False, 500),
    ("daso", "cifar100"): (False, False, False, 50),
    ("daso", "stl10"): (False, False, False, 50),
    ("usb", "cifar10"): (False, False, False, 0),
    ("usb", "cifar100"): (False, False, False, 0),
    ("usb", "stl10"): (True, False, False, 0),
    ("cpe", "cifar10"): (False, False, False, 0),
    ("cpe", "cifar100"): (False, False, False, 0),
    ("cpe", "stl10"): (True, False, False, 0),
    ("crest", "cifar10"): (True, False, False, 0),
    ("saw", "cifar10"): (True, True, True, 0),
    ("saw", "cifar100"): (True, True, True, 0),
    ("semi", "cifar10"): (True, True, True, 0),
    ("semi", "cifar100"): (True, True, True, 0),
    ("boat", "cifar10"): (True, True, True, 0),
    ("boat", "cifar100"): (True, True, True, 0),
    ("adello", "cifar10"): (True, True, True, 0),
    ("adello", "cifar100"): (True, True, True, 0),
    ("seval", "cifar10"): (False, True, True, 0),
    ("seval", "cifar100"): (False, True, True, 0),
    ("bi_sampling", "cifar10"): (False, True, True, 0),
    ("bi_sampling", "cifar100"): (False, True, True, 0),
}


def a_setting(protocol, dataset):
    """One published choice of counts, or any where none is known."""
    known = published.conventions(protocol, dataset).settings
    small = dict(num_max=50, unlabeled_num_max=300, imbalance_ratio=10)
    return known[0] if known else small


def takes_the_first(split, labels):
    firsts = [np.flatnonzero(labels == k)[:n] for k, n in enumerate(split.labeled_counts)]
    return np.array_equal(split.labeled, np.concatenate(firsts))


@pytest.mark.parametrize(("name", "expected"), CUTS.items())
def test_conventions(name, expected):
    overlap, *first, held_out = expected
    labels = LABELS[name[1]]
    for seed, is_first in enumerate(first):
        split, _ = cut(*name, **(COUNTS | NOT_CHOSEN | a_setting(*name)), seed=seed)
        assert takes_the_first(split, labels) == is_first
        assert np.isin(split.labeled, split.unlabeled).all() == overlap
        assert split.is_labeled.any() == overlap
        per_class = np.bincount(labels[split.validation], minlength=10)
        assert (per_class == held_out).all()


def test_every_published_protocol_is_expected_here():
    listed = {(p, d) for p, sets in published.PROTOCOLS.items() for d in sets}
    assert listed == {*CUTS} | {(p, "imagenet127") for p in ("cossl", "acr", "ccl", "simpro")}


def test_every_protocol_is_documented():
    page = (pathlib.Path(__file__).parents[2] / "docs" / "protocols.md").read_text()
    for name in (*published.PROTOCOLS, published.GIVEN):
        assert f"`{name}`" in page or f"protocol={name}" in page, name


# As in the tables of the papers: labeled and other unlabeled images in total.
TOTALS = {
    ("tras", "cifar10"): [(2478, 9922)],
    ("tras", "cifar100"): [(6333, 9527)],
    ("abc", "cifar10"): [(2478, 9922)],
    ("darp_fixmatch", "cifar10"): [
        *[(4196, 8397), (3720, 7443), (3496, 6996)],
        *[(3720, 30000), (3720, 8397), (3720, 6996), (3720, 7443)],
    ],
    ("darp_mixmatch", "cifar100"): [(9527, 4741)],
    ("cossl", "cifar10"): [(4196, 8397), (3720, 7443), (3496, 6996)],
    ("cossl", "cifar100"): [(4741, 9527), (3751, 7546), (3218, 6486)],
    ("cdmad", "cifar10"): [
        *[(4196, 8397), (3720, 7443), (3496, 6996)],
        *[(3720, 30000), (3720, 8397), (3720, 6996)],
    ],
    ("cdmad", "stl10"): [(1835, 0), (1528, 0)],
    ("acr", "cifar10"): [
        *[(1236, 9922), (1162, 9329), (3720, 7443), (3496, 6996)],
        *[(1236, 40000), (1236, 9922), (3720, 30000), (3720, 7443)],
    ],
    ("ccl", "cifar100"): [
        *[(1911, 15651), (1545, 12719), (5835, 11720), (4741, 9527)],
        *[(1911, 40000), (1911, 15651), (5835, 30000), (5835, 11720)],
    ],
    ("acr", "stl10"): [(609, 0), (507, 0), (1835, 0), (1528, 0)],
    ("simpro", "cifar10"): [
        *[(1236, 9922), (1236, 40000), (1236, 9922), (1236, 9922), (1236, 9922)],
        *[(1162, 9329), (1162, 40000), (1162, 9329), (1162, 9329), (1162, 9329)],
    ],
    ("daso", "cifar100"): [(1911, 15651), (1545, 12719), (5835, 11720), (4741, 9527)],
    ("daso", "stl10"): [(609, 0), (507, 0), (1835, 0), (1528, 0)],
    ("usb", "cifar10"): [
        *[(1236, 9922), (1162, 9329), (3720, 7443), (3496, 6996), (1236, 9922), (3720, 7443)]
    ],
    ("usb", "cifar100"): [(5835, 11720), (5153, 10352), (5835, 11720)],
    ("usb", "stl10"): [(609, 5000 - 609), (507, 5000 - 507)],
    ("cpe", "cifar10"): [
        *[(1236, 9922), (1162, 9329), (3720, 7443), (3496, 6996), (1236, 9922), (3720, 7443)],
        *[(1236, 4000), (3720, 3000)],
    ],
    ("crest", "cifar10"): [(1402, 13996 - 1402), (1244, 12406 - 1244), (1125, 11203 - 1125)],
    ("saw", "cifar10"): [(3720, 7443)],
    ("saw", "cifar100"): [(3218, 6486)],
    ("semi", "cifar10"): [(1236, 9922), (3720, 7443)],
    ("semi", "cifar100"): [(5835, 11720)],
}


@pytest.mark.parametrize(("name", "totals"), TOTALS.items())
def test_published_counts(name, totals):
    settings = published.conventions(*name).settings
    assert len(settings) == len(totals)
    for setting, (labeled, others) in zip(settings, totals, strict=True):
        split, notes = cut(*name, **(COUNTS | NOT_CHOSEN | setting))
        assert notes == ()
        known = split.unlabeled_counts.sum() - split.is_labeled.sum()
        assert (len(split.labeled), known) == (labeled, others)


def test_the_same_counts_in_other_words_are_published_too():
    fields = dict(num_max=1000, imbalance_ratio=100, label_fraction=0.2)
    assert cut("tras", "cifar10", **fields)[1] == ()
    explicit = (4000, 2397, 1437, 861, 516, 309, 185, 111, 66, 40)
    fields = dict(num_max=1000, imbalance_ratio=100, unlabeled_counts=explicit)
    assert cut("abc", "cifar10", **fields)[1] == ()
    ratio_1 = dict(COUNTS, unlabeled_imbalance_ratio=1.0)
    assert cut("acr", "cifar10", **ratio_1)[1] == ()


def test_the_released_split_of_svhn_lacks_what_its_class_0_lacks():
    labels = np.concatenate([np.zeros(4948, int), np.repeat(np.arange(1, 10), 5000)])
    unlabeled = (3948, 2397, 1437, 861, 516, 309, 185, 111, 66, 40)
    fields = dict(num_max=1000, imbalance_ratio=100.0, unlabeled_counts=unlabeled)
    assert cut("tras", "svhn_cropped", labels, **fields)[1] == ()
    fields["unlabeled_counts"] = (3947, *unlabeled[1:])
    assert "none that are known to be published" in cut("tras", "svhn", labels, **fields)[1][0]


@pytest.mark.parametrize(
    ("protocol", "changes"),
    [
        ("acr", dict(num_max=501)),
        ("acr", dict(unlabeled_num_max=4001)),
        ("acr", dict(imbalance_ratio=50.0)),
        ("acr", dict(unlabeled_shape="middle")),
        ("acr", dict(unlabeled_imbalance_ratio=150.0)),
        ("boat", dict()),
    ],
)
def test_counts_that_nobody_published_are_said_to_be(protocol, changes):
    note = cut(protocol, "cifar10", **(COUNTS | changes))[1][-1]
    assert f"protocol '{protocol}': these counts are none that are known to be published" in note
    known = "num_max=500 unlabeled_num_max=4000 imbalance_ratio=100;"
    assert (known in note) == (protocol == "acr") and ("none known" in note) == (protocol == "boat")


def test_what_is_not_known_of_a_protocol_is_left_to_the_user_and_said():
    for shuffle in (False, True):
        split, notes = cut("boat", "cifar10", **COUNTS, shuffle=shuffle)
        assert f"whether it shuffles is not known; shuffle={shuffle} is used" in notes[0]
        assert takes_the_first(split, LABELS["cifar10"]) != shuffle
    held = cut("tras", "cifar10", **COUNTS, validation_per_class=100)[0]
    assert len(held.validation) == 1000


@pytest.mark.parametrize(
    ("protocol", "dataset", "fields", "words"),
    [
        ("tras", "cifar10", dict(overlap=True), "overlap is True, but protocol 'tras' has False"),
        (
            "tras",
            "cifar10",
            dict(shuffle=True),
            "shuffle is True, .* False on cifar10; leave it at",
        ),
        ("cossl", "cifar10", dict(shuffle=True), "shuffle is True, but .* has False"),
        ("usb", "cifar10", dict(permute_classes=True), "permute_classes is True"),
        (
            "daso",
            "cifar10",
            dict(validation_per_class=50),
            "validation_per_class is 50, .* has 500",
        ),
        ("acr", "cifar10", dict(unlabeled_shape="uniform_mean"), "means 'uniform_max' by uniform"),
        ("usb", "cifar10", dict(unlabeled_shape="uniform_max"), "means 'uniform_mean' by uniform"),
        ("cpe", "cifar10", dict(unlabeled_imbalance_ratio=1), "means 'uniform_mean' by uniform"),
        ("acr", "stl10", dict(unlabeled_counts=(9,) * 10), "unlabeled_counts is .9, "),
        ("acr", "stl10", dict(unlabeled_shape="reversed"), "unlabeled_shape is 'reversed', but"),
        ("acr", "stl10", dict(), "unlabeled_num_max is 4000, but .* leave unlabeled_num_max at 0"),
        (
            "acr",
            "cifar10",
            NOT_CHOSEN,
            "leaves the counts to you.* published on cifar10: num_max=5",
        ),
        ("arc", "cifar10", dict(), "protocol 'arc' is unknown; did you mean 'acr'"),
        ("", "cifar10", dict(unlabeled_num_max=0), "exactly one"),
        ("tras", "stl10", dict(), "says nothing .* 'stl10', only about cifar10, svhn, cifar100"),
        (
            "given",
            "cifar10",
            dict(NOT_CHOSEN, **NEUTRAL, shuffle=True),
            "shuffle is True, but .*'given' .* leave it at False",
        ),
        ("given", "cifar10", dict(), "num_max is 500, but .*'given'"),
        ("given", "cifar10", NEUTRAL, "unlabeled_num_max is 4000, but .*'given'"),
        (
            "given",
            "cifar10",
            dict(NOT_CHOSEN, **NEUTRAL, validation_per_class=5),
            "source.val_fraction",
        ),
    ],
)
def test_fields_that_a_protocol_does_not_allow(protocol, dataset, fields, words):
    with pytest.raises(InputError, match=words):
        cut(protocol, dataset, **(COUNTS | fields))


@pytest.mark.parametrize("dataset", ["", "mine", "cifar", "cifar1000", "svhn_2"])
def test_a_data_set_that_no_protocol_knows(dataset):
    with pytest.raises(InputError, match=f"the data set '{dataset}', .* set data.source.name to"):
        published.conventions("tras", dataset)


def test_a_field_may_say_what_the_protocol_says():
    fields = dict(COUNTS, overlap=False, shuffle=True, validation_per_class=500, seed=4)
    plain = cut("daso", "cifar10", **COUNTS, seed=4)[0].fingerprint
    assert cut("daso", "cifar10", **fields)[0].fingerprint == plain


@pytest.mark.parametrize("name", ["cifar10", "CIFAR-10", "cifar_10", "cifar10:3.0.2", "CIFAR10"])
def test_names_of_data_sets(name):
    assert published.conventions("acr", name) is published.conventions("acr", "cifar10")


def test_stl10_is_its_own_pool():
    labels = LABELS["stl10"]
    setting = dict(num_max=450, imbalance_ratio=10)
    unknown = np.flatnonzero(labels < 0)
    np.testing.assert_array_equal(cut("acr", "stl10", **setting)[0].unlabeled, unknown)
    appended = cut("cdmad", "stl10", **setting)[0]
    assert set(appended.unlabeled) == {*appended.labeled, *unknown}
    whole = cut("usb", "stl10", num_max=150, imbalance_ratio=10)[0]
    assert set(whole.unlabeled) == set(range(len(labels)))


@pytest.mark.parametrize("protocol", ["cossl", "acr", "ccl", "simpro"])
def test_a_tenth_of_imagenet127_is_labeled(protocol):
    labels = np.repeat(np.arange(4), [1004, 1006, 35, 15])
    fields = dict(num_classes=4, num_max=1000, imbalance_ratio=100.0, dataset="imagenet127")
    split, notes = protocols.cut(images(labels), protocol=protocol, **fields)
    assert split.labeled_counts.tolist() == [100, 101, 4, 2] and notes == ()  # half to even
    assert len(split.unlabeled) == len(labels) - (207 if protocol == "simpro" else 0)


def test_images_for_the_pool_stay_in_the_pool():
    labels, is_pool = LABELS["cifar10"], np.arange(50000) % 100 == 0
    fields = dict(num_classes=10, dataset="cifar10", **COUNTS)
    split, _ = protocols.cut(images(labels, is_pool), protocol="abc", **fields)
    assert not is_pool[split.labeled].any() and is_pool[split.unlabeled].sum() == 500
    tenth, _ = protocols.cut(
        images(labels, is_pool),
        protocol="acr",
        **(fields | dict(dataset="imagenet127") | NOT_CHOSEN),
    )
    expected = np.around(0.1 * np.bincount(labels[~is_pool]))
    np.testing.assert_array_equal(tenth.labeled_counts, expected)


def test_without_a_protocol_the_fields_count_and_with_given_only_overlap():
    train = images(np.where(np.arange(400) < 100, np.arange(400) % 4, -1))
    fields = dict(num_max=10, imbalance_ratio=2.0, unlabeled_shape="all_rest", seed=3)
    split, notes = protocols.cut(train, num_classes=4, dataset="mine", protocol="", **fields)
    expected = splits.long_tailed(train.labels, num_classes=4, **fields)
    assert split.fingerprint == expected.fingerprint and notes == ()
    fields = dict(num_max=1000, imbalance_ratio=100.0, seed=3, overlap=True)
    split, notes = protocols.cut(train, num_classes=4, dataset="mine", protocol="given", **fields)
    assert len(split.labeled) == 100 and len(split.unlabeled) == 400 and notes == ()
