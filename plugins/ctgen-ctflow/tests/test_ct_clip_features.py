"""CT-CLIP as a feature extractor, on the tiny published-layout checkpoint of the parity fixture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ctgen_ctflow.ct_clip_features import CtClipImage
from ctgen_ctflow.ct_clip_features_config import CtClipImageConfig

from ctgen.errors import ConfigError
from ctgen.host import Host
from ctgen.interfaces import HasLabels, HasText, Report
from ctgen.testing import check_feature_extractor, phantom


@pytest.fixture(scope="module")
def extractor(shared_folder: Path) -> CtClipImage:
    folder = shared_folder / "fixtures" / "ct-clip"
    if not folder.is_dir():
        pytest.skip(f"no fixture at {folder}")
    config = CtClipImageConfig(weights=str(folder / "CT-CLIP_tiny.pt"), vocabulary=str(folder / "tokenizer"), text_heads=4)
    return CtClipImage(config)


def test_it_is_a_feature_extractor_that_reads_and_finds_labels(extractor: CtClipImage) -> None:
    assert isinstance(extractor, HasText) and isinstance(extractor, HasLabels)
    volumes = [phantom((24, 40, 40), (3.0, 6.0, 6.0), seed=seed) for seed in (1, 2)]
    # the tiny network is random: two phantoms may fall on the same codes, so one is turned
    volumes[1].hu[:] = volumes[1].hu[::-1, ::-1].copy() * 0 + 40
    check_feature_extractor(extractor, volumes=volumes)
    assert np.linalg.norm(extractor.features(volumes[0])) == pytest.approx(1.0, abs=1e-5)
    assert np.linalg.norm(extractor.text([Report("Nodule.")])) == pytest.approx(1.0, abs=1e-5)


def test_labels_are_those_of_zero_shot(extractor: CtClipImage) -> None:
    volume = phantom((24, 40, 40), (3.0, 6.0, 6.0), seed=3)
    wanted = extractor.model.zero_shot(extractor.model.prepare(volume)[None])[0]
    assert list(extractor.labels(volume).values()) == pytest.approx(wanted.tolist(), abs=1e-5)


def test_describe_names_files_without_folders(extractor: CtClipImage) -> None:
    described = extractor.describe()
    assert described["weights"]["source"] == "CT-CLIP_tiny.pt" and described["preprocessing"]["vocabulary"] == "tokenizer"


def test_random_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="measure nothing"):
        Host.discover().configure("feature_extractor", "ct-clip-image", weights="random")
