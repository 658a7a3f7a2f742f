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
from safetensors.torch import save_file
from torch import Tensor

from ctgen.atomic import read_json, write_atomically, write_json
from ctgen.errors import CheckpointError
from ctgen_ctflow.stdit_layers import axis_positions, plane_positions

if TYPE_CHECKING:
    from ctgen_ctflow.stdit import Stdit

HOW_TO_GET = (
    "the published folder is hf:EnyaWoooo/CTFlow/checkpoint-680000/denoiser_ema: write that, or download it and give its path"
)
RELEASED_FILE = "diffusion_pytorch_model.safetensors"
PREFIX = "model."
POSITIONS = ("pos_embed", "pos_embed_temporal")
LISTED = 12


def load(model: Stdit, path: Path) -> None:
    """Copy the weights at ``path`` (folder or file) into ``model``; CheckpointError lists every difference."""
    file = _weights_file(path)
    try:
        with safe_open(file, framework="pt") as reader:
            metadata = dict(reader.metadata() or {})
            tensors = {key: reader.get_tensor(key) for key in reader.keys()}  # noqa: SIM118 - not a dict
    except Exception as error:
        raise CheckpointError(f"stdit: {file} is not a readable safetensors file: {error}") from error
    if any(key.startswith(PREFIX) for key in tensors):
        described = _released_description(file)
        tensors = {key.removeprefix(PREFIX): value for key, value in tensors.items()}
    else:
        described = json.loads(metadata.get("stdit", "{}"))
    _compare_description(model, described, file)
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
    return {"format": "pt", "stdit": json.dumps(_description(model), sort_keys=True)}


def write_released(model: Stdit, folder: Path, cells: tuple[int, int, int]) -> Path:
    """The published layout for a block of ``cells`` (d, h, w); one extra key, attention_transpose, tells the head layout."""
    config = model.config
    groups, height, width = (size // step for size, step in zip(cells, config.patch, strict=True))
    cpu = torch.device("cpu")
    tensors = {PREFIX + key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    tensors[PREFIX + POSITIONS[0]] = plane_positions(height, width, config.width, cpu).float()[None]
    tensors[PREFIX + POSITIONS[1]] = axis_positions(groups, config.width, cpu).float()[None]
    write_atomically(folder / RELEASED_FILE, lambda temporary: save_file(tensors, temporary, {"format": "pt"}))
    settings = {
        "_class_name": "DiffuserSTDiT",
        "attention_transpose": config.attention_transpose,
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


def _weights_file(path: Path) -> Path:
    if path.is_file():
        return path
    names = (RELEASED_FILE, "ema.safetensors", "model.safetensors")
    for name in names:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"stdit: {path} holds none of {', '.join(names)}", hint=HOW_TO_GET)


def _released_description(file: Path) -> dict[str, Any]:
    """Fields of our config, from the config.json beside a released file; what it says of EMA is ignored."""
    path = file.with_name("config.json")
    if not path.is_file():
        raise CheckpointError(
            f"stdit: {file} is in the released layout, but {path} is missing: the number of heads is written nowhere else",
            hint="put the config.json of the checkpoint beside it",
        )
    settings = read_json(path)
    names = {"depth": "layers", "hidden_size": "width", "num_heads": "heads", "patch_size": "patch", "mlp_ratio": "mlp_ratio"}
    described = {ours: settings[theirs] for theirs, ours in names.items() if theirs in settings}
    described |= {"channels": settings.get("out_channels"), "text_width": settings.get("caption_channels")}
    # Files written before ctgen do not say: their model never swapped the heads back.
    described |= {"attention_transpose": settings.get("attention_transpose", "released"), "time_factor": 1.0}
    return described


def _description(model: Stdit) -> dict[str, Any]:
    fields = ("layers", "width", "heads", "patch", "mlp_ratio", "attention_transpose", "text", "position_input", "time_factor")
    config = model.config.identity()
    return {field: config[field] for field in fields} | {"channels": model.channels, "text_width": model.text_width}


def _compare_description(model: Stdit, described: Mapping[str, Any], file: Path) -> None:
    ours = _description(model)
    different = {key: value for key, value in described.items() if value is not None and value != ours[key]}
    if not different:
        return
    lines = [f"{key}: checkpoint {value!r}, config {ours[key]!r}" for key, value in sorted(different.items())]
    fields = {key: value for key, value in sorted(different.items()) if key not in ("channels", "text_width")}
    hint = " ".join(f"backbone.{key}={json.dumps(value)}" for key, value in fields.items())
    if different.get("attention_transpose") == "released":
        lines.append("this checkpoint was trained without the head transpose; read with it, its output is wrong")
    raise CheckpointError(f"stdit: {file} was made with another config:\n  " + "\n  ".join(lines), hint=hint and f"try: {hint}")


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
