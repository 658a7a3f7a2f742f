"""Volumes of several cases denoised together: the same as one by one, and everything still counted and reported."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from ctgen.errors import ConfigError
from ctgen.interfaces import CaseRequest, Report
from ctgen.testing import phantom

from .test_generator import HOST, ask, composed

REPORTS = ("Nodule.", "Large left pleural effusion, and atelectasis of the lower lobe.", "", "Normal chest.", "Emphysema.")
LENGTHS = (10, 3, 17, 8, 10)


def requests(**fields):
    return [
        CaseRequest(f"case-{index}", Report(report), slices=slices, **fields)
        for index, (report, slices) in enumerate(zip(REPORTS, LENGTHS, strict=True))
    ]


def made(generator, batch, **fields):
    found = generator.run_together(requests(**fields), 5, batch=batch)
    return {request.id: generated for request, generated in found}


@pytest.mark.parametrize("rollout", ["slice-blocks", "whole-volume"])
@pytest.mark.parametrize(
    "sample",
    [
        {"steps": 3},
        {"solver": "dpm", "steps": 3},
        {"solver": "dopri5", "rtol": 1e-3, "atol": 1e-3},
        {"guidance": 2.5},
        {"guidance": 2.5, "negative_report": "Normal."},
    ],
    ids=lambda sample: "-".join(map(str, sample.values())),
)
def test_a_case_is_the_same_for_every_batch(rollout, sample):
    """In single precision a larger batch may round otherwise: not more than one HU after rounding to whole ones."""
    generator = composed(rollout, sample=sample)
    one, two, four = (made(generator, batch) for batch in (1, 2, 4))
    assert set(one) == set(four) == {f"case-{index}" for index in range(5)}
    for case_id, alone in one.items():
        for other in (two[case_id], four[case_id]):
            assert other.volume.shape == alone.volume.shape
            assert np.abs(other.volume.hu.astype(int) - alone.volume.hu).max() <= 1
            assert np.array_equal(other.volume.affine, alone.volume.affine)
            assert (other.boundaries, other.evaluations, other.note) == (alone.boundaries, alone.evaluations, alone.note)
    request = requests()[2]
    assert np.array_equal(generator.run(request, 5).volume.hu, one["case-2"].volume.hu)


def test_latents_agree_to_rounding_before_they_are_hu():
    kept = {}

    def latents(batch):
        generator = composed(sample={"steps": 4})
        finish = generator._finish
        generator._finish = lambda case: kept.setdefault((batch, case.request.id), case.result.latent) is None or finish(case)
        list(generator.run_together(requests(), 5, batch=batch))

    for batch in (1, 4):
        latents(batch)
    for case_id in ("case-0", "case-2"):
        alone, together = kept[1, case_id], kept[4, case_id]
        assert (alone - together).norm() <= 1e-5 * alone.norm()
    assert not torch.equal(kept[1, "case-0"], kept[1, "case-3"][:, : kept[1, "case-0"].shape[1]])


def test_the_network_is_called_with_all_cases_at_once():
    generator = composed(sample={"steps": 2})
    sizes = []
    generator.backbone.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    found = made(generator, 4)
    # 3, 1, 5, 2 and 3 blocks of 2 steps, four cases at a time: the fifth takes the place of the second
    assert sizes == [4, 4, 4, 4, 3, 3, 2, 2, 1, 1]
    assert sum(sizes) == sum(generated.evaluations for generated in found.values()) == 28


def test_sample_batch_is_the_default():
    generator = composed(sample={"steps": 2, "batch": 3})
    sizes = []
    generator.backbone.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    list(generator.run_together(requests(), 0))
    assert max(sizes) == 3


def test_progress_of_each_case_and_seconds_that_add_up():
    generator = composed(sample={"steps": 2})
    seen = {}

    def progress(name, done, expected):
        seen.setdefault(name, []).append((done, expected))

    started = time.perf_counter()
    found = list(generator.run_together(requests(), 0, batch=3, progress=progress))
    whole = time.perf_counter() - started
    assert {name: last[-1] for name, last in seen.items()} == {
        f"case-{index}": (slices, slices) for index, slices in enumerate(LENGTHS)
    }
    shares = sum(generated.seconds for _, generated in found)
    assert 0.3 * whole < shares <= whole


def test_an_error_in_one_case_is_the_caller_s():
    generator = composed(sample={"steps": 2})
    asked = [*requests()[:2], CaseRequest("bad", Report("x"), slices=4, head=too_short())]
    with pytest.raises(ConfigError, match="covers 3 slices"):
        list(generator.run_together(asked, 0, batch=3))


def too_short():
    return phantom((6, 32, 32), (5.0, 9.0, 9.0))


def test_an_error_in_progress_stops_all():
    generator = composed(sample={"steps": 2})

    def stop(name, done, expected):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(generator.run_together(requests(), 0, batch=3, progress=stop))


def test_the_inference_mode_does_not_leak_between_volumes():
    for _ in composed().run_together(requests()[:2], 0, batch=2):
        assert not torch.is_inference_mode_enabled()
        assert (torch.ones(1, requires_grad=True) * 2).requires_grad


def changed(first, second):
    return not np.array_equal(first.volume.hu, second.volume.hu)


def run(**sample):
    return composed(sample={"steps": 4, **sample}).run(ask(slices=8), 0)


def test_guidance_changes_the_volume_and_counts_both_evaluations():
    plain, same, guided = run(), run(guidance=1.0), run(guidance=3.0)
    assert not changed(plain, same)
    assert changed(plain, guided)
    assert (plain.evaluations, guided.evaluations) == (8, 16)


def test_a_negative_report_is_what_guidance_leans_away_from():
    away = run(guidance=3.0, negative_report="Normal chest, lungs clear.")
    assert away.evaluations == 16
    assert changed(away, run(guidance=3.0))
    assert changed(away, run(guidance=3.0, negative_report="Emphysema."))
    assert not changed(run(), run(negative_report="Emphysema.")), "without guidance there is nothing to lean away from"
    assert not changed(run(guidance=3.0), run(guidance=3.0, negative_report="  "))


def test_guidance_away_from_the_same_report_changes_next_to_nothing():
    report = ask(slices=8).report
    assert (report.impressions, report.clinical_information, report.technique) == ("", "", "")
    plain, same = run(), run(guidance=3.0, negative_report=report.findings)
    assert np.abs(plain.volume.hu.astype(int) - same.volume.hu).max() <= 1


def test_guidance_in_an_interval_costs_only_there():
    # steps at t = 1, .75, .5, .25 in each of two blocks
    assert run(guidance=3.0, guidance_interval=(0.4, 0.8)).evaluations == 2 * (4 + 2)
    assert not changed(run(), run(guidance=3.0, guidance_interval=(0.3, 0.4)))


def test_cfg_zero_star_leaves_out_its_first_steps():
    found = run(guidance=3.0, guidance_method="cfg-zero-star", guidance_zero_steps=1)
    assert found.evaluations == 2 * 2 * 3
    assert changed(found, run(guidance=3.0, guidance_method="cfg-zero-star", guidance_zero_steps=0))
    assert changed(run(guidance=3.0), run(guidance=3.0, guidance_method="cfg-zero-star", guidance_zero_steps=0))


def test_known_slices_stay_where_steps_are_left_out():
    """Overlapping blocks continue slices that are there: their path must begin where the solver does."""
    generator = composed(sample={"steps": 4, "guidance": 2.0, "guidance_method": "cfg-zero-star", "guidance_zero_steps": 2})
    random = torch.Generator().manual_seed(0)
    known = torch.randn(16, 2, 4, 4, generator=random)
    text = generator._begin(ask(), 0).text
    with torch.inference_mode():
        block = generator._denoise_block(
            text,
            lambda question: generator._network.answer([question])[0],
            shape=(16, 4, 4, 4),
            context=None,
            start=4,
            depth=8,
            generator=random,
            known=known,
        )
    # the path ends with sigma_min = 1e-5 of noise
    assert (block[:, :2] - known).abs().max() < 1e-4


def test_a_solver_that_the_schedule_does_not_stand_for_is_refused():
    generator = composed()
    parts = {name: getattr(generator, name) for name in ("autoencoder", "text_encoder", "backbone", "rollout")}
    parts["schedule"] = HOST.create("schedule", "diffusers-flow")
    settings = generator.sample.model_copy(update={"solver": "heun"})
    with pytest.raises(ConfigError, match="'heun', only with euler"):
        type(generator)(parts, generator.prepare, settings)


def test_linear_guidance_changes_the_volume_at_no_evaluations():
    def spread(**sample):
        generator = composed(sample={"steps": 4, **sample}, latent_std=(2.0,))
        return generator.run(ask(slices=8), 0)

    plain, guided = spread(), spread(linear_guidance=1.5, linear_guidance_interval=(0.0, 1.0))
    assert changed(plain, guided) and plain.evaluations == guided.evaluations
    assert not changed(plain, spread(linear_guidance=1.5, linear_guidance_interval=(0.3, 0.4)))
