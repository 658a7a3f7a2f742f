"""Mistakes: all of them, in file order, each with its place and the next step."""

from __future__ import annotations

import types

import pytest

from ctgen.config import ComponentConfig
from ctgen.errors import RecipeError
from ctgen.recipe import load_recipe

TEN = """\
dat: {use: scans}
data: {use: scans, cases: many, root: a, root: b}
autoencoder: {use: codec, stride: [1, 8], weihgts: mini}
text_encoder: [reader]
backbone: {use: nett, depth: 3}
rollout: {block: 16}
objective: {use: flow, text_drop: 1.5}
metrics: score
prepare: {size: [32, 60, 64], spacing_mm: 3}
train:
  lr: 0
  stepz: 10
  precision: bf61
  ema_warmup: perhaps
sample: {length: 0}
report: 8
steps: 10
"""

EXPECTED = [
    ("1:1", "dat: unknown section", "did you mean 'data'?"),
    ("2:27", "data.cases: expected a whole number, got 'many'", ""),
    ("2:42", "data.root: duplicate key; first given at line 2", ""),
    ("3:35", "autoencoder.stride: too few values, got a list of 2", ""),
    ("3:43", "autoencoder.weihgts: unknown key", "did you mean 'weights'?"),
    ("4:15", "text_encoder: expected a component name or {use: NAME, ...}, got a list of 1", ""),
    ("5:17", "backbone.use: no backbone named 'nett'", "did you mean 'net'?"),
    ("6:10", "rollout.use: missing 'use'", "available: blocks"),
    ("7:35", "objective.text_drop: expected a value of at most 1, got '1.5'", ""),
    ("8:10", "metrics: expected a list, got 'score'", "write metrics: ["),
    ("9:43", "prepare.spacing_mm: expected 'keep' or a list such as [1, 2, 3], got '3'", ""),
    ("11:7", "train.lr: expected a value greater than 0, got '0'", ""),
    ("12:3", "train.stepz: unknown key", "did you mean 'steps'?"),
    ("13:14", "train.precision: expected 'no', 'bf16' or 'fp16', got 'bf61'", "did you mean 'bf16'?"),
    ("14:15", "train.ema_warmup: expected true or false, got 'perhaps'", ""),
    ("15:18", "sample.length: expected 'case' or 'model' or a value of at least 1, got '0'", ""),
    ("16:9", "report: expected a mapping, got '8'", "write report: {slices: ...}"),
    ("17:1", "steps: unknown section", "did you mean train.steps or sample.steps?"),
]
EXPECTED_OVERRIDES = [
    ("'oops' is not an override", "write section.key=value"),
    ("extends: cannot be given on the command line", ""),
    ("metrics.3.bins: no such metric", ""),
    ("train.batch: expected a whole number, got '1.5'", ""),
    ("train.seed: '[1' is not valid YAML", "not closed"),
]


def problems_in(recipe, host, overrides=()):
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, overrides, host=host)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return caught.value.problems


def one_problem(recipe, host, overrides=()):
    found = problems_in(recipe, host, overrides)
    assert len(found) == 1, "\n".join(map(str, found))
    return str(found[0])


def test_all_kinds_of_mistakes_are_reported_in_one_go(host, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(TEN)
    found = problems_in(path, host, ["oops", "extends=x.yaml", "metrics.3.bins=2", "train.batch=1.5", "train.seed=[1"])
    in_file = [item for item in found if item.mark.line]
    for item, (place, text, hint) in zip(in_file, EXPECTED, strict=True):
        assert str(item).startswith(f"{path}:{place}: {text}"), str(item)
        assert hint in item.hint
    rest = [item for item in found if not item.mark.line]
    assert found == tuple(in_file + rest), "the file first, then the command line"
    for text, hint in EXPECTED_OVERRIDES:
        assert any(str(item).startswith(f"command line: {text}") and hint in item.hint for item in rest), text
    assert len(rest) == len(EXPECTED_OVERRIDES)


def test_sizes_that_do_not_fit_are_found_without_weights(host, full):
    text = one_problem(full, host, ["prepare.size=[16, 60, 64]"])
    assert text.startswith("command line: prepare.size: H = 60 voxels is not a multiple of the latent stride 8")
    full.write_text(
        full.read_text().replace("size: [16, 64, 64]", "size: [16, 248, 248]").replace("depth: 2}", "patch: 2, heads: 5}")
    )
    found = [str(item) for item in problems_in(full, host)]
    assert found == [
        f"{full}:4:29: backbone.patch: patch 2 does not divide latent h = 31",
        f"{full}:4:29: backbone.patch: patch 2 does not divide latent w = 31",
        f"{full}:4:39: backbone.heads: 5 heads do not divide width 64",
    ]


def test_missing_sections_say_who_needs_them(host, tmp_path):
    path = tmp_path / "short.yaml"
    path.write_text("data: scans\nobjective: flow\nautoencoder: codec\nbackbone: ~\n")
    found = {item.key: item for item in problems_in(path, host)}
    assert set(found) == {"text_encoder", "backbone", "schedule", "rollout"}
    assert found["rollout"].message == "missing section; objective 'flow' needs it"
    assert "available: net, other-net" in found["backbone"].hint
    assert str(found["backbone"].mark) == f"{path}:4:1"
    path.write_text("train: {steps: 3}\n")
    assert {item.key for item in problems_in(path, host)} == {"data", "objective"}


@pytest.mark.parametrize(
    ("content", "start"),
    [
        (b"", ":1:1: is empty"),
        (b"# nothing\n", ":1:1: is empty"),
        (b"a: [1\nb: 2\n", ":2:2: is not valid YAML"),
        (b"data: \xff\xfe\n", ":1:7: is not UTF-8 text"),
        (b"- a\n- b\n", ":1:1: expected 'section: ...' lines, got a list"),
        (b"just words\n", ":1:1: expected 'section: ...' lines, got text"),
        (b"a: 1\n---\nb: 1\n", ":2:1: a second document"),
        (b"\x1f\x8b\x08\x00\x00", ":1:2: is not UTF-8"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_problem(host, tmp_path, content, start):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    assert one_problem(path, host, ["train.steps=3"]).startswith(f"{path}{start}")


def test_paths_that_lead_to_no_recipe(host, tmp_path):
    assert "no such file" in one_problem(tmp_path / "absent.yaml", host)
    assert "is a folder" in one_problem(tmp_path, host)
    text = one_problem("preset:absent", host)
    assert text.startswith("preset:absent: no preset named 'absent'") and "available: none" in text


def test_an_ancestor_that_cannot_be_read_is_reported_where_it_is_named(host, tmp_path):
    child = tmp_path / "child.yaml"
    child.write_text("extends: parent.yaml\nbackbone: {depth: 0}\ntrain: {stepz: 1}\n")
    found = problems_in(child, host)
    # What the parent might have said is not missing; what the child says wrongly is still reported.
    assert [(item.mark.line, item.key) for item in found] == [(1, "extends"), (3, "train.stepz")]
    child.write_text("extends: preset:absent\n")
    assert one_problem(child, host).startswith(f"{child}:1:10: extends: preset:absent: no preset named")
    child.write_text("extends: [a, b]\n")
    assert one_problem(child, host).startswith(f"{child}:1:10: extends: expected one path")
    (tmp_path / "parent.yaml").write_text("data: {use: scans\n")
    child.write_text("extends: parent.yaml\n")
    assert one_problem(child, host).startswith(f"{tmp_path / 'parent.yaml'}:2:1: is not valid YAML")


def test_a_preset_extends_presets_only(fakes, host, tmp_path, monkeypatch):
    fakes.with_preset(host, tmp_path, monkeypatch, "lost", "extends: ../elsewhere.yaml\n")
    assert "a preset can extend only another preset" in one_problem("preset:lost", host)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("data: !!python/object/apply:os.system ['touch {owned}']", "tag '!!python/object/apply:os.system' is not allowed"),
        ("data: {{use: scans, root: !!python/name:os.system }}", "tag '!!python/name:os.system' is not allowed"),
        ("data: {{_target_: os.system, use: scans}}", "data._target_: unknown key"),
        ("data: {{use: scans, cases: $(touch {owned})}}", "data.cases: expected a whole number, got '$(touch"),
        ("data: {{use: os.system}}", "data.use: no dataset named 'os.system'"),
        ("_target_: os.system", "_target_: unknown section"),
        ("train: {{steps: '${{oc.env:HOME}}'}}", "train.steps: expected a whole number"),
        ("<<: {{train: {{steps: 3}}}}", "<<: unknown section"),
    ],
)
def test_a_recipe_cannot_run_code(host, full, tmp_path, line, words):
    owned = tmp_path / "owned"
    kept = [kept for kept in full.read_text().splitlines() if not kept.startswith("data:") or not line.startswith("data:")]
    full.write_text("\n".join([line.format(owned=owned), *kept]).replace("train:\n  steps: 40\n  lr: 1e-4", "") + "\n")
    assert words in "\n".join(map(str, problems_in(full, host)))
    assert not owned.exists()


def test_dollars_are_only_letters(host, full):
    assert load_recipe(full, ["data.root=${HOME}/$x"], host=host).data.config.root == "${HOME}/$x"


def test_an_ambiguous_component_names_both(fakes, host, full):
    host.register(fakes.plugin(lambda registrar: registrar.backbone("net", target="a:B", config=fakes.NetConfig)), "second")
    text = one_problem(full, host)
    assert "fakes:net" in text and "second:net" in text and text.startswith(f"{full}:4:17: backbone.use")
    assert load_recipe(full, ["backbone.use=fakes:net"], host=host).backbone.plugin == "fakes"


def test_a_plugin_that_failed_is_named_beside_its_missing_component(host, full):
    host.register(types.ModuleType("broken"), "broken")
    host.plugins[-1].error = ModuleNotFoundError("No module named 'diffusers'", name="diffusers")
    text = one_problem(full, host, ["backbone.use=stdit"])
    assert "plugin 'broken'" in text and "pip install diffusers" in text and "ctgen ls plugins --traceback" in text


def test_a_config_that_crashes_is_the_plugins_defect(fakes, host, full):
    class Crashing(ComponentConfig):
        def check(self, sizes):
            raise ZeroDivisionError("division by zero")

    host.register(fakes.plugin(lambda registrar: registrar.backbone("crashing", target="a:B", config=Crashing)), "careless")
    text = one_problem(full, host, ["backbone=crashing"])
    assert "plugin 'careless' failed while checking sizes: ZeroDivisionError" in text


def test_an_autoencoder_without_sizes_is_the_plugins_defect(fakes, host, full):
    host.register(
        fakes.plugin(lambda registrar: registrar.autoencoder("sizeless", target="a:B", config=fakes.NoFields)), "careless"
    )
    text = one_problem(full, host, ["autoencoder=sizeless"])
    assert "plugin 'careless'" in text and "latent_spec" in text


@pytest.mark.parametrize("name", ["../up", "a b", "", "[x]", "x" * 80])
def test_a_name_must_be_fit_for_a_folder(host, full, name):
    full.write_text(f"name: {name}\n" + full.read_text())
    assert one_problem(full, host).startswith(f"{full}:1:")


def test_a_stride_along_d_needs_a_number_of_slices_that_it_divides(host, full):
    overrides = ["autoencoder.stride=[4,8,8]", "prepare.size=[16,64,64]"]
    text = one_problem(full, host, overrides)
    assert "prepare.depth_multiple: scans may keep any multiple of 1 slices, autoencoder 'codec' needs one of 4" in text
    for remedy in ("prepare.depth_multiple=4", "prepare.depth=pad"):
        load_recipe(full, [*overrides, remedy], host=host)
