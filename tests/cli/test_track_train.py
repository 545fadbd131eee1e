"""`canton track train`, `evaluate`, `figure`, `export`, and `canton info` of a tracking model; bad input."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")

from canton.cli.models import TRACK_MODELS, load_pretrained
from canton.track.checkpoint import load_model
from canton.track.synthetic import make_scene
from canton.track.train_sources import SceneSource
from cli.conftest import Canton

TINY = (
    "--batch-size",
    "1",
    "--frames-per-step",
    "2",
    "--crop-size",
    "48",
    "--workers",
    "0",
    "--memory",
    "4",
    "--quiet",
)


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic clips in video files: a drone in all but the last of each split."""
    from canton.track.video.writer import VideoWriter

    folder = tmp_path_factory.mktemp("footage")
    labels, splits = ["clip,modality,class,frame,x,y,w,h"], ["clip,modality,class,split"]
    for split in ("train", "val", "test"):
        for k in range(2):
            scene = make_scene(k, frames=12, size=64, kind="thermal", present=k == 0)
            name, kind = f"{split}_{k}", "BIRD" if k else "DRONE"
            with VideoWriter(folder / f"{name}.mp4", 64, 64, 10.0) as writer:
                for picture in scene.frames:
                    writer.write(picture)
            for t, box in enumerate(scene.boxes):
                if box[0] == box[0]:
                    labels.append(f"{name},IR,{kind},{t}," + ",".join(f"{float(v):.1f}" for v in box))
            splits.append(f"{name},IR,{kind},{split}")
    (folder / "labels.csv").write_text("\n".join(labels))
    (folder / "splits.csv").write_text("\n".join(splits))
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def trained(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from canton.cli import main

    out = tmp_path_factory.mktemp("model") / "track.safetensors"
    assert main(["track", "train", "--footage", str(footage), "--steps", "3", "--out", str(out), *TINY]) == 0
    return out


def test_train_prints_scores(canton: Canton, footage: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    done = canton("track", "train", "--footage", footage, "--steps", "2", "--out", out, *TINY)
    assert done.status == 0
    assert done.out.startswith("F1 ")
    held = load_model(out)
    assert held.header["held_out"]["frames"] == 24
    assert held.header["curve"]["points"][-1][0] == 2
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (canton-torch[plot])")
    assert (tmp_path / "m.curve.png").read_bytes().startswith(b"\x89PNG")


def test_train_on_scenes_without_memory(
    canton: Canton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("canton.track.train_sources.HELD_OUT_SCENES", 2)
    out = tmp_path / "m.safetensors"
    done = canton(
        "track", "train", "--no-recurrent", "--scene-kind", "thermal", "--steps", "1", "--out", out, *TINY
    )
    assert done.status == 0
    held = load_model(out)
    assert not held.model.architecture.recurrent
    assert held.header["training"]["scenes"]


def test_evaluate_windows_output(canton: Canton, trained: Path, footage: Path, tmp_path: Path) -> None:
    wanted, plot = tmp_path / "figures.json", tmp_path / "recall.png"
    words = ("--footage", footage, "--threshold", "0.05", "--json", wanted, "--windows")
    done = canton("track", "evaluate", trained, *words)
    assert done.status == 0
    assert "false alarms per frame" in done.out
    figures = json.loads(wanted.read_text())
    assert figures["clips"] == 2
    for name in ("clean", "hard"):
        assert figures[name]["all"]["frames"] == 24
        assert figures[name]["own"]["frames"] == 12
        assert len(figures[name]["recall_by_frame"]) == 12
        assert 0 <= figures[name]["own"]["f1"] <= 1
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (canton-torch[plot])")
    assert canton("track", "evaluate", trained, *words, "--plot", plot).status == 0
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_evaluate_measures_what_watch_prints(canton: Canton, footage: Path, tmp_path: Path) -> None:
    written, wanted = tmp_path / "points.json", tmp_path / "figures.json"
    words = ("--footage", footage, "--threshold", "0.05", "--points", written, "--json", wanted)
    done = canton("track", "evaluate", "infrared", *words, "--group-by", "modality")
    assert done.status == 0
    assert "IDF1" in done.out
    figures = json.loads(wanted.read_text())
    assert figures["all"]["frames"] == 24
    assert (figures["kinds"]["drone"]["targets"], figures["kinds"]["bird"]["targets"]) == (12, 0)
    assert set(figures["clips"]) == {"test_0", "test_1"}
    assert figures["groups"]["modality"]["IR"]["clips"] == 2
    points = json.loads(written.read_text())
    assert points["test_0"], "a threshold that finds something"
    for name, found in points.items():
        rows = canton(
            "track", "watch", "infrared", footage / f"{name}.mp4", "--threshold", "0.05", "--csv", "-"
        )
        cells = [[float(cell) for cell in line.split(",")] for line in rows.out.splitlines()]
        watched = [[c[0] - 1, c[2] + c[4] / 2, c[3] + c[5] / 2, c[6]] for c in cells]
        assert np.allclose(found, watched, atol=0.02)
    half = canton("track", "evaluate", "infrared", "--footage", footage, "--every-clip", "2", "--json", "-")
    assert json.loads(half.out)["all"]["clips"] == 2, "the first of each kind"


def test_without_a_model_the_shipped_one_is_taken(
    canton: Canton, footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By evaluate and by figure, with the threshold that its own file tells."""
    wanted, drawn = tmp_path / "figures.json", tmp_path / "figure.png"
    assert canton("track", "evaluate", "--footage", footage, "--json", wanted).status == 0
    figures = json.loads(wanted.read_text())
    shipped = load_pretrained("infrared", load_model)
    assert figures["models"] == {"infrared": {"threshold": shipped.header["threshold"]}}, "no colours"
    opened: list[str] = []
    monkeypatch.setattr(
        "canton.track.checkpoint.load_model", lambda path: opened.append(path.name) or load_model(path)
    )
    for kind in ("thermal", "article"):
        assert canton("track", "figure", "--out", drawn, "--frames", "1", "--scene-kind", kind).status == 0
    assert opened == ["infrared.safetensors", "visible.safetensors"]
    done = canton("track", "figure", "--out", drawn, "--frames", "2")
    assert done.status == 0
    assert drawn.stat().st_size > 0
    taken = int(done.out.split("scene ")[1].split(":")[0])
    scenes = SceneSource(kind="article", target_class="drone")
    kinds = [scenes.held_out_scene(k, frames=2).class_name for k in range(taken + 1)]
    assert kinds == ["none"] * taken + ["drone"], "the first scene with something in it"


def test_evaluate_asks_which_model_where_some_clips_have_colours(
    canton: Canton, footage: Path, tmp_path: Path
) -> None:
    from canton.track.video.writer import VideoWriter

    mixed = tmp_path / "mixed"
    shutil.copytree(footage, mixed)
    with VideoWriter(mixed / "test_1.mp4", 64, 64, 10.0) as writer:
        for _ in range(12):
            writer.write(np.full((64, 64, 3), (40, 90, 200), np.uint8))
    line = canton.complains("track", "evaluate", "--windows", "--footage", mixed)
    assert "visible, infrared" in line
    assert canton("track", "evaluate", "visible", "--windows", "--footage", mixed).status == 0
    done = canton("track", "evaluate", "--footage", mixed, "--json", "-")
    assert set(json.loads(done.out)["models"]) == {"infrared", "visible"}, "watch chooses clip by clip"


@pytest.mark.parametrize("shipped", TRACK_MODELS)
def test_train_from_a_pretrained_model(canton: Canton, footage: Path, tmp_path: Path, shipped: str) -> None:
    out = tmp_path / "m.safetensors"
    words = (
        "--footage",
        footage,
        "--start",
        shipped,
        "--steps",
        "1",
        "--learning-rate",
        "1e-9",
        "--out",
        out,
    )
    assert (
        canton(
            "track", "train", *words, "--crop-size", "64", "--batch-size", "2", "--frames-per-step", "2"
        ).status
        == 0
    )
    for (name, a), b in zip(
        load_model(out).model.named_parameters(),
        load_pretrained(shipped, load_model).model.parameters(),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-6), name


def test_options_change_the_start_model(canton: Canton, footage: Path, tmp_path: Path) -> None:
    first, out = tmp_path / "first.safetensors", tmp_path / "m.safetensors"
    plain = ("track", "train", "--footage", footage, "--steps", "1", *TINY, "--early", "0", "--out", first)
    assert canton(*plain).status == 0
    begun = load_model(first).model.architecture
    small = ("--crop-size", "64", "--batch-size", "2", "--frames-per-step", "2", "--workers", "0")
    words = ("track", "train", "--footage", footage, "--steps", "1", *small, "--out", out)
    assert canton(*words, "--start", first, "--early", "2", "--no-recurrent").status == 0
    assert load_model(out).model.architecture == replace(begun, early=2, recurrent=False)
    assert "start" in canton.complains(*words, "--start", first, "--memory", "5")
    again = (*words[:-1], tmp_path / "again.safetensors", "--start", out)
    assert canton(*again).status == 0
    assert not load_model(tmp_path / "again.safetensors").model.architecture.recurrent
    assert canton(*again, "--recurrent").status == 0
    assert load_model(tmp_path / "again.safetensors").model.architecture.recurrent, "it learns to remember"


def test_the_figure_has_three_rows(canton: Canton, trained: Path, tmp_path: Path) -> None:
    import cv2

    from canton.track.render.figure import GAP, LEFT, TOP

    out = tmp_path / "figure.png"
    assert canton("track", "figure", trained, "--out", out, "--frames", "5", "--scene", "1").status == 0
    assert cv2.imread(str(out)).shape == (TOP + 3 * (128 + GAP), LEFT + 5 * (128 + GAP), 3)


def test_export_and_info(canton: Canton, trained: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (canton-torch[onnx])")
    out = tmp_path / "track.onnx"
    assert canton("track", "export", trained, "--out", out).status == 0
    assert [i.name for i in onnx.load(out).graph.input] == ["frames", "early_0", "h_0"]
    printed = canton("info", trained).out
    assert "recall_by_frame" in printed
    assert "threshold" in printed


@pytest.fixture(scope="session")
def brief(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, but the val and test clips are shorter than a window."""
    from canton.track.video.writer import VideoWriter

    folder = tmp_path_factory.mktemp("brief") / "footage"
    shutil.copytree(footage, folder)
    for path in [*folder.glob("val_*.mp4"), *folder.glob("test_*.mp4")]:
        with VideoWriter(path, 64, 64, 10.0) as writer:
            for _ in range(11):
                writer.write(np.zeros((64, 64, 3), np.uint8))
    return folder


def test_problems_of_clips_are_reported(
    canton: Canton, trained: Path, footage: Path, brief: Path, tmp_path: Path
) -> None:
    from track.videos import noise, write_video

    folder = tmp_path / "footage"
    shutil.copytree(footage, folder)
    for split in ("val", "test"):
        shutil.copy(brief / f"{split}_1.mp4", folder)
    for name in ("train_1.mp4", "test_0.mp4"):
        square = np.pad(noise(40), ((0, 0), (0, 16), (0, 0), (0, 0)))  # as the labels
        broken = write_video(folder / name, square, options={"movflags": "faststart"})
        broken.write_bytes(broken.read_bytes()[: broken.stat().st_size * 2 // 3])
    out = tmp_path / "m.safetensors"
    done = canton("track", "train", "--footage", folder, "--steps", "1", "--out", out, *TINY[:-1])
    assert done.status == 0
    assert "train_1.mp4 ends early after" in done.err
    assert "1 val clip is left out: shorter than 12 frames, such as val_1" in done.err
    done = canton("track", "evaluate", trained, "--footage", folder, "--json", "-")
    assert done.status == 0
    assert "test_0.mp4 ends early after" in done.err
    assert json.loads(done.out)["all"]["clips"] == 2
    done = canton("track", "evaluate", trained, "--windows", "--footage", folder, "--json", "-")
    assert done.status == 0
    assert "test_0.mp4 ends early after" in done.err
    assert "skipped: 1 clip shorter than a window, such as test_1" in done.err
    figures = json.loads(done.out)
    assert (figures["clips"], figures["too_short"]) == (1, ["test_1"])
    done = canton("track", "evaluate", trained, "--windows", "--footage", folder, "--quiet")
    assert (done.status, done.err) == (0, "")
    assert "F1 of boxes" in done.out


def test_a_plot_that_cannot_be_drawn_is_refused_at_once(
    canton: Canton, trained: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (canton-torch[plot])")
    nowhere = tmp_path / "nowhere"  # which would be found out later
    words = ("--windows", "--footage", nowhere, "--plot", tmp_path / "recall.xyz")
    assert "recall.xyz" in canton.complains("track", "evaluate", trained, *words)


def test_bad_input_is_one_line(
    canton: Canton, trained: Path, footage: Path, brief: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m.safetensors"
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, said in [
        (("train", "--footage", tmp_path / "nowhere", "--out", out), "nowhere"),
        (("train", "--footage", empty, "--out", out), "label"),
        (("train", "--footage", footage, "--target-class", "kite", "--out", out), "kite"),
        (("train", "--no-scenes", "--out", out), "footage"),
        (("train", "--preset", "2016", "--out", out), "preset"),
        (("train", "--steps", "0", "--scenes", "--out", out), "steps"),
        (("train", "--scene-kind", "night", "--steps", "1", "--out", out), "night"),
        (
            ("train", "--footage", footage, "--scene-kind", "night", "--steps", "1", "--out", out),
            "scene_kind",
        ),
        (("train", "--footage", footage, "--backgrounds", empty, "--out", out), "backgrounds"),
        (("train", "--footage", footage, "--scene-share", "0.9", "--out", out), "scene_share"),
        (("train", "--footage", footage, "--scene-kind", "thermal", "--out", out), "scene_kind"),
        (
            ("train", "--footage", footage, "--frames-per-step", "40", "--steps", "1", "--out", out),
            "frames_per_step",
        ),
        (("train", "--scene-kind", "thermal", "--backgrounds", empty, "--out", out), "backgrounds"),
        (("train", "--workers", "-1", "--out", out), "workers"),
        (("train", "--seed", "-1", "--out", out), "seed"),
        (
            ("train", "--footage", brief, "--frames-per-step", "2", "--steps", "1", "--out", out),
            "must have a val clip",
        ),
        (("train", "--resume", "--out", trained), "resume"),
        (("evaluate", trained, "--windows", "--footage", brief), "clips"),
        (("evaluate", trained, "--footage", footage, "--every", "2"), "--every"),
        (("evaluate", trained, "--footage", footage, "--group-by", "weather"), "weather"),
        (("evaluate", trained, "--windows", "--footage", footage, "--group-by", "split"), "--group-by"),
        (("evaluate", trained, "--footage", footage, "--split-column", "place"), "place"),
        (("evaluate", trained, "--footage", footage, "--json", trained), "--json"),
        (("evaluate", trained, "--windows", "--footage", footage, "--plot", "-"), "--plot"),
        (("evaluate", trained, "--windows", "--footage", footage, "--fps", "0"), "fps"),
        (("evaluate", trained, "--footage", empty), "label"),
        (("evaluate", trained, "--footage", footage, "--split", "exam"), "exam"),
        (("evaluate", trained, "--footage", footage, "--threshold", "nan"), "threshold"),
        (("evaluate", trained, "--footage", footage, "--target-class", "Kite"), "kite"),
        (("evaluate", tmp_path / "none", "--footage", footage), "none"),
        (("figure", trained, "--out", tmp_path / "figure.jpg"), ".png"),
        (("figure", trained, "--frames", "0", "--out", tmp_path / "f.png"), "--frames"),
        (("figure", trained, "--scene-kind", "night", "--out", tmp_path / "f.png"), "night"),
        (("export", footage / "labels.csv"), "safetensors"),
    ]:
        assert said in canton.complains("track", *words), words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]
