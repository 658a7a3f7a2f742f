from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from ctflow_fixtures import LATENT, TEXT, awake, condition, draw, tensors, tiny_stdit
from ctgen_ctflow.configs import SIZES, StditConfig
from ctgen_ctflow.stdit import Stdit
from ctgen_ctflow.stdit_layers import Block, attend, axis_positions, plane_positions
from pydantic import ValidationError

from ctgen.errors import ConfigError
from ctgen.interfaces import Condition, LatentSpec, Sizes, TextFeatures, TextSpec, TokenBackbone


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def fixture_folder(shared_folder: Path) -> Path:
    return shared_folder / "fixtures" / "ctflow-stdit"


@pytest.fixture(scope="module")
def released(fixture_folder: Path) -> Stdit:
    config = StditConfig(
        layers=3, width=64, heads=4, attention_transpose="released", weights=str(fixture_folder / "denoiser_ema")
    )
    return Stdit(config, latent=LATENT, text=TEXT).eval()


def of_text(text_B1E: torch.Tensor, context: torch.Tensor) -> Condition:
    return Condition(TextFeatures(text_B1E, torch.ones(text_B1E.shape[:2], dtype=torch.bool), text_B1E[:, 0]), context=context)


@torch.no_grad()
def test_parity_with_the_released_model(released: Stdit, fixture_folder: Path) -> None:
    io = tensors(fixture_folder / "io.safetensors")
    both = of_text(io["text"], io["cond"])
    for times, expected in zip(io["timesteps"], io["velocity"], strict=True):
        assert relative(released(io["z_noisy"], times, both), expected) < 1e-5
    one = of_text(io["text"][:1], io["cond"][:1])
    assert relative(released(io["z_noisy"][:1], io["timestep_scalar"], one), io["velocity_scalar_t"]) < 1e-5
    other_grid = released(io["nonsquare_z"], io["timesteps"][1], of_text(io["text"], io["nonsquare_cond"]))
    assert relative(other_grid, io["nonsquare_velocity"]) < 1e-5
    both_inputs = torch.cat((io["z_noisy"][:1], io["cond"][:1]), dim=1)
    assert relative(released.velocity(both_inputs, io["timesteps"][1][0], None, None), io["velocity_no_text"]) < 1e-5


@torch.no_grad()
def test_heads_swapped_back_is_another_function(released: Stdit, fixture_folder: Path) -> None:
    io = tensors(fixture_folder / "io.safetensors")
    correct = Stdit(StditConfig(layers=3, width=64, heads=4), latent=LATENT, text=TEXT).eval()
    correct.load_state_dict(released.state_dict())
    found = correct(io["z_noisy"][:1], io["timesteps"][1][:1], of_text(io["text"][:1], io["cond"][:1]))
    assert relative(found, io["velocity_heads_transposed"]) < 1e-5
    assert relative(found, io["velocity"][1][:1]) > 0.1


def test_the_paper_sizes() -> None:
    with torch.device("meta"):
        large = Stdit(StditConfig(**SIZES["L"]), latent=LATENT, text=TextSpec(768, 512, 768))
    assert sum(parameter.numel() for parameter in large.parameters()) == 513_725_568
    assert len(large.state_dict()) + 2 == 474, "the released file also stores two position tables"


@torch.no_grad()
def test_a_fresh_model_predicts_zero_and_learns_everywhere() -> None:
    model = tiny_stdit()
    noisy = draw(2, 16, 4, 4, 4)
    assert model(noisy, torch.tensor([0.2, 0.9]), condition(2)).abs().max() == 0
    with torch.enable_grad():
        awake(model)(noisy, torch.tensor([0.2, 0.9]), condition(2, context=noisy)).square().mean().backward()
    still = {name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None}
    assert not still, "distributed training stops at parameters without gradient"


@torch.no_grad()
def test_one_text_vector_equals_attention_over_one_token() -> None:
    pooled, tokens = awake(tiny_stdit()), awake(tiny_stdit(text="tokens"))
    text = condition(2)
    as_token = Condition(TextFeatures(text.text.pooled[:, None], text.text.mask))
    noisy, time = draw(2, 16, 4, 4, 4), torch.tensor([0.3, 0.6])
    assert relative(tokens(noisy, time, as_token), pooled(noisy, time, text)) < 1e-5


@torch.no_grad()
def test_masked_tokens_have_no_influence_and_dropped_text_is_one_text() -> None:
    model = awake(tiny_stdit(text="tokens"))
    noisy, time, full = draw(2, 16, 4, 4, 4), torch.tensor([0.3, 0.6]), condition(2, tokens=5)
    mask = full.text.mask.clone()
    mask[:, 3:] = False
    other = full.text.tokens.clone()
    other[:, 3:] += 100
    base = model(noisy, time, Condition(TextFeatures(full.text.tokens, mask)))
    assert relative(model(noisy, time, Condition(TextFeatures(other, mask))), base) < 1e-5
    assert relative(model(noisy, time, Condition(TextFeatures(full.text.tokens, full.text.mask))), base) > 1e-3
    drop = torch.tensor([True, False])
    dropped = model(noisy, time, Condition(TextFeatures(full.text.tokens, mask), drop=drop))
    dropped_other = model(noisy, time, Condition(TextFeatures(other.flip(1), mask), drop=drop))
    assert torch.allclose(dropped[0], dropped_other[0], atol=1e-5) and not torch.allclose(dropped[0], base[0], atol=1e-3)
    assert torch.allclose(dropped[1], base[1], atol=1e-5)


@torch.no_grad()
def test_context_is_right_aligned_and_zero_when_absent() -> None:
    model = awake(tiny_stdit())
    noisy, time = draw(1, 16, 4, 4, 4), torch.tensor([0.5])
    nearest = draw(1, 16, 2, 4, 4, seed=4)
    short = model(noisy, time, condition(1, context=nearest))
    padded = model(noisy, time, condition(1, context=torch.cat((torch.zeros_like(nearest), nearest), dim=2)))
    longer = model(noisy, time, condition(1, context=torch.cat((nearest, torch.zeros_like(nearest), nearest), dim=2)))
    assert torch.equal(short, padded) and torch.equal(short, longer)
    none = model(noisy, time, condition(1))
    assert torch.equal(none, model(noisy, time, condition(1, context=torch.zeros_like(noisy))))
    assert relative(none, short) > 1e-2


@torch.no_grad()
def test_position_input() -> None:
    model = awake(tiny_stdit(position_input=True))
    noisy, time = draw(1, 16, 4, 4, 4), torch.tensor([0.5])
    at = lambda start, depth: model(noisy, time, condition(1, position=torch.tensor([[start, depth]])))  # noqa: E731
    assert relative(at(16, 96), at(0, 96)) > 1e-3 and relative(at(16, 96), at(16, 48)) > 1e-3
    assert torch.equal(at(16, -1), at(16, -5)), "any negative number means unknown"
    with pytest.raises(ConfigError, match="position"):
        model(noisy, time, condition(1))


def test_checkpointed_gradients_are_the_same() -> None:
    noisy, time, given = draw(1, 16, 4, 4, 4), torch.tensor([0.5]), condition(1)
    gradients = []
    for recompute in (False, True):
        model = awake(tiny_stdit(gradient_checkpointing=recompute))
        model(noisy, time, given).square().mean().backward()
        gradients.append(model.blocks[0].attn.qkv.weight.grad)
    assert torch.equal(*gradients)


@torch.no_grad()
def test_batch_elements_do_not_mix() -> None:
    model = awake(tiny_stdit(text="tokens"))
    noisy, time, given = draw(3, 16, 4, 4, 4), torch.tensor([0.1, 0.5, 0.9]), condition(3, tokens=4)
    together = model(noisy, time, given)
    for index in range(3):
        only = slice(index, index + 1)
        text = TextFeatures(given.text.tokens[only], given.text.mask[only])
        assert torch.allclose(model(noisy[only], time[only], dataclasses.replace(given, text=text)), together[only], atol=1e-5)


@torch.no_grad()
def test_bfloat16_is_near_float32() -> None:
    model = awake(tiny_stdit(text="tokens"))
    noisy, time, given = draw(2, 16, 4, 4, 4), torch.tensor([0.1, 0.5]), condition(2, tokens=4, context=draw(2, 16, 4, 4, 4))
    exact = model(noisy, time, given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(noisy, time, given)
    assert mixed.dtype == torch.float32 and relative(mixed, exact) < 0.03
    assert relative(model.bfloat16()(noisy, time, given), exact) < 0.06


def test_check_finds_what_does_not_divide() -> None:
    sizes = Sizes((30, 248, 120), LatentSpec(16, (1, 8, 8)), TextSpec(48, 12, None), (30, 31, 15), 15)
    problems = dict.fromkeys(StditConfig().check(sizes))
    assert [field for field, _ in problems] == ["patch", "patch", "patch", "text"]
    assert ("patch", "patch 2 does not divide the latent height 31") in problems
    with pytest.raises(ValueError, match="heads 3 does not divide width 256"):
        StditConfig(heads=3)
    with pytest.raises(ConfigError, match="does not divide"):
        tiny_stdit()(draw(1, 16, 3, 4, 4), torch.tensor([0.5]), condition(1))


@pytest.mark.parametrize("fields", [{"attention_transpose": "released"}, {"text": "tokens", "position_input": True}])
@pytest.mark.parametrize("grad", [False, True])
def test_compiles_without_a_graph_break(fields: dict[str, object], grad: bool) -> None:
    """fullgraph: a break is an error. For sampling and, through AOT autograd, for training."""
    torch._dynamo.reset()
    model = awake(tiny_stdit(layers=1, **fields)).train(grad)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    noisy, time = draw(2, 16, 4, 4, 4), torch.tensor([0.5, 0.2])
    given = condition(2, tokens=3, position=torch.tensor([[0, 8], [4, 8]]), drop=torch.tensor([True, False]), context=noisy)
    found = []
    for one in (compiled, model):
        model.zero_grad()
        with torch.set_grad_enabled(grad):
            out = one(noisy, time, given)
            if grad:
                out.square().mean().backward()
        found.append([out.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1]) and (len(found[0]) > 1) == grad
    assert all(relative(ours, theirs) < 1e-4 for ours, theirs in zip(*found, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("cells", [(2, 2, 2), (4, 6, 10), (12, 4, 2)])
def test_any_block_and_resolution(cells: tuple[int, int, int]) -> None:
    """The same weights; positions follow the block, so a place means the same whatever the block's size."""
    model = awake(tiny_stdit(text="tokens"))
    noisy = draw(1, 16, *cells)
    out = model(noisy, torch.tensor([0.3]), condition(1, tokens=2, context=noisy))
    assert out.shape == noisy.shape and out.isfinite().all()
    cpu = torch.device("cpu")
    wide, narrow = (plane_positions(2, columns, 32, cpu).view(2, columns, 32) for columns in (5, 3))
    assert torch.equal(wide[:, :3], narrow) and torch.equal(axis_positions(6, 32, cpu)[:4], axis_positions(4, 32, cpu))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_ways_to_attend_agree(dtype: torch.dtype) -> None:
    q, k, v = (draw(3, 4, 20, 16, seed=seed).to(dtype) for seed in range(3))
    exact = (q.double() @ k.double().transpose(-1, -2) / 4).softmax(-1) @ v.double()
    assert relative(attend(q, k, v).double(), exact) < (1e-6 if dtype == torch.float32 else 0.02)


def test_wiener_skip_is_the_best_linear_guess() -> None:
    """Untrained (its own output is zero) the network gives the linear regression of velocity on the noisy latent."""
    config = StditConfig(layers=1, width=16, heads=2, skip="wiener", latent_std=(2.0, 0.5))
    network = Stdit(config, latent=LatentSpec(2, (1, 8, 8)), text=TextSpec(8, 16, 8))
    generator = torch.Generator().manual_seed(0)
    std = torch.tensor([2.0, 0.5])
    data = torch.randn(64, 2, 4, 8, 8, generator=generator) * std.view(1, 2, 1, 1, 1)
    noise = torch.randn(data.shape, generator=generator)
    text = TextFeatures(torch.zeros(64, 1, 8), torch.ones(64, 1, dtype=torch.bool), torch.zeros(64, 8))
    for t in (0.0, 0.1, 0.5, 0.9, 1.0):
        noisy = (1 - t) * data + t * noise
        with torch.no_grad():
            error = noise - data - network(noisy, torch.full((64,), t), Condition(text))
        least = std**2 / (t**2 + (1 - t) ** 2 * std**2)
        assert torch.allclose(error.var((0, 2, 3, 4)), least, rtol=0.03)
        # an orthogonal error: nothing linear in the noisy latent is left
        assert ((error * noisy).mean((0, 2, 3, 4)).abs() < 0.05).all()


@torch.no_grad()
def test_a_network_that_makes_the_clean_latent_says_its_velocity() -> None:
    """Untrained it makes zeros: the velocity is then the noisy latent over the time, which leads straight to them."""
    with pytest.raises(ValidationError, match="skip: none"):
        StditConfig(target="clean", skip="wiener")
    network = Stdit(
        StditConfig(layers=1, width=16, heads=2, target="clean"), latent=LatentSpec(2, (1, 8, 8)), text=TextSpec(8, 16, 8)
    )
    text = TextFeatures(torch.zeros(3, 1, 8), torch.ones(3, 1, dtype=torch.bool), torch.zeros(3, 8))
    noisy, time = draw(3, 2, 4, 8, 8, seed=0), torch.tensor([0.0, 0.25, 1.0])
    found = network(noisy, time, Condition(text))
    assert torch.allclose(found, noisy / torch.tensor([0.05, 0.25, 1.0]).view(3, 1, 1, 1, 1))
    network.final_layer.linear.bias += 0.5
    assert torch.allclose(network(noisy, time, Condition(text))[1], (noisy[1] - 0.5) / 0.25, atol=1e-6)


def test_latent_std_must_fit_the_channels() -> None:
    sizes = Sizes((8, 64, 64), LatentSpec(16, (1, 8, 8)), TextSpec(8, 16, 8), (8, 8, 8), 8)
    problems = dict(StditConfig(width=16, heads=2, latent_std=(1.0, 2.0)).check(sizes))
    assert "2 numbers for 16" in problems["latent_std"]


def test_normalised_temporal_attention_does_not_feel_how_large_tokens_have_become():
    torch.manual_seed(0)
    tokens, t_B6C, positions = torch.randn(1, 4, 6, 16), torch.zeros(1, 6, 16), None
    for normed in (False, True):
        block = Block(16, 2, 32, True, normed)
        heard: list[torch.Tensor] = []
        torch.nn.init.zeros_(block.scale_shift_table)  # the gate of attention within slices is shut
        block.attn_temp.register_forward_hook(lambda module, given, out, heard=heard: heard.append(given[0]))
        with torch.no_grad():
            for factor in (1.0, 50.0):
                block(tokens * factor, t_B6C, None, None, positions)
        assert torch.allclose(*heard, atol=1e-3) == normed


@torch.no_grad()
def test_hidden_tokens_stand_for_their_patches() -> None:
    """What a token says depends on its own patch most, and telling tokens changes nothing else."""
    model = awake(tiny_stdit(patch=(1, 2, 2)))
    assert isinstance(model, TokenBackbone) and model.hidden_width == 32 and model.token_cells == (1, 2, 2)
    noisy, time = draw(1, 16, 3, 4, 6), torch.tensor([0.4])
    out, tokens = model.forward_hidden(noisy, time, condition(1))
    assert tokens.shape == (1, 3, 2, 3, 32)
    assert torch.equal(out, model(noisy, time, condition(1)))
    changed = noisy.clone()
    changed[:, :, 1, 2:4, 4:6] += 1
    moved = (model.forward_hidden(changed, time, condition(1))[1] - tokens).norm(dim=-1)[0]
    assert moved.flatten().argmax() == moved.new_tensor(range(18)).view(3, 2, 3)[1, 1, 2]
