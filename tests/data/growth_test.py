"""Rules that turn a network's answers into labels, and what labels make of source and split."""

import pathlib

import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.data import growth, splits
from ltssl_jax.data.growth import Candidates, Grown
from ltssl_jax.data.sources import Records, Source

GOLDEN = dict(np.load(pathlib.Path(__file__).parents[1] / "golden" / "crest_selection.npz"))
CASES = [i for i in range(int(GOLDEN["num_cases"])) if not GOLDEN[f"case{i}/all"]]
LABELS = np.random.default_rng(3).permutation(np.repeat(np.arange(4), 30)).astype(np.int32)


def candidates(probs, counts, is_free=None):
    probs, counts = np.asarray(probs, np.float32), np.asarray(counts)
    nothing = np.zeros((0, 2), np.float32)
    free = np.ones(len(probs), bool) if is_free is None else is_free
    return Candidates(probs, nothing, nothing, np.zeros(0, np.int32), counts, free)


def golden_candidates(i, is_free=None):
    probs = GOLDEN[f"predictions{GOLDEN[f'case{i}/predictions']}"]
    return candidates(probs, GOLDEN["labeled_counts"], is_free)


def settings(i):
    return dict(
        alpha=float(GOLDEN[f"case{i}/alpha"]), imbalance_ratio=float(GOLDEN[f"case{i}/gamma"])
    )


# --- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("i", CASES)
def test_by_rarity_takes_what_the_authors_take(i):
    """google-research/crest at e270139, on classes in no order, one of them never predicted."""
    grown = growth.grown("by_rarity", golden_candidates(i), **settings(i))
    np.testing.assert_array_equal(grown.rows, GOLDEN[f"case{i}/positions"])
    np.testing.assert_array_equal(grown.labels, GOLDEN[f"case{i}/labels"])
    assert (grown.rows.dtype, grown.labels.dtype) == (np.int64, np.int32)


@pytest.mark.parametrize("ratio", [50, 100, 200])
def test_the_geometric_prior_is_the_authors(ratio):
    prior = GOLDEN[f"prior10/gamma{ratio}"]
    probs = np.repeat(np.eye(10), 1000, axis=0)
    grown = growth.by_rarity(candidates(probs, np.arange(10, 0, -1)), imbalance_ratio=ratio)
    share = (prior[::-1] / prior[0]) ** (1 / 3)
    np.testing.assert_allclose(np.bincount(grown.labels), 1000 * share, atol=1)


def test_everything_is_labeled_by_its_most_probable_class():
    is_free = np.arange(240) % 3 != 0
    grown = growth.grown("everything", golden_candidates(0, is_free))
    rows = np.flatnonzero(is_free)
    np.testing.assert_array_equal(grown.rows, rows)
    np.testing.assert_array_equal(grown.labels, GOLDEN["predictions0"][rows].argmax(1))


def test_rare_classes_are_taken_whole_and_the_surest_first():
    counts = np.array([50, 2, 10])
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(3), 300)
    grown = growth.by_rarity(candidates(probs, counts), alpha=3.0)
    called, taken = np.bincount(probs.argmax(1)), np.bincount(grown.labels)
    assert taken[1] == called[1]
    assert 1 > taken[2] / called[2] > taken[0] / called[0] > 0
    for k in range(3):
        confidence, is_taken = probs[:, k], np.isin(np.arange(300), grown.rows)
        of_class = probs.argmax(1) == k
        others = confidence[of_class & ~is_taken]
        assert confidence[of_class & is_taken].min() >= max(others, default=0)


def test_labeled_images_are_not_taken_and_count_for_no_share():
    is_free = np.arange(240) % 2 == 0
    grown = growth.by_rarity(golden_candidates(0, is_free))
    assert np.all(is_free[grown.rows])
    alone = golden_candidates(0)
    alone = alone._replace(probs=alone.probs[is_free], is_free=np.ones(120, bool))
    np.testing.assert_array_equal(growth.by_rarity(alone).rows, grown.rows // 2)


def test_classes_of_equal_counts_are_treated_alike():
    """Ranks would be drawn from the numbers of the classes."""
    probs = np.repeat(np.eye(4), 100, axis=0)
    for counts in ([10, 10, 1, 1], [1, 10, 10, 1], [0, 10, 10, 1]):
        grown = growth.by_rarity(candidates(probs, counts), alpha=1.0)
        expected = {0: 100, 1: 100, 10: 10}
        assert np.bincount(grown.labels).tolist() == [expected[n] for n in counts]
    three = growth.by_rarity(candidates(probs, [8, 8, 8, 2]), alpha=1.0)
    # Shares of ranks 0, 1, 2: 1/4, 1, 1; their mean is 3/4.
    assert np.bincount(three.labels).tolist() == [75, 75, 75, 100]


@pytest.mark.parametrize("field, value", [("alpha", 0.0), ("imbalance_ratio", 0.5)])
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(InputError, match=f"growth.{field} is {value}"):
        growth.grown("by_rarity", golden_candidates(0), **{field: value})


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(InputError, match="'by_rarity'.*did you mean 'alpha'"):
        growth.grown("by_rarity", golden_candidates(0), alhpa=3.0)


# --- what labels make of source and split ---------------------------------------------------------


def grown(rows, labels):
    return Grown(np.array(rows, np.int64), np.array(labels, np.int32))


def test_a_row_keeps_its_first_label():
    both = growth.united(grown([2, 9], [0, 1]), grown([1, 2, 20], [3, 3, 2]))
    assert both.rows.tolist() == [1, 2, 9, 20] and both.labels.tolist() == [3, 0, 1, 2]
    assert growth.united(Grown.nothing(), both).rows.tolist() == both.rows.tolist()
    assert growth.united(both, Grown.nothing()).labels.tolist() == both.labels.tolist()


def cut(**changes):
    records = Records(LABELS.copy(), lambda positions: None, (2, 2, 1))
    source = Source("toy", records, records, tuple("abcd"))
    how = dict(num_max=8, imbalance_ratio=4.0, unlabeled_num_max=16, shuffle=True) | changes
    return source, splits.long_tailed(LABELS, num_classes=4, **how)


@pytest.mark.parametrize("overlap", [False, True])
def test_pseudo_labels_join_the_labeled_set_and_the_split_is_not_drawn_again(overlap):
    source, split = cut(overlap=overlap)
    free = np.flatnonzero(~split.is_labeled)
    new = grown(free[[1, 4, 7]], [3, 0, 3])
    after_source, after = growth.applied(source, split, new)

    num_labeled, positions = len(split.labeled), split.unlabeled[new.rows]
    np.testing.assert_array_equal(after.labeled[:num_labeled], split.labeled)
    np.testing.assert_array_equal(after.labeled[num_labeled:], positions)
    for name in ("unlabeled", "validation", "unlabeled_counts"):
        np.testing.assert_array_equal(getattr(after, name), getattr(split, name))
    np.testing.assert_array_equal(after.labeled_counts, split.labeled_counts + [1, 0, 0, 2])
    assert np.flatnonzero(after.is_labeled != split.is_labeled).tolist() == new.rows.tolist()

    labels = LABELS.copy()
    labels[positions] = new.labels
    np.testing.assert_array_equal(after_source.train.labels, labels)
    np.testing.assert_array_equal(source.train.labels, LABELS)  # not written into
    np.testing.assert_array_equal(after_source.test.labels, LABELS)


def test_the_fingerprint_knows_rows_and_labels():
    source, split = cut()
    made = [grown([1, 4], [3, 0]), grown([1, 4], [3, 1]), grown([1, 5], [3, 0]), Grown.nothing()]
    prints = [growth.applied(source, split, labels)[1].fingerprint for labels in made]
    again = growth.applied(source, split, made[0])[1].fingerprint
    assert len(set(prints)) == len(prints) and again == prints[0]
