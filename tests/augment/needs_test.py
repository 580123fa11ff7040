"""Every kind and number of views that a method may need, of every stream."""

import jax
import numpy as np

from ltssl_jax.augment import views
from ltssl_jax.core import Needs, RawBatch, Resident, Stream

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), np.uint8)


def stream(slots=range(6), images=IMAGES):
    slots = np.asarray(slots, np.int32)
    return Stream(index=slots, slot=slots, label=slots % 3, image=images)


def made(needs, raw, resident=None):
    recipe = views.make("digits", needs=needs, mean=(0.5,), std=(0.25,))
    return jax.jit(recipe)(raw, resident or Resident(), jax.random.key(0), 5)


def test_there_are_as_many_of_each_kind_as_are_needed_and_all_differ():
    needs = Needs(strong=2, weak=3, labeled_strong=1, contrastive=2, balanced=True)
    batch = made(needs, RawBatch(stream(), stream(), stream()))
    unlabeled = batch.unlabeled
    assert len(unlabeled.strong) == len(unlabeled.more_weak) == len(unlabeled.contrastive) == 2
    everything = [unlabeled.weak, *unlabeled.more_weak, *unlabeled.strong, *unlabeled.contrastive]
    for labeled in (batch.labeled, batch.balanced):
        assert (len(labeled.strong), len(labeled.contrastive)) == (1, 2)
        everything += [labeled.image, *labeled.strong, *labeled.contrastive]
    for i, one in enumerate(everything):
        assert one.shape == IMAGES.shape
        assert not any(np.array_equal(one, other) for other in everything[i + 1 :])


def test_what_nobody_needs_is_not_there():
    batch = made(Needs(strong=0), RawBatch(stream(), stream()))
    assert batch.balanced is None
    assert batch.unlabeled.strong == batch.unlabeled.more_weak == ()
    assert batch.labeled.strong == batch.labeled.contrastive == batch.unlabeled.contrastive == ()


def test_a_view_does_not_depend_on_which_others_there_are():
    raw = RawBatch(stream(), stream())
    few, many = made(Needs(strong=1), raw), made(Needs(strong=2, weak=2, labeled_strong=1), raw)
    np.testing.assert_array_equal(few.unlabeled.weak, many.unlabeled.weak)
    np.testing.assert_array_equal(few.labeled.image, many.labeled.image)


def test_balanced_images_are_those_of_the_labeled_set():
    resident = Resident(labeled=IMAGES, unlabeled=IMAGES[::-1].copy())
    sent = RawBatch(*(stream(images=IMAGES[[2, 0, 1, 5, 4, 3]]) for _ in range(3)))
    picked = np.array([2, 0, 1, 5, 4, 3], np.int32)
    looked_up = stream().replace(index=picked, image=None)
    raw = sent.replace(balanced=looked_up)
    one, other = made(Needs(balanced=True), sent), made(Needs(balanced=True), raw, resident)
    np.testing.assert_array_equal(one.balanced.image, other.balanced.image)
