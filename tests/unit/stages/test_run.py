"""A run as a whole: order, skipping, going on, changed recipes, and what is said."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ctgen
from ctgen import hookimpl
from ctgen.errors import DataError, Interrupted, MissingFileError, StageError
from ctgen.host import Host
from ctgen.recipe import load_recipe
from ctgen.stages import STAGES, run

from .tiny import RECIPE, Said, load, read, snapshot, stage_folder, write_recipe, write_scans


@pytest.fixture(scope="module")
def recipe_path(tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("tiny"))


class Watcher:
    """A plugin that writes down what it is told."""

    def __init__(self):
        self.calls = []

    @hookimpl
    def ctgen_stage_started(self, stage, folder):
        self.calls.append(("started", stage, folder, (folder / "stage.json").exists()))

    @hookimpl
    def ctgen_stage_finished(self, stage, folder, summary):
        self.calls.append(("finished", stage, folder, (folder / "stage.json").exists(), summary))

    @hookimpl
    def ctgen_train_step(self, step, values):
        self.calls.append(("step", step, values))


@pytest.fixture(scope="module")
def finished(recipe_path, tmp_path_factory):
    """(result, what was said, what the hooks were told) of one whole run."""
    host, watcher, said = Host.discover(), Watcher(), Said()
    host.manager.register(watcher)
    result = run(load(recipe_path, host=host), run_dir=tmp_path_factory.mktemp("run") / "whole", console=said)
    return result, said, watcher


def copied(finished, tmp_path):
    """A run folder of its own to change."""
    return Path(shutil.copytree(finished[0].run_dir, tmp_path / "copy"))


def test_all_stages_in_order_with_their_results(finished):
    result, said, _ = finished
    assert tuple(result.folders) == STAGES
    assert result.skipped == ()
    assert result.report == result.folders["report"] / "report.html"
    assert [line.split(":")[0] for line in said.lines if not line.startswith(" ")] == list(STAGES)
    for stage, folder in result.folders.items():
        record = read(folder / "stage.json")
        assert record["stage"] == stage
        assert folder.name == f"{stage}-{record['fingerprint'][:8]}"
        assert (folder / "recipe.yaml").read_text() == (result.run_dir / "recipe.yaml").read_text()
    assert not list(result.run_dir.rglob(".writing-*"))
    assert not (result.folders["encode"] / "parts").exists()


def test_the_metrics_are_named_after_the_recipe_and_not_after_a_protocol_of_the_bench(finished):
    result = finished[0]
    protocol = read(result.folders["evaluate"] / "metrics.json")["protocol"]
    assert protocol["name"] == "recipe:tiny" and "version" not in protocol
    assert protocol["name"] not in {shipped.name for shipped in Host.discover().protocols}
    page = result.report.read_text(encoding="utf-8")
    assert f"recipe:tiny ({protocol['hash'][:8]})" in page and "runs of the same list" in page


def test_hooks_are_told_what_is_documented(finished):
    result, _, watcher = finished
    started = [call for call in watcher.calls if call[0] == "started"]
    ended = [call for call in watcher.calls if call[0] == "finished"]
    steps = [call for call in watcher.calls if call[0] == "step"]
    assert [(call[1], call[2]) for call in started] == list(result.folders.items())
    assert [(call[1], call[2]) for call in ended] == list(result.folders.items())
    assert not any(call[3] for call in started)
    assert all(call[3] for call in ended)
    assert ended[0][4] == {"cases": 4, "left_out": 0, "without_report": 0}
    assert [call[1] for call in steps] == [1, 2, 3, 4]
    assert all(isinstance(call[2]["loss"], float) for call in steps)


def test_again_skips_everything_says_so_and_touches_nothing(finished, recipe_path):
    result = finished[0]
    before = snapshot(result.run_dir)
    said, watcher, host = Said(), Watcher(), Host.discover()
    host.manager.register(watcher)
    again = run(load(recipe_path, host=host), run_dir=result.run_dir, console=said)
    assert again.skipped == STAGES
    assert again.report == result.report
    assert said.lines == [f"{stage}: already done, skipped ({folder})" for stage, folder in result.folders.items()]
    assert watcher.calls == []
    after = snapshot(result.run_dir)
    assert before.pop("recipe.yaml")[0] == after.pop("recipe.yaml")[0]
    assert before == after


def test_the_resolved_recipe_repeats_the_run(finished, monkeypatch, tmp_path):
    result = finished[0]
    monkeypatch.chdir(tmp_path)
    again = run(load_recipe(result.run_dir / "recipe.yaml"), run_dir=result.run_dir)
    assert again.skipped == STAGES
    assert not list(tmp_path.iterdir())


def test_neutral_settings_skip_too(finished, recipe_path):
    overrides = ("prepare.workers=2", "encode.batch_slices=3", "train.log_every=2", "train.checkpoint_every=1")
    assert run(load(recipe_path, *overrides), run_dir=finished[0].run_dir).skipped == STAGES


def test_a_changed_recipe_gets_new_folders_beside_the_old(finished, recipe_path, tmp_path):
    run_dir = copied(finished, tmp_path)
    before = snapshot(run_dir)
    changed = run(load(recipe_path, "sample.steps=3"), run_dir=run_dir)
    assert changed.skipped == ("prepare", "encode", "train")
    after = snapshot(run_dir)
    assert all(after[name] == before[name] for name in before if name != "recipe.yaml")
    assert len(list(run_dir.glob("sample-*"))) == len(list(run_dir.glob("report-*"))) == 2
    back = run(load(recipe_path), run_dir=run_dir)
    assert back.skipped == STAGES
    assert {stage: folder.name for stage, folder in back.folders.items()} == {
        stage: folder.name for stage, folder in finished[0].folders.items()
    }


def test_until_stops_after_its_stage_and_the_rest_follows_later(recipe_path, tmp_path):
    first = run(load(recipe_path), run_dir=tmp_path / "run", until="encode")
    assert tuple(first.folders) == ("prepare", "encode")
    assert first.report is None
    second = run(load(recipe_path), run_dir=tmp_path / "run", start="train", until="train")
    assert second.skipped == ("prepare", "encode")
    assert tuple(second.folders) == ("prepare", "encode", "train")
    assert not list((tmp_path / "run").glob("sample-*"))


def test_from_needs_the_stages_before_and_writes_nothing_without(recipe_path, tmp_path):
    with pytest.raises(StageError, match=r"--from train: not finished with this recipe .*: prepare, encode") as caught:
        run(load(recipe_path), run_dir=tmp_path / "run", start="train")
    assert "--from prepare" in caught.value.hint
    assert not (tmp_path / "run").exists()


def test_a_refused_from_leaves_the_runs_recipe_alone(finished, recipe_path):
    result = finished[0]
    kept = (result.run_dir / "recipe.yaml").read_bytes()
    with pytest.raises(StageError):
        run(load(recipe_path, "train.steps=5"), run_dir=result.run_dir, start="sample")
    assert (result.run_dir / "recipe.yaml").read_bytes() == kept


def test_from_a_finished_stage_skips_it(finished, recipe_path):
    assert run(load(recipe_path), run_dir=finished[0].run_dir, start="sample").skipped == STAGES


@pytest.mark.parametrize(
    ("start", "until", "found"),
    [
        ("trian", None, "did you mean 'train'?"),
        (None, "reports", "did you mean 'report'?"),
        ("sample", "train", "--from sample comes after --until train"),
        ("nonsense", None, "stages of this recipe: prepare, encode"),
    ],
)
def test_stage_names_are_checked_first(recipe_path, tmp_path, start, until, found):
    with pytest.raises(StageError) as caught:
        run(load(recipe_path), run_dir=tmp_path / "run", start=start, until=until)
    assert found in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_missing_files_of_several_components_are_one_error_before_any_work(recipe_path, tmp_path):
    missing = (f"autoencoder.weights={tmp_path}/vae.safetensors", f"backbone.weights={tmp_path}/net.safetensors")
    with pytest.raises(MissingFileError) as caught:
        run(load(recipe_path, *missing, f"data.root={tmp_path}/scans"), run_dir=tmp_path / "run")
    for name in ("vae.safetensors", "net.safetensors", "scans", "tiny-ae", "tiny-conv", "data.root"):
        assert name in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_python_call_is_the_command(finished, recipe_path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = ctgen.run(ctgen.load_recipe(recipe_path, ["train.steps=2"]), until="train")
    assert result.run_dir == Path("runs/tiny")
    command = [sys.executable, "-m", "ctgen", "run", str(recipe_path), "train.steps=2", "--until", "train"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split(" (")[0] for line in done.stdout.splitlines()] == [
        "prepare: already done, skipped",
        "encode: already done, skipped",
        "train: already done, skipped",
        "run folder: runs/tiny",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_between_pieces_of_work_and_the_same_call_goes_on(finished, recipe_path, tmp_path, number):
    class Stop:
        @hookimpl
        def ctgen_stage_started(self, stage, folder):
            if stage == "sample":
                signal.raise_signal(number)

    host = Host.discover()
    host.manager.register(Stop())
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught:
        run(load(recipe_path, host=host), run_dir=tmp_path / "run")
    assert "the same command goes on" in caught.value.hint
    assert signal.getsignal(number) is before
    sample = stage_folder(tmp_path / "run", "sample")
    assert not (sample / "stage.json").exists()
    again = run(load(recipe_path), run_dir=tmp_path / "run")
    assert again.skipped == ("prepare", "encode", "train")
    whole = finished[0].folders["sample"]
    for path in whole.glob("*.nii.gz"):
        assert (sample / path.name).read_bytes() == path.read_bytes()


def test_nothing_to_sample_for_is_said_before_training(tmp_path):
    path = write_recipe(tmp_path, count=2)
    with pytest.raises(DataError, match="no valid case is left") as caught:
        run(load(path, "data.valid_fraction=0"), run_dir=tmp_path / "run")
    assert "sample.split=train" in caught.value.hint
    assert "--until train" in caught.value.hint
    assert not list((tmp_path / "run").glob("encode-*"))
    result = run(load(path, "data.valid_fraction=0"), run_dir=tmp_path / "run", until="train")
    assert "train" in result.folders


def test_nothing_to_train_on_is_said_before_encoding(tmp_path):
    path = write_recipe(tmp_path, count=1)
    with pytest.raises(DataError, match="no train case is left"):
        run(load(path, "data.valid=[scan0]"), run_dir=tmp_path / "run")
    assert not list((tmp_path / "run").glob("encode-*"))


def test_without_held_out_cases_training_works_and_train_cases_are_sampled(tmp_path):
    path = write_recipe(tmp_path, count=2)
    result = run(load(path, "data.valid_fraction=0", "sample.split=train"), run_dir=tmp_path / "run")
    assert {file.name for file in result.folders["sample"].glob("*.nii.gz")} == {"scan0.nii.gz", "scan1.nii.gz"}


def test_fewer_cases_than_asked_for_are_said(tmp_path):
    path, said = write_recipe(tmp_path, count=3), Said()
    run(load(path, "sample.count=5"), run_dir=tmp_path / "run", until="sample", console=said)
    assert "  1 valid cases, fewer than sample.count = 5" in said.lines


def test_random_networks_that_are_not_trained_do_not_follow_the_training_seed(tmp_path):
    """Otherwise the latent cache of one seed would be decoded with the random weights of another."""
    text = RECIPE.replace(
        "{use: tiny-ae, cell: 8, channels: 4}",
        "{use: flux-vae, weights: random, widths: [4, 4], groups: 4, layers: 1, latent_channels: 4}",
    )
    path = write_recipe(tmp_path, text)
    first, second = (ctgen.stages.components.build_components(load(path, f"train.seed={seed}")) for seed in (0, 1))
    weights = [parts["autoencoder"].state_dict() for parts in (first, second)]
    assert all((weights[0][key] == weights[1][key]).all() for key in weights[0])
    trained = [parts["backbone"].state_dict() for parts in (first, second)]
    assert any((trained[0][key] != trained[1][key]).any() for key in trained[0])


def test_two_runs_are_the_same_bit_for_bit(finished, recipe_path, tmp_path):
    again = run(load(recipe_path), run_dir=tmp_path / "run", until="sample")
    for stage, pattern in (
        ("prepare", "cases/*.npy"),
        ("prepare", "manifest.json"),
        ("encode", "latents.h5"),
        ("train", "final/*.safetensors"),
        ("sample", "*.nii.gz"),
    ):
        files = sorted(finished[0].folders[stage].glob(pattern))
        assert files
        for file in files:
            assert file.read_bytes() == (again.folders[stage] / file.relative_to(finished[0].folders[stage])).read_bytes()


def test_new_scans_are_another_data_set(tmp_path):
    path = write_recipe(tmp_path, count=2)
    run(load(path), run_dir=tmp_path / "run", until="prepare")
    write_scans(tmp_path / "scans", 3)
    result = run(load(path), run_dir=tmp_path / "run", until="prepare")
    assert result.skipped == ()
    assert len(list((tmp_path / "run").glob("prepare-*"))) == 2


def test_two_runs_in_one_folder_are_refused(finished, recipe_path):
    run_dir = finished[0].run_dir
    code = (
        "import sys, fcntl\n"
        "handle = open(sys.argv[1], 'a')\n"
        "fcntl.lockf(handle, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(run_dir / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(StageError, match="another ctgen run is at work in") as caught:
        run(load(recipe_path), run_dir=run_dir)
    assert "--run-dir" in caught.value.hint
    # killed, not ended: the lock goes with the process
    other.kill()
    other.wait()
    assert run(load(recipe_path), run_dir=run_dir).skipped == STAGES
