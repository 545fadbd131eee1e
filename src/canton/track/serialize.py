"""Sightings as text: a JSON line a frame, or the rows of the MOT challenge."""

from __future__ import annotations

import json

from canton.track.pipeline import Sighting


def json_line(sighting: Sighting) -> str:
    """One frame as one line of JSON.

    frame counts from 0, seconds from the video's start; a box is [x, y, w, h] and a centre [x, y] in px, from
    the upper left; scores and belief lie in [0, 1]. `tracks` have a number, `peaks` are all that reached the
    threshold, tracked or not.
    """
    frame = sighting.frame
    return json.dumps(
        {
            "frame": frame.index,
            "seconds": round(frame.seconds, 4),
            "cut": frame.cut,
            "belief": round(sighting.belief, 4),
            "tracks": [
                {
                    "id": track.id,
                    "box": _rounded(track.box),
                    "centre": _rounded(track.box.centre),
                    "score": round(track.score, 4),
                    "age": track.age,
                }
                for track in sighting.tracks
            ],
            "peaks": [
                {
                    "centre": _rounded(peak.box.centre),
                    "size": _rounded((peak.box.width, peak.box.height)),
                    "score": round(peak.score, 4),
                }
                for peak in sighting.peaks
            ],
            "latency_ms": round(sighting.latency_ms, 3),
        },
        separators=(",", ":"),
    )


def mot_rows(sighting: Sighting) -> list[str]:
    """Return one MOT row a track: frame (from 1), id, x, y, width, height (px), score, -1, -1, -1.

    Source: Leal-Taixé et al. 2015, arXiv:1504.01942 (MOTChallenge).
    """
    return [
        f"{sighting.frame.index + 1},{track.id},{box.x:.2f},{box.y:.2f},{box.width:.2f},{box.height:.2f},"
        f"{track.score:.4f},-1,-1,-1"
        for track in sighting.tracks
        for box in (track.box,)
    ]


def _rounded(numbers: tuple[float, ...]) -> list[float]:
    return [round(number, 2) for number in numbers]
