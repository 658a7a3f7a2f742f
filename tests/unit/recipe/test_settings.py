"""Settings sections."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from ctgen.recipe.settings import SETTINGS, PrepareSettings, SampleSettings, TrainSettings


def test_defaults_are_right_values_themselves():
    for model in SETTINGS.values():
        defaults = model()
        assert model.model_validate(defaults.model_dump()) == defaults
        assert model.neutral <= set(model.model_fields)


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        (PrepareSettings, "size", (0, 8, 8)),
        (PrepareSettings, "spacing_mm", (1.0, -1.0, 1.0)),
        (PrepareSettings, "min_depth_mm", float("nan")),
        (TrainSettings, "lr", float("inf")),
        (TrainSettings, "seed", -1),
        (TrainSettings, "ema_decay", 1.0),
        (SampleSettings, "length", "cases"),
        (SampleSettings, "head_blocks", -1),
    ],
)
def test_values_out_of_range_are_refused(model, field, value):
    with pytest.raises(ValidationError):
        model(**{field: value})


def test_a_checkpoint_to_start_from_is_kept_as_an_absolute_path():
    assert TrainSettings(init="none").init == "none"
    assert TrainSettings(init="some/run").init == str(Path("some/run").absolute())


def test_identity_has_everything_that_can_change_a_result():
    identity = TrainSettings().identity()
    assert set(TrainSettings.model_fields) - set(identity) == {"checkpoint_every", "keep_checkpoints", "log_every", "workers"}
