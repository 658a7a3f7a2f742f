"""Every registered component passes its kind's conformance check, whichever plugin it comes from.

A component is built from SMALL below, or from its config's defaults; one whose weights or data are not here is skipped.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from ctgen.atomic import write_text
from ctgen.config import ComponentConfig
from ctgen.errors import ConfigError, DataError, MissingFileError
from ctgen.evaluate.driver import FLOOR
from ctgen.host import Host
from ctgen.interfaces import LatentSpec, PairEncoder, TextSpec
from ctgen.registry import Component
from ctgen.testing import MemorySource, check, phantom
from ctgen.volume.io import write_volume

HOST = Host.discover()
LATENT = LatentSpec(4, (1, 8, 8))
TEXT = TextSpec(16, 12, 16)

SMALL: dict[str, dict[str, Any]] = {
    "autoencoder builtin:tiny-ae": {"channels": 6},
    "autoencoder ctflow:flux-vae": {"weights": "random", "widths": (8, 8), "groups": 4, "layers": 1, "latent_channels": 4},
    "text_encoder builtin:hash-text": {"width": 16, "max_tokens": 24},
    "text_encoder ctflow:ct-clip": {},
    "text_encoder ctflow:ct-clip-pair": {
        "weights": "random",
        "image": {"quantised": False, "grid": 2, "slices": 8, "width": 16, "heads": 2, "head_width": 8, "feed_forward": 24},
    },
    "classifier baseline:label-cnn": {"widths": (8, 16, 16), "residuals": (0, 1, 1), "size": (8, 32, 32)},
    "backbone builtin:tiny-conv": {"width": 8, "layers": 1},
    "backbone ctflow:stdit": {"layers": 2, "width": 16, "heads": 2},
    "backbone baseline:unet3d": {"widths": (8, 16), "strides": ((2, 2, 2),), "heads": 2},
    "generator baseline:vae-roundtrip": {"autoencoder": {"use": "builtin:tiny-ae"}},
    "rollout ctflow:slice-blocks": {"block": 4},
    **{
        f"metric builtin:{name}": {"features": "volume"}
        for name in ("frechet", "frechet-chunks", "clip-score", "label-faithfulness", "text-gap", "memorisation")
    },
    "metric builtin:kid": {"features": "any", "planes": "2.5d"},
    "metric builtin:inception-score": {"features": "any", "splits": 3},
    "metric builtin:diversity": {"features": "any", "slices": 2, "pixels": 24},
    "objective builtin:a-vae": {"crop": 32, "adversarial": 0.1, "adversary_from": 0},
    "objective builtin:volume-labels": {"mask_weight": 1.0, "shift_voxels": (1, 2, 2)},
}
"""Fields by "kind plugin:name"; what is missing here is built from its defaults."""

OPTIONS: dict[str, dict[str, Any]] = {
    "autoencoder ctflow:flux-vae": {"tolerance": 2e-3},
    "backbone builtin:tiny-conv": {"listens_to": ("time", "text", "context", "position", "spacing")},
    "backbone ctflow:stdit": {"listens_to": ("time", "text", "context")},
    # one answer per report or case: the seed chooses nothing
    "generator baseline:mean-volume": {"draws": False},
    "generator baseline:nearest-train": {"draws": False},
    "generator baseline:vae-roundtrip": {"draws": False},
}
"""Options for the check, by the same key."""


def key(component: Component) -> str:
    return f"{component.kind} {component.qualified}"


def fields(component: Component, tmp_path: Path) -> dict[str, Any]:
    """What SMALL says; else random weights and a folder of two scans, where the config asks for such things."""
    if key(component) in SMALL:
        return SMALL[key(component)]
    required = [name for name, field in component.config.model_fields.items() if field.is_required()]
    known: dict[str, Any] = {"weights": "random"}
    if "root" in required:
        # as CT-RATE lays them out: any data set of scans finds them, and the one of that name its table as well
        base = tmp_path / "scans" / "dataset"
        for number in (1, 2):
            name = f"train_{number}/train_{number}_a/train_{number}_a_1.nii.gz"
            write_volume(phantom((60, 40, 40), (3.0, 8.0, 8.0), seed=number), base / "train_fixed" / name)
            series = base.parent / f"scan-{number}.dicom"
            HOST.create("exporter", "builtin:dicom").write(phantom((60, 40, 40), (3.0, 8.0, 8.0), seed=number), series)
        rows = "".join(f"train_{number}_a_1.nii.gz,,,Clear lungs.,\n" for number in (1, 2))
        header = "VolumeName,ClinicalInformation_EN,Technique_EN,Findings_EN,Impressions_EN\n"
        write_text(base / "radiology_text_reports" / "train_reports.csv", header + rows)
        known["root"] = str(tmp_path / "scans")
    missing = sorted(set(required) - set(known))
    if missing:
        pytest.skip(f"its config requires {missing}; add it to SMALL")
    # what ctgen writes is labelled synthetic
    takes = {"synthetic": "take"} if "synthetic" in component.config.model_fields else {}
    return {name: known[name] for name in required} | takes


def small(kind: str) -> Any:
    """A weight-free component to put beside the one under test."""
    names = {
        "autoencoder": ("tiny-ae", {"channels": LATENT.channels}),
        "text_encoder": ("hash-text", {"width": TEXT.width, "max_tokens": TEXT.max_tokens}),
        "backbone": ("tiny-conv", {"width": 8, "layers": 1, "latent": LATENT, "text": TEXT}),
        "schedule": ("linear-flow", {}),
        "rollout": ("whole-volume", {}),
    }
    name, values = names[kind]
    return HOST.create(kind, f"builtin:{name}", **values)


def build(component: Component, values: dict[str, Any]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The component, and what its check takes beside it."""
    if component.kind == "backbone":
        built = HOST.create("backbone", component.qualified, latent=LATENT, text=TEXT, **values)
        return built, (), {"latent": LATENT, "text": TEXT}
    if component.kind == "objective":
        config = HOST.configure("objective", component.qualified, **values)
        sections = component.config.sections  # type: ignore[attr-defined]
        parts = {kind: small(kind) for kind in ("autoencoder", "text_encoder", "backbone") if kind in sections}
        trained = component.config.trains  # type: ignore[attr-defined]
        if trained not in parts or not list(parts[trained].parameters()):
            parts[trained] = trainable(trained, pair=component.qualified == "builtin:contrastive")
        built = HOST.build(
            "objective",
            component.qualified,
            config,
            components=parts,
            schedule=small("schedule") if "schedule" in sections else None,
            rollout=small("rollout") if "rollout" in sections else None,
        )
        return built, (MemorySource(parts.get("autoencoder"), parts.get("text_encoder")),), {}
    return HOST.create(component.kind, component.qualified, **values), (), {}


def trainable(kind: str, *, pair: bool = False) -> Any:
    """A small component of ``kind`` that has parameters, from any plugin; ``pair``: one that embeds volumes too."""
    for component in HOST.registry:
        if component.kind == kind and component.plugin != "builtin" and key(component) in SMALL:
            built = HOST.create(kind, component.qualified, **{**SMALL[key(component)], "weights": "random"})
            if not pair or isinstance(built, PairEncoder):
                return built
    pytest.skip(f"no small {kind} with parameters is registered")


@pytest.mark.parametrize("component", list(HOST.registry), ids=key)
def test_component(component: Component, tmp_path: Path) -> None:
    values = fields(component, tmp_path)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            built, context, options = build(component, values)
    except (MissingFileError, DataError) as error:
        pytest.skip(f"not here: {error.message}")
    if component.kind == "exporter":
        folder = tmp_path / "written"
        folder.mkdir()
        context = (folder,)
    check(component.kind, built, *context, **options, **OPTIONS.get(key(component), {}))


@pytest.mark.parametrize("component", list(HOST.registry), ids=key)
def test_config_of_component(component: Component) -> None:
    """Configs are frozen and typed, know their neutral fields, and say what their kind's sizes are."""
    config = component.config
    assert issubclass(config, ComponentConfig)
    assert config.model_config.get("frozen")
    assert config.model_config.get("extra") == "forbid"
    assert set(config.neutral) <= set(config.model_fields)
    assert component.summary, "give the registration a summary: `ctgen ls` shows it"
    assert inspect.getdoc(config) != inspect.getdoc(ComponentConfig), f"{config.__name__} needs a docstring of its own"
    wanted = {"autoencoder": "latent_spec", "text_encoder": "text_spec", "rollout": "block_length"}.get(component.kind)
    if wanted:
        assert callable(getattr(config, wanted, None)), f"{config.__name__} needs {wanted}()"
    if component.kind == "objective":
        for name in ("trains", "reads", "sections"):
            assert hasattr(config, name), f"{config.__name__} needs the class variable {name}"


def test_no_installed_plugin_is_broken() -> None:
    assert [record.describe() for record in HOST.plugins if record.error] == []


def test_small_names_only_what_is_registered() -> None:
    known = {key(component) for component in HOST.registry}
    assert set(SMALL) - known == set()
    assert set(OPTIONS) - known == set()


def test_unknown_fields_are_refused_everywhere() -> None:
    for component in HOST.registry:
        with pytest.raises(ConfigError, match="no_such_field"):
            HOST.configure(component.kind, component.qualified, no_such_field=1)


@pytest.mark.parametrize("component", [one for one in HOST.registry if one.kind == "metric"], ids=key)
def test_what_a_metric_says_of_the_real_scans_is_no_score_of_a_model(component: Component) -> None:
    metric = component.load()
    for name, direction in metric.higher_is_better.items():
        for suffix in ("_real", "_real_halves", "_reconstructed"):
            if name.endswith(suffix) and name.removesuffix(suffix) in metric.higher_is_better:
                assert direction is None and metric.meanings[name].startswith(FLOOR), name
