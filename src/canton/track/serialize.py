"""Results as text: JSON lines and MOT challenge rows."""

from __future__ import annotations

import json

from canton.track.pipeline import FrameResult


def json_line(result: FrameResult) -> str:
    """Return one frame as a line of JSON.

    `frame` counts from 0, `file` is the name of a picture, and `seconds` is the time since the first frame. A
    box is [x, y, width, height] and a centre [x, y], in px from the upper left corner. Scores are in [0, 1].
    `peaks` holds every peak that reaches the threshold, with or without a track.
    """
    frame = result.frame
    return json.dumps(
        {
            "frame": frame.index,
            **({} if frame.name is None else {"file": frame.name}),
            "seconds": round(frame.seconds, 4),
            "cut": frame.cut,
            "max_score": round(result.max_score, 4),
            "tracks": [
                {
                    "id": track.id,
                    "box": _rounded(track.box),
                    "centre": _rounded(track.box.centre),
                    "score": round(track.score, 4),
                    "age": track.age,
                    "moving": track.moving,
                    "speed": round(track.speed, 2),
                }
                for track in result.tracks
            ],
            "peaks": [
                {
                    "centre": _rounded(peak.box.centre),
                    "size": _rounded((peak.box.width, peak.box.height)),
                    "score": round(peak.score, 4),
                }
                for peak in result.peaks
            ],
            "latency_ms": round(result.latency_ms, 3),
        },
        separators=(",", ":"),
    )


def mot_rows(result: FrameResult) -> list[str]:
    """Return one MOT row per track: frame (from 1), id, x, y, width, height (px), score, -1, -1, -1.

    Source: Leal-Taixé et al. 2015, arXiv:1504.01942 (MOTChallenge).
    """
    return [
        f"{result.frame.index + 1},{track.id},{box.x:.2f},{box.y:.2f},{box.width:.2f},{box.height:.2f},"
        f"{track.score:.4f},-1,-1,-1"
        for track in result.tracks
        for box in (track.box,)
    ]


def _rounded(numbers: tuple[float, ...]) -> list[float]:
    return [round(number, 2) for number in numbers]
