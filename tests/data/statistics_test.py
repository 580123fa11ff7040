import dataclasses

import numpy as np

from ltssl_jax.data import statistics
from ltssl_jax.data.sources.base import in_memory

IMAGES = np.random.default_rng(2).integers(0, 256, (60, 2, 4, 3), np.uint8)
RECORDS = in_memory(IMAGES, np.zeros(60))


def test_they_are_those_of_numpy(monkeypatch):
    monkeypatch.setattr(statistics, "_CHUNK", 7)
    positions = np.arange(5, 45)
    mean, std = statistics.of_channels(RECORDS, positions)
    pixels = IMAGES[positions] / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 1, 2)), rtol=1e-12)
    limited = statistics.of_channels(RECORDS, positions, limit=10)
    assert limited == statistics.of_channels(RECORDS, positions[::4])


def test_a_constant_channel_can_be_divided_by():
    images = np.full((3, 2, 2, 1), 51, np.uint8)
    mean, std = statistics.of_channels(in_memory(images, np.zeros(3)), np.arange(3))
    np.testing.assert_allclose((*mean, *std), (0.2, 1 / 255))


def test_those_of_files_are_kept_until_files_or_positions_change(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    reads = []

    def read(positions):
        reads.append(len(positions))
        return IMAGES[positions]

    records = dataclasses.replace(RECORDS, read=read, digest="files as of today")
    first = statistics.of_channels(records, np.arange(20))
    assert statistics.of_channels(records, np.arange(20)) == first and reads == [20]
    assert statistics.of_channels(records, np.arange(20, 40)) != first
    changed = dataclasses.replace(records, digest="files as of tomorrow")
    statistics.of_channels(changed, np.arange(20))
    assert reads == [20, 20, 20]


def test_a_cache_that_cannot_be_read_or_written_costs_time_only(tmp_path, monkeypatch):
    (tmp_path / "ltssl_jax").write_text("a file where a directory should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    records = dataclasses.replace(RECORDS, digest="files")
    expected = statistics.of_channels(RECORDS, np.arange(9))
    assert statistics.of_channels(records, np.arange(9)) == expected
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    statistics.of_channels(records, np.arange(9))
    (kept,) = (tmp_path / "other").rglob("*.json")
    kept.write_text("{")
    assert statistics.of_channels(records, np.arange(9)) == expected
