"""CT-CLIP spelled out over the published names: slow, unfused, and sharing no line with the implementation that it checks."""

from __future__ import annotations

import math

import torch
from ctgen_ctflow.ct_clip_sizes import CtClipSizes
from torch import Tensor

VISUAL, TEXT = "visual_transformer.", "text_transformer."


def published_shapes(sizes: CtClipSizes) -> dict[str, tuple[int, ...]]:
    """Name and shape of every entry of a CT-CLIP_v2.pt of these sizes, ``position_ids`` included."""
    text, image, latent = sizes.text, sizes.image, sizes.latent
    shapes: dict[str, tuple[int, ...]] = {"temperature": (), f"{TEXT}embeddings.position_ids": (1, text.positions)}

    def linear(name: str, rows: int, columns: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (rows, columns)
        shapes.update({f"{name}.bias": (rows,)} if bias else {})

    def pair(name: str, size: int, words: tuple[str, str] = ("weight", "bias")) -> None:
        shapes.update({f"{name}.{word}": (size,) for word in words})

    for table, rows in (("word", text.vocabulary), ("position", text.positions), ("token_type", 2)):
        shapes[f"{TEXT}embeddings.{table}_embeddings.weight"] = (rows, text.width)
    pair(f"{TEXT}embeddings.LayerNorm", text.width)
    for layer in range(text.layers):
        at = f"{TEXT}encoder.layer.{layer}."
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{at}attention.{name}", text.width, text.width)
        linear(f"{at}intermediate.dense", text.feed_forward, text.width)
        linear(f"{at}output.dense", text.width, text.feed_forward)
        pair(f"{at}attention.output.LayerNorm", text.width)
        pair(f"{at}output.LayerNorm", text.width)
    linear(f"{TEXT}pooler.dense", text.width, text.width)
    width, inner = image.width, image.heads * image.head_width
    for name, rows, columns in (("0.0", width, 2), ("1.0", width, width), ("2", image.heads, width)):
        linear(f"{VISUAL}spatial_rel_pos_bias.net.{name}", rows, columns)
    pixels = image.patch**2
    for name, values in (("_first_frame", pixels), ("", image.patch_slices * pixels)):
        pair(f"{VISUAL}to_patch_emb{name}.1", values)
        linear(f"{VISUAL}to_patch_emb{name}.2", width, values)
        pair(f"{VISUAL}to_patch_emb{name}.3", width)
        linear(f"{VISUAL}to_pixels{name}.0", values, width)
    for kind, layers in (("spatial", image.spatial_layers), ("temporal", image.temporal_layers)):
        for layer in range(layers):
            at = f"{VISUAL}enc_{kind}_transformer.layers.{layer}."
            shapes[f"{at}0.dsconv.weight"], shapes[f"{at}0.dsconv.bias"] = (width, 1, 3, 3, 3), (width,)
            shapes[f"{at}1.null_kv"] = (image.heads, 0, image.head_width)
            shapes[f"{at}1.q_scale"] = shapes[f"{at}1.k_scale"] = (image.head_width,)
            pair(f"{at}1.norm", width, ("gamma", "beta"))
            pair(f"{at}1.context_norm", width, ("gamma", "beta"))
            for name, rows, columns in (("to_q", inner, width), ("to_kv", 2 * inner, width), ("to_out", width, inner)):
                linear(f"{at}1.{name}", rows, columns, bias=False)
            pair(f"{at}3.0", width)
            linear(f"{at}3.1", 2 * image.feed_forward, width, bias=False)
            linear(f"{at}3.4", width, image.feed_forward, bias=False)
        pair(f"{VISUAL}enc_{kind}_transformer.norm_out", width, ("gamma", "beta"))
    for name, shape in (("initted", (1,)), ("cluster_size", (1, image.codes)), ("embed", (1, image.codes, width))):
        shapes[f"{VISUAL}vq._codebook.{name}"] = shape
    for extra in ("", "_extra"):
        shapes[f"to_text_latent{extra}.weight"] = (latent, text.width)
        shapes[f"to_visual_latent{extra}.weight"] = (latent, image.grid**2 * width)
    return shapes


def random_checkpoint(sizes: CtClipSizes, seed: int) -> dict[str, Tensor]:
    """Every tensor random, norms around one."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in published_shapes(sizes).items():
        drawn = torch.randn(shape, generator=generator)
        if name.endswith(("position_ids",)):
            state[name] = torch.arange(shape[1])[None]
        elif len(shape) < 2:
            centre = (
                1.0 if name.endswith(("LayerNorm.weight", "gamma", "_scale", ".1.weight", ".3.weight", "3.0.weight")) else 0.0
            )
            state[name] = centre + 0.2 * drawn
        else:
            state[name] = drawn / math.sqrt(shape[-1]) if "_embeddings" not in name else 0.5 * drawn
    return state


def text_latents(state: dict[str, Tensor], ids: Tensor, mask: Tensor, heads: int) -> Tensor:
    def norm(x: Tensor, name: str) -> Tensor:
        return _norm(x, state[f"{name}.weight"], state[f"{name}.bias"], 1e-12)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    table = f"{TEXT}embeddings."
    x = state[f"{table}word_embeddings.weight"][ids] + state[f"{table}token_type_embeddings.weight"][0]
    x = norm(x + state[f"{table}position_embeddings.weight"][: ids.shape[1]], f"{table}LayerNorm")
    layer = 0
    while (at := f"{TEXT}encoder.layer.{layer}.") + "output.dense.weight" in state:
        parts = [linear(x, f"{at}attention.self.{name}").chunk(heads, dim=-1) for name in ("query", "key", "value")]
        mixed = []
        for query, key, value in zip(*parts, strict=True):
            scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])
            mixed.append(scores.masked_fill(~mask[:, None, :].bool(), -torch.inf).softmax(-1) @ value)
        x = norm(x + linear(torch.cat(mixed, -1), f"{at}attention.output.dense"), f"{at}attention.output.LayerNorm")
        inner = linear(x, f"{at}intermediate.dense")
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        x = norm(x + linear(inner, f"{at}output.dense"), f"{at}output.LayerNorm")
        layer += 1
    latent = x[:, 0] @ state["to_text_latent.weight"].T
    return latent / latent.norm(dim=-1, keepdim=True)


def image_latents(state: dict[str, Tensor], volumes: Tensor, sizes: CtClipSizes) -> Tensor:
    return torch.stack([_image_latent(state, volume[0], sizes) for volume in volumes])


def _image_latent(state: dict[str, Tensor], volume: Tensor, sizes: CtClipSizes) -> Tensor:
    image = sizes.image
    side, deep, grid = image.patch, image.patch_slices, image.grid
    groups = volume.shape[0] // deep
    tokens = torch.zeros(groups, grid, grid, image.width, dtype=volume.dtype)
    at = f"{VISUAL}to_patch_emb."
    for t in range(groups):
        for h in range(grid):
            for w in range(grid):
                cube = volume[t * deep : (t + 1) * deep, h * side : (h + 1) * side, w * side : (w + 1) * side]
                x = _norm(cube.reshape(-1), state[f"{at}1.weight"], state[f"{at}1.bias"])
                x = state[f"{at}2.weight"] @ x + state[f"{at}2.bias"]
                tokens[t, h, w] = _norm(x, state[f"{at}3.weight"], state[f"{at}3.bias"])
    bias = _bias(state, grid)
    x = tokens.reshape(groups, grid * grid, -1)
    x = _transformer(state, x, f"{VISUAL}enc_spatial_transformer.", image.spatial_layers, sizes, groups, bias)
    x = x.reshape(groups, grid * grid, -1).transpose(0, 1)
    x = _transformer(state, x, f"{VISUAL}enc_temporal_transformer.", image.temporal_layers, sizes, groups, None)
    codebook = state[f"{VISUAL}vq._codebook.embed"][0]
    mean = torch.zeros(grid * grid, image.width, dtype=volume.dtype)
    for cell in range(grid * grid):
        for t in range(groups):
            cosine = torch.nn.functional.cosine_similarity(x[cell, t][None], codebook)
            mean[cell] += codebook[cosine.argmax()] / groups
    latent = state["to_visual_latent.weight"] @ mean.reshape(-1)
    return latent / latent.norm()


def _transformer(
    state: dict[str, Tensor], x: Tensor, at: str, layers: int, sizes: CtClipSizes, groups: int, bias: Tensor | None
) -> Tensor:
    heads, grid = sizes.image.heads, sizes.image.grid
    for layer in range(layers):
        name = f"{at}layers.{layer}."
        # Whatever the order of the tokens is, they are read as (T, G, G).
        cells = x.reshape(groups, grid, grid, -1)
        weight, moved = state[f"{name}0.dsconv.weight"], torch.zeros_like(cells)
        for t in range(groups):
            for h in range(grid):
                for w in range(grid):
                    for dt in (-2, -1, 0):
                        for dh in (-1, 0, 1):
                            for dw in (-1, 0, 1):
                                if t + dt >= 0 and 0 <= h + dh < grid and 0 <= w + dw < grid:
                                    tap = weight[:, 0, dt + 2, dh + 1, dw + 1]
                                    moved[t, h, w] += tap * cells[t + dt, h + dh, w + dw]
        x = x + (moved + state[f"{name}0.dsconv.bias"]).reshape(x.shape)
        normed = _norm(x, state[f"{name}1.norm.gamma"], state[f"{name}1.norm.beta"])
        query = (normed @ state[f"{name}1.to_q.weight"].T).chunk(heads, dim=-1)
        key_value = (x @ state[f"{name}1.to_kv.weight"].T).chunk(2 * heads, dim=-1)
        mixed = []
        for head in range(heads):
            q, k, v = query[head], key_value[head], key_value[heads + head]
            q = q / q.norm(dim=-1, keepdim=True) * state[f"{name}1.q_scale"]
            k = k / k.norm(dim=-1, keepdim=True) * state[f"{name}1.k_scale"]
            scores = 8 * (q @ k.transpose(1, 2))
            mixed.append((scores if bias is None else scores + bias[head]).softmax(-1) @ v)
        x = x + torch.cat(mixed, -1) @ state[f"{name}1.to_out.weight"].T
        wide = _norm(x, state[f"{name}3.0.weight"], state[f"{name}3.0.bias"]) @ state[f"{name}3.1.weight"].T
        first, gate = wide.chunk(2, dim=-1)
        gate = gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
        x = x + (gate * first) @ state[f"{name}3.4.weight"].T
    return _norm(x, state[f"{at}norm_out.gamma"], state[f"{at}norm_out.beta"])


def _bias(state: dict[str, Tensor], grid: int) -> Tensor:
    """(heads, G G, G G), one pair of patches after the other."""
    at, count = f"{VISUAL}spatial_rel_pos_bias.net.", grid * grid
    rows = []
    for first in range(count):
        for second in range(count):
            apart = (first // grid - second // grid, first % grid - second % grid)
            x = torch.tensor([math.copysign(math.log(1 + abs(step)), step) for step in apart])
            for layer in ("0.0", "1.0"):
                x = state[f"{at}{layer}.weight"] @ x + state[f"{at}{layer}.bias"]
                x = torch.where(x > 0, x, 0.1 * x)
            rows.append(state[f"{at}2.weight"] @ x + state[f"{at}2.bias"])
    return torch.stack(rows, dim=1).reshape(-1, count, count)


def _norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float = 1e-5) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + epsilon) * weight + bias
