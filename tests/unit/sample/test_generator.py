"""The composed generator: what decides a draw, lengths, spacing, heads and geometry."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ctgen.errors import ConfigError
from ctgen.host import Host
from ctgen.interfaces import CaseRequest, LatentSpec, Report, TextSpec
from ctgen.recipe.settings import PrepareSettings, SampleSettings
from ctgen.sample.generator import ComposedGenerator, reconstruct
from ctgen.stages.components import seeded
from ctgen.stages.prepare import to_grid
from ctgen.testing import phantom
from ctgen.volume import Volume
from ctgen.volume.resample import resample

HOST = Host.discover()
SIZE = (12, 16, 16)
SPACING = (10.0, 20.0, 20.0)
NODULE = Report("A nodule in the right upper lobe.")


def composed(rollout="slice-blocks", size=SIZE, spacing=SPACING, sample=None, latent_std=None, **fields):
    if rollout == "slice-blocks":
        fields = {"block": 4, **fields}
    autoencoder = HOST.create("autoencoder", "tiny-ae", cell=4, channels=16)
    with seeded("test"):
        sizes = {"latent": LatentSpec(16, (1, 4, 4)), "text": TextSpec(8, 16, 8)}
        backbone = HOST.create("backbone", "tiny-conv", width=4, layers=1, **sizes)
        for parameter in backbone.parameters():
            # the last layer starts at zero, and what the backbone says would not depend on the report
            parameter.data += 0.05 * torch.randn(parameter.shape)
    if latent_std is not None:
        backbone.config = SimpleNamespace(latent_std=latent_std)
    parts = {
        "autoencoder": autoencoder,
        "text_encoder": HOST.create("text_encoder", "hash-text", width=8, max_tokens=16),
        "backbone": backbone.eval(),
        "schedule": HOST.create("schedule", "flow-matching" if rollout == "slice-blocks" else "linear-flow"),
        "rollout": HOST.create("rollout", rollout, **fields),
    }
    settings = SampleSettings(**{"steps": 2, **(sample or {})})
    return ComposedGenerator(parts, PrepareSettings(size=size, spacing_mm=spacing, min_depth_mm=0), settings)


@pytest.fixture(scope="module")
def generator():
    return composed()


def ask(case_id="a", **fields):
    return CaseRequest(case_id, NODULE, **{"slices": 10, **fields})


def same(first, second):
    return np.array_equal(first.hu, second.hu) and np.array_equal(first.affine, second.affine)


def test_seed_id_and_report_decide_the_volume(generator):
    first = generator.generate(ask(), 0)
    assert same(first, generator.generate(ask(), 0))
    assert not same(first, generator.generate(ask(), 1))
    assert not same(first, generator.generate(ask("b"), 0))
    other = CaseRequest("a", Report("Large pleural effusion."), slices=10)
    assert not same(first, generator.generate(other, 0))


def test_order_and_company_do_not_matter(generator):
    ids = ["a", "b", "c"]
    forward = {name: generator.generate(ask(name), 3) for name in ids}
    torch.randn(7)  # nor what others draw from the global generator
    backward = {name: composed().generate(ask(name), 3) for name in reversed(ids)}
    assert all(same(forward[name], backward[name]) for name in ids)


@pytest.mark.parametrize("rollout", ["slice-blocks", "whole-volume"])
@pytest.mark.parametrize("slices", [1, 5, 8, 12, 17])
def test_slices_are_honoured(rollout, slices):
    generator = composed(rollout)
    made = generator.run(ask(slices=slices), 0)
    assert made.volume.shape == (slices, 16, 16)
    assert made.volume.hu.dtype == np.int16
    step = 4 if rollout == "slice-blocks" else slices
    assert made.boundaries == tuple(range(step, slices, step))
    blocks = -(-slices // step)
    assert made.evaluations == 2 * blocks
    assert made.head_slices == 0


def test_heun_spends_one_evaluation_less_at_the_end():
    assert composed(sample={"solver": "heun", "steps": 3}).run(ask(slices=8), 0).evaluations == 2 * 5


def test_geometry_without_a_head_is_centred(generator):
    volume = generator.generate(ask(slices=10), 0)
    assert volume.spacing_mm == SPACING
    middle = volume.affine @ np.array([4.5, 7.5, 7.5, 1.0])
    assert np.allclose(middle[:3], 0)
    assert (volume.affine[:3, :3] >= 0).all()


@pytest.mark.parametrize("spacing", [(5.0, 10.0, 10.0), (20.0, 40.0, 40.0), (3.0, 20.0, 7.0)])
def test_spacing_and_slices_are_those_of_the_result(generator, spacing):
    volume = generator.generate(ask(slices=9, spacing_mm=spacing), 0)
    assert volume.shape[0] == 9
    assert np.allclose(volume.spacing_mm, spacing)
    # the field of view stays
    extent = np.array(volume.shape[1:]) * spacing[1:]
    assert np.allclose(extent, np.array(SIZE[1:]) * SPACING[1:], atol=max(spacing))
    middle = volume.affine @ np.array([*((count - 1) / 2 for count in volume.shape), 1.0])
    assert np.allclose(middle[:3], 0)


def test_another_spacing_shows_the_same_volume(generator):
    plain = generator.run(ask(slices=8), 0)
    fine = generator.run(ask(slices=16, spacing_mm=(5.0, 20.0, 20.0)), 0)
    assert fine.boundaries == (8,)
    expected = resample(plain.volume, (5.0, 20.0, 20.0))
    assert np.array_equal(fine.volume.hu, np.rint(expected.hu))
    assert np.allclose(fine.volume.affine, expected.affine)


def test_values_stay_in_the_window(generator):
    # 16 channels of 4 x 4 pixels are lossless: noise decodes to far outside
    volume = generator.generate(ask(), 0)
    assert volume.hu.min() >= -1000
    assert volume.hu.max() <= 1000


def test_the_head_is_kept_and_continued(generator):
    head = phantom((16, 32, 32), (7.0, 9.0, 9.0), seed=3)
    made = generator.run(ask(slices=10, head=head), 0)
    grid = to_grid(head, generator.prepare)
    assert made.head_slices == 4
    assert made.volume.shape == (10, 16, 16)
    first = Volume(grid.hu[:4], grid.affine)
    assert np.array_equal(made.volume.hu[:4], reconstruct(generator.autoencoder, first, torch.device("cpu")).hu)
    assert np.allclose(made.volume.affine, grid.affine, atol=1e-9)
    assert made.boundaries == (4, 8)
    assert made.evaluations == 2 * 2


def test_temperature_scales_the_noise():
    plain, cold = (composed(sample={"temperature": value}).generate(ask(), 0) for value in (1.0, 1e-6))
    colder = composed(sample={"temperature": 1e-6}).generate(ask(), 1)
    assert not same(plain, cold)
    assert np.abs(cold.hu.astype(int) - colder.hu).max() <= 1  # without noise the seed has no say


def test_an_offset_moves_whole_channels_of_the_noise():
    seen = []

    for offset in (0.0, 3.0):
        made = composed(sample={"noise_offset": offset})
        made.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
        made.generate(ask(), 0)
    plain, moved = seen[0], seen[len(seen) // 2]
    apart = moved - plain
    assert torch.allclose(apart, apart.mean((2, 3, 4), keepdim=True).expand_as(apart), atol=1e-5), "the noise is the same else"
    assert apart.mean((2, 3, 4)).std() > 1


def test_the_hu_curve_changes_what_is_made_and_not_the_head():
    plain, curved = (composed(sample={"hu_curve": curve}) for curve in ((), ((-1000, -900), (0, -30))))
    before, after = plain.run(ask(slices=8), 0).volume.hu, curved.run(ask(slices=8), 0).volume.hu
    low, high = plain.autoencoder.hu_range
    shift = np.interp(before, [-1000, 0], [100, -30])
    assert np.abs(after - np.clip(before + shift, low, high)).max() <= 1
    head = phantom((16, 32, 32), (7.0, 9.0, 9.0), seed=3)
    first, second = (one.run(ask(slices=10, head=head), 0) for one in (plain, curved))
    kept = first.head_slices
    assert kept and np.array_equal(first.volume.hu[:kept], second.volume.hu[:kept])
    assert not np.array_equal(first.volume.hu[kept:], second.volume.hu[kept:])


def test_a_head_longer_than_the_grid_says_what_was_left_out(generator):
    depth, spacing = generator.prepare.size[0], generator.prepare.spacing_mm[0]
    fitting = phantom((depth, 32, 32), (spacing, 9.0, 9.0), seed=3)
    assert "lie below" not in generator.run(ask(slices=10, head=fitting), 0).note
    longer = phantom((depth + 8, 32, 32), (spacing, 9.0, 9.0), seed=3)
    assert f"lowest {4 * spacing:.0f} mm lie below" in generator.run(ask(slices=10, head=longer), 0).note


def test_the_head_decides_what_follows(generator):
    heads = [phantom((16, 32, 32), (7.0, 9.0, 9.0), seed=seed) for seed in (3, 4)]
    first, second = (generator.generate(ask(slices=10, head=head), 0) for head in heads)
    assert not np.array_equal(first.hu[4:], second.hu[4:])


def test_a_head_with_another_spacing(generator):
    head = phantom((16, 32, 32), (7.0, 9.0, 9.0), seed=3)
    made = generator.run(ask(slices=20, head=head, spacing_mm=(5.0, 20.0, 20.0)), 0)
    assert made.volume.shape[0] == 20
    assert made.head_slices == 8
    assert made.boundaries == (8, 16)
    # the bottom edge of the head stays where it was
    grid = to_grid(head, generator.prepare)
    assert made.volume.affine[2, 3] - 2.5 == pytest.approx(grid.affine[2, 3] - 5.0)


def flipped_and_turned(volume):
    """The same scan stored by another scanner: W before H, from head to feet, tilted by 8 degrees."""
    angle = np.deg2rad(8.0)
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = tilt @ volume.affine
    affine[:3, 3] += affine[:3, 0] * (volume.shape[0] - 1)
    affine[:3, 0] *= -1
    affine[:, [1, 2]] = affine[:, [2, 1]]
    return Volume(np.ascontiguousarray(volume.hu[::-1].transpose(0, 2, 1)), affine), tilt


def test_a_head_in_another_orientation_is_the_same_patient(generator):
    head = phantom((16, 32, 32), (7.0, 9.0, 9.0), seed=3)
    turned, tilt = flipped_and_turned(head)
    plain = generator.run(ask(slices=10, head=head), 0)
    made = generator.run(ask(slices=10, head=turned), 0)
    assert np.array_equal(made.volume.hu, plain.volume.hu)
    assert np.allclose(made.volume.affine, tilt @ plain.volume.affine, atol=1e-6)


def test_head_blocks_take_more_of_the_head():
    head = phantom((16, 32, 32), (7.0, 9.0, 9.0), seed=3)
    made = composed(sample={"mode": "gt-head", "head_blocks": 2}).run(ask(slices=10, head=head), 0)
    assert made.head_slices == 8
    assert made.boundaries == (8,)


def test_too_short_a_head_is_one_clear_error(generator):
    head = phantom((6, 32, 32), (5.0, 9.0, 9.0))
    with pytest.raises(ConfigError, match="covers 3 slices of 10 mm, 4 are needed") as caught:
        generator.generate(ask(head=head), 0)
    assert "longer scan" in caught.value.hint


def test_a_head_that_leaves_nothing_to_make_is_an_error(generator):
    head = phantom((16, 32, 32), (7.0, 9.0, 9.0))
    with pytest.raises(ConfigError, match="4 slices of 10 mm were asked for, but the head alone has 4"):
        generator.generate(ask(slices=4, head=head), 0)


def test_a_head_for_a_rollout_of_one_block_says_what_to_use_instead():
    head = phantom((16, 32, 32), (10.0, 9.0, 9.0))
    with pytest.raises(ConfigError) as caught:
        composed("whole-volume").generate(ask(slices=12, head=head), 0)
    assert "slice-blocks" in caught.value.hint


def test_the_model_may_decide_the_length():
    made = composed(max_blocks=3).run(ask(slices=None), 0)
    assert made.volume.shape[0] == 12
    assert "limit of 3 blocks" in made.note


def test_whole_volume_needs_a_length():
    with pytest.raises(ConfigError, match="cannot decide"):
        composed("whole-volume").generate(ask(slices=None), 0)


def test_progress_reports_blocks(generator):
    seen = []
    generator.run(ask(slices=10), 0, lambda done, expected: seen.append((done, expected)))
    assert seen[-1] == (10, 10)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_reconstruction_is_lossless_where_the_codec_is(generator):
    volume = phantom((5, 16, 16), seed=1)
    found = reconstruct(generator.autoencoder, volume, torch.device("cpu"))
    assert np.abs(found.hu - volume.hu.clip(-1000, 1000)).max() <= 1
    assert np.array_equal(found.affine, volume.affine)
