"""Features are computed once, kept in files, and asked for by key."""

from __future__ import annotations

import numpy as np
import pytest

from ctgen.errors import DataError
from ctgen.evaluate.bank import FeatureStore, volume_hash
from ctgen.interfaces import Report

from .toys import Reader, Toy, noise


@pytest.mark.parametrize("on_disk", [True, False])
def test_each_result_is_computed_once(tmp_path, on_disk):
    toy = Toy()
    store = FeatureStore({"toy": toy}, tmp_path if on_disk else None)
    first = store.bank({"real": noise(1), "generated": None})
    assert first.has("real") and not first.has("generated")
    np.testing.assert_array_equal(first.volume("toy", "real"), Toy().features(noise(1)))
    again = store.bank({"generated": noise(1)})
    np.testing.assert_array_equal(again.stored("toy", "generated").read(), first.volume("toy", "real"))
    assert toy.calls == 1, "the same voxels are the same features, whatever they are called"
    again.volume("toy", "generated", "xz")
    assert toy.calls == 2


def test_files_outlive_the_process_and_belong_to_the_extractor(tmp_path):
    FeatureStore({"a": Toy()}, tmp_path).bank({"real": noise(1)}).volume("a", "real")
    same, other = Toy(), Toy(name="other")
    FeatureStore({"b": same}, tmp_path).bank({"real": noise(1)}).volume("b", "real")
    FeatureStore({"a": other}, tmp_path).bank({"real": noise(1)}).volume("a", "real")
    assert (same.calls, other.calls) == (0, 1)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_a_volume_feature_is_the_same_for_every_plane(tmp_path):
    toy = Toy("volume")
    bank = FeatureStore({"toy": toy}, tmp_path).bank({"real": noise(1)})
    assert bank.volume("toy", "real", "xy").shape == bank.volume("toy", "real", "yz").shape == (1, 5)
    assert toy.calls == 1


def test_texts_and_labels(tmp_path):
    for folder in (tmp_path, None):
        bank = FeatureStore({"reader": Reader(), "toy": Toy()}, folder).bank({"real": noise(1, 4, 24)})
        assert bank.text("reader", Report("nodule")).shape == (5,)
        assert bank.labels("reader", "real") == bank.labels("reader", "real")
        assert bank.can("reader", "text") and bank.can("reader", "labels") and not bank.can("toy", "logits")
        for ask in (lambda bank=bank: bank.text("toy", Report("")), lambda bank=bank: bank.labels("toy", "real")):
            with pytest.raises(DataError, match="'toy' cannot"):
                ask()
        with pytest.raises(DataError, match="no generated volume"):
            bank.volume("toy", "generated")
        with pytest.raises(DataError) as caught:
            bank.volume("readr", "real")
        assert "reader" in caught.value.hint


def test_hash_is_of_voxels_type_and_place():
    volume = noise(1)
    assert volume_hash(volume) == volume_hash(noise(1)) != volume_hash(noise(2))
    moved = noise(1)
    moved.affine[0, 3] = 5.0
    assert volume_hash(moved) != volume_hash(volume)
