"""STDiT weights in and out: CTFlow's released folder (diffusers layout, keys prefixed ``model.``) and our own safetensors.

What a checkpoint says of itself is compared with the config before any tensor is copied; all differences are listed at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor

from ctgen.atomic import write_atomically, write_json
from ctgen.errors import CheckpointError, ConfigError
from ctgen.safetensors_file import save_file
from ctgen.weights import note
from ctgen_ctflow.stdit_description import FIELDS, OWN, POSITIONS, PREFIX, RELEASED_FILE, Description, describe, weights_file
from ctgen_ctflow.stdit_layers import axis_positions, plane_positions

if TYPE_CHECKING:
    from ctgen_ctflow.stdit import Stdit

PUBLISHED: Mapping[str, Any] = {
    **{"text": "pooled", "position_input": False, "context_level_input": False, "temporal_norm": False},
    **{"text_whitening": False, "text_modulation": False},
    **{"time_factor": 1.0, "skip": "none", "target": "velocity", "detail": 0},
}
"""What the released layout takes for granted."""
RELEASED_HEADS = "computed without the head transpose, as the weights were trained"
LISTED = 12


def load(model: Stdit, path: Path) -> None:
    """Copy the weights at ``path`` (folder or file) into ``model``; CheckpointError lists every difference."""
    file = weights_file(path)
    try:
        with safe_open(file, framework="pt") as reader:
            metadata = dict(reader.metadata() or {})
            tensors = {key: reader.get_tensor(key) for key in reader.keys()}  # noqa: SIM118 - not a dict
    except Exception as error:
        raise CheckpointError(f"stdit: {file} is not a readable safetensors file: {error}") from error
    description = describe(file, metadata, tensors)
    tensors = {key.removeprefix(PREFIX): value for key, value in tensors.items()}
    heed(model, description, str(file))
    found = _without_positions(tensors, model.config.width, file)
    problems = list(_tensor_differences(model.state_dict(), found))
    if problems:
        shown = "\n  ".join(problems[:LISTED] + ([f"... and {len(problems) - LISTED} more"] if len(problems) > LISTED else []))
        raise CheckpointError(f"stdit: {file} does not fit this config:\n  {shown}")
    model.load_state_dict(found)


def save(model: Stdit, path: Path) -> Path:
    """Our own layout: one safetensors file that states its config."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    return write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata_of(model)))


def metadata_of(model: Stdit) -> dict[str, str]:
    """What a file in our own layout says of its config."""
    return {"format": "pt", OWN: json.dumps(_fields(model), sort_keys=True)}


def save_released_layout(model: Stdit, folder: Path, cells: tuple[int, int, int]) -> Path:
    """The published layout for a block of ``cells`` (d, h, w); one extra key, attention_transpose, tells the head layout.

    ConfigError names what the published network does not have.
    """
    config = model.config
    extra = [f"{name}: {getattr(config, name)}" for name, plain in PUBLISHED.items() if getattr(config, name) != plain]
    if extra:
        raise ConfigError(f"stdit: CTFlow's network has no {', no '.join(extra)}; its layout cannot hold these weights")
    groups, height, width = (size // step for size, step in zip(cells, config.patch, strict=True))
    cpu = torch.device("cpu")
    tensors = {PREFIX + key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    tensors[PREFIX + POSITIONS[0]] = plane_positions(height, width, config.width, cpu).float()[None]
    tensors[PREFIX + POSITIONS[1]] = axis_positions(groups, config.width, cpu).float()[None]
    write_atomically(folder / RELEASED_FILE, lambda temporary: save_file(tensors, temporary, {"format": "pt"}))
    settings = {
        "_class_name": "DiffuserSTDiT",
        "attention_transpose": model.heads_layout,
        "caption_channels": model.text_width,
        "class_dropout_prob": 0.0,
        "depth": config.layers,
        "drop_path": 0.0,
        "enable_flashattn": False,
        "hidden_size": config.width,
        "in_channels": 2 * model.channels,
        "input_size": list(cells),
        "mlp_ratio": config.mlp_ratio,
        "model_max_length": 1,
        "no_temporal_pos_emb": False,
        "num_heads": config.heads,
        "out_channels": model.channels,
        "patch_size": list(config.patch),
        "space_scale": 1.0,
        "time_scale": 1.0,
    }
    write_json(folder / "config.json", settings)
    return folder


def _fields(model: Stdit) -> dict[str, Any]:
    config = model.config.identity() | {"attention_transpose": model.heads_layout}
    if config["skip"] == "none":
        config["latent_std"] = None  # without influence
    return {field: config[field] for field in FIELDS} | {"channels": model.channels, "text_width": model.text_width}


def heed(model: Stdit, described: Description, where: str) -> None:
    """Set what "auto" leaves to the weights, and compare the rest; CheckpointError lists all differences at once."""
    layout = described.fields.get("attention_transpose")
    if model.config.attention_transpose == "auto" and layout in ("correct", "released"):
        model.adopt_heads(layout)
        if layout == "released":
            note(f"stdit: {where}: {RELEASED_HEADS} ({described.reason})")
    ours = _fields(model)
    different = {
        key: value for key, value in described.fields.items() if value is not None and key in ours and value != ours[key]
    }
    if not different:
        return
    lines = [f"{key}: checkpoint {value!r}, config {ours[key]!r}" for key, value in sorted(different.items())]
    if "attention_transpose" in different:
        trained = "without" if layout == "released" else "with"
        lines.append(
            f"this checkpoint was trained {trained} the head transpose ({described.reason}); "
            "computed otherwise, its output is wrong"
        )
    told = {key: value for key, value in sorted(different.items()) if key not in ("channels", "text_width")}
    hint = " ".join(f"backbone.{key}={json.dumps(value)}" for key, value in told.items())
    raise CheckpointError(
        f"stdit: {where} was made with another config:\n  " + "\n  ".join(lines), hint=hint and f"try: {hint}"
    )


def _without_positions(tensors: Mapping[str, Tensor], width: int, file: Path) -> dict[str, Tensor]:
    """Positions are recomputed; those in the file must agree with the formula as far as they go."""
    cpu = torch.device("cpu")
    plane, axis = (tensors.get(name) for name in POSITIONS)
    if axis is not None and not _near(axis[0], axis_positions(axis.shape[1], width, cpu)):
        raise CheckpointError(f"stdit: {file}: {POSITIONS[1]} is not the sine-cosine table (time_scale other than 1?)")
    if plane is not None and not any(
        _near(plane[0], plane_positions(rows, plane.shape[1] // rows, width, cpu))
        for rows in range(1, plane.shape[1] + 1)
        if plane.shape[1] % rows == 0
    ):
        raise CheckpointError(f"stdit: {file}: {POSITIONS[0]} is not the sine-cosine table (space_scale other than 1?)")
    return {key: value for key, value in tensors.items() if key not in POSITIONS}


def _near(table: Tensor, expected: Tensor) -> bool:
    return table.shape == expected.shape and torch.allclose(table.double(), expected, atol=1e-4)


def _tensor_differences(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Iterator[str]:
    for key in sorted(wanted.keys() | found.keys()):
        if key not in found:
            yield f"{key}: not in the file"
        elif key not in wanted:
            yield f"{key}: in the file, not in the model"
        elif wanted[key].shape != found[key].shape:
            yield f"{key}: file {_shape(found[key].shape)}, model {_shape(wanted[key].shape)}"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
