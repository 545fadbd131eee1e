"""Comparisons of the recorded models: training, weight files, generated text, the author's classifier."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import canton.classic as classic
from canton.classic import Act, Can, Conv2D, GRUConv2D, LastDimDense, MaxPool2D
from classic.recorded import FOLDER, Compared, arrays, compare_layer, compare_objective, error, fill


class Text(Can):
    """The article's text model, from one-hot bytes (..., 256) to probabilities."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.gru = self.add(classic.GRU(256, 256, bias))
        self.head = self.add(Can())
        self.head.incan([LastDimDense(256, 64), Act("elu"), LastDimDense(64, 256), Act("softmax")])
        self.head.chain()

    def forward(self, i: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        hidden = self.gru(i, starting_state=state)
        return self.head(hidden), hidden[:, -1]


class Drone(Can):
    """The drone detector, from uint8 frames (batch, time, height, width, 3) to a map of probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = self.add(Can())
        convs = [Conv2D(3, 16, 5, padding="VALID"), *(Conv2D(16, 16, 5, padding="VALID") for _ in range(2))]
        self.eye.incan([convs[0], Act("lrelu"), MaxPool2D(2, 2), convs[1], Act("lrelu"), MaxPool2D(2, 2)])
        self.eye.incan([convs[2], Act("lrelu")])
        self.eye.chain()
        self.gru = self.add(GRUConv2D(16, 16, k=5))
        self.head = self.add(LastDimDense(16, 1))

    def forward(self, i: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = i.float() / 255 - 0.5
        features = self.eye(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        hidden = self.gru(features, starting_state=state)
        return torch.sigmoid(self.head(hidden)), hidden[:, -1]


def one_hot(values: np.ndarray) -> Tensor:
    """Return bytes as one-hot vectors."""
    return torch.nn.functional.one_hot(torch.from_numpy(values.astype(np.int64)), 256).float()


def model(fixture: dict[str, Any]) -> Can:
    """Return the model of a "training" or "weights_io" file."""
    return Drone() if "drone" in fixture["file"] else Text(bias="nobias" not in fixture["file"])


def load(can: Can, file: str) -> None:
    """Call `load_weights` without its printed lines."""
    with contextlib.redirect_stdout(io.StringIO()):
        assert can.load_weights(FOLDER / file)


def compare_training(fixture: dict[str, Any]) -> list[Compared]:
    """Compare losses and final weights of 30 steps of TensorFlow's Adam."""
    z, can = arrays(fixture["file"]), model(fixture)
    source = fixture.get("init_weights_from", "").split()
    if source and source[0].startswith("weights/"):
        load(can, source[0])
    else:
        fill(can, arrays(source[0]) if source else z, "init_")
    start = [w.detach().clone() for w in can.get_weights()]
    adam, losses = classic.TF1Adam(can.parameters(), lr=1e-3), []
    found = _bits_before(can, z)
    for step in range(fixture["steps"]):
        if "drone" in fixture["file"]:
            at = 2 * int(z["order"][step])
            out, _ = can(torch.from_numpy(z["clips"][at : at + 2]))
            truth = torch.from_numpy(z["labels"][at : at + 2]).float() / 255
            loss = classic.binary_cross_entropy_loss(out, truth, l=0.1)
        else:
            batch = z["minibatches"][step]
            loss = classic.cross_entropy_loss(can(one_hot(batch[:, :-1]))[0], one_hot(batch[:, 1:]))
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    final = [w.detach().double() for w in can.get_weights()]
    found.append(Compared("trajectory", "losses", error(losses, z["losses"])))
    found.append(Compared("final loss", "losses[-1]", error(losses[-1:], z["losses"][-1:])))
    found += [
        Compared("trained weights", f"final_w{n}", error(w, z[f"final_w{n}"]))
        for n, w in enumerate(final)
        if f"final_w{n}" in z
    ]
    sums: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "final_l2": lambda w, _: w.norm(),
        "final_sum": lambda w, _: w.sum(),
        "final_delta_l2": lambda w, w0: (w - w0).norm(),
    }
    for name, norm in sums.items():
        if name in z:
            values = [float(norm(w, w0.double())) for w, w0 in zip(final, start, strict=True)]
            found.append(Compared("trained weights", name, error(values, z[name])))
    return found


def _bits_before(can: Can, z: dict[str, np.ndarray]) -> list[Compared]:
    """Compare the bits per byte of the first batch's first two rows before training, if recorded."""
    if "bits_per_char_before" not in z:
        return []
    rows = z["minibatches"][0][:2]
    with torch.no_grad():
        p = (can(one_hot(rows[:, :-1]))[0] * one_hot(rows[:, 1:])).sum(-1)
    return [Compared("output", "bits_per_char_before", error(-torch.log2(p), z["bits_per_char_before"]))]


def compare_weight_files(fixture: dict[str, Any]) -> list[Compared]:
    """Compare outputs, states and generated bytes of a "weights_io" file, with each of its weight files."""
    z, found = arrays(fixture["file"]), []
    for file in fixture["weight_files"]:
        can = model(fixture)
        load(can, file)
        with torch.no_grad():
            i = torch.from_numpy(z["clips"]) if "clips" in z else one_hot(z["bytes"])
            for run, state in (("zero", None), ("state", torch.from_numpy(z["starting_state"]))):
                out, ending = can(i, state)
                found.append(Compared("output", f"{file} {run}_out", error(out, z[f"{run}_out"])))
                found.append(
                    Compared("output", f"{file} {run}_ending", error(ending, z[f"{run}_ending_state"]))
                )
            found += _camera(can, z, file) if "clips" in z else _generation(can, z, file)
    return found


def _camera(can: Can, z: dict[str, np.ndarray], file: str) -> list[Compared]:
    """Compare frame by frame with a decaying state, as in the 2017 camera program."""
    state, maps = None, []
    for frame in z["clips"][0][: len(z["camera_out"])]:
        out, ending = can(torch.from_numpy(frame)[None, None], state)
        state = ending * 0.9
        maps.append(out[0, 0])
    assert state is not None
    return [
        Compared("output", f"{file} camera_out", error(torch.stack(maps), z["camera_out"])),
        Compared("output", f"{file} camera_state", error(state, z["camera_state_after"])),
    ]


def _generation(can: Can, z: dict[str, np.ndarray], file: str) -> list[Compared]:
    """Compare generated bytes: the most likely ones, and those sampled with the recorded random numbers.

    A byte counts as different only if the recorded margin is above 1e-5, beyond rounding.
    """
    found = []
    for name, bytes_name in (("greedy", "greedy_from_newline"), ("sampled", "sampled_bytes")):
        state, byte, wrong = None, 10, 0
        for n, recorded in enumerate(z[bytes_name]):
            out, state = can(one_hot(np.array([[byte]])), state)
            p = out[0, 0].double().numpy()
            chosen = int(p.argmax())
            if name == "sampled":
                chosen = int(np.searchsorted(np.cumsum(p) / p.sum(), z["sampled_u"][n], side="right"))
            wrong += int(chosen != recorded and z[f"{name}_margin"][n] > 1e-5)
            byte = int(recorded)  # continue with the recorded byte
        found.append(Compared("generated bytes", f"{file} {bytes_name}", float(wrong)))
        found.append(Compared("output", f"{file} {name}_state", error(state, z[f"{name}_final_state"])))
    return found


def classifier() -> Can:
    """Return the network of clf.npz, which the author trained in 2017."""
    can = Can()
    for c_in in (3, 16, 16):
        can.incan([Conv2D(c_in, 16, 5, std=2, padding="VALID"), Act("relu")])
    can.incan([Conv2D(16, 1, 1, padding="VALID"), Act("sigmoid")])
    can.chain()
    return can


def compare_classifier(fixture: dict[str, Any]) -> list[Compared]:
    """Compare the maps of one image at two sizes, and their sum as the author computed it."""
    z, can = arrays(fixture["file"]), classifier()
    load(can, fixture["weight_file"])
    large, small = (can.infer(z[f"{level}_bgr"][None] / 255 - 0.5)[0] for level in ("level1", "level2"))
    total, upsampled = large.copy(), pyr_up(small)
    down, right = ((a - b) // 2 for a, b in zip(large.shape[:2], upsampled.shape[:2], strict=True))
    total[down : down + upsampled.shape[0], right : right + upsampled.shape[1]] += upsampled
    maps = {"level1_out": large, "level2_out": small, "probmap": total}
    return [Compared("output", name, error(found, z[name])) for name, found in maps.items()]


def pyr_up(image: np.ndarray) -> np.ndarray:
    """Upsample (height, width, channels) as OpenCV's pyrUp: zeros between the pixels, then smoothing.

    As in OpenCV, the border is mirrored before the first pixel and repeated after the last.
    """
    for axis in (0, 1):
        x = np.moveaxis(image, axis, 0)
        before, after = np.concatenate([x[1:2], x[:-1]]), np.concatenate([x[1:], x[-1:]])
        even, odd = (before + 6 * x + after) / 8, (x + after) / 2
        image = np.moveaxis(np.stack([even, odd], 1).reshape(-1, *x.shape[1:]), 0, axis)
    return image


COMPARE: dict[str, Callable[[dict[str, Any]], list[Compared]]] = {
    "layer": compare_layer,
    "recurrent": compare_layer,
    "objective": compare_objective,
    "training": compare_training,
    "weights_io": compare_weight_files,
    "clf": compare_classifier,
}


def compare(fixture: dict[str, Any]) -> list[Compared]:
    """Return all comparisons of one recorded file."""
    return COMPARE[fixture["kind"]](fixture)
