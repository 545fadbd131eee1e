"""Video: find a small flying thing by its motion, frame by frame, with a belief that sharpens.

The command `canton track` does from the shell what these functions do from Python.
"""

from canton.track.boxes import Box
from canton.track.checkpoint import load_model, save_model
from canton.track.data.dataset import Clip, Footage
from canton.track.data.frame_cache import CachedClip, cache_frames
from canton.track.evaluate import evaluate
from canton.track.metrics import Look, Scores, choose_threshold, look, score
from canton.track.model import ARTICLE, Architecture, TrackModel
from canton.track.peaks import Peak, find_peaks
from canton.track.pipeline import Sighting, watch
from canton.track.tracker import Tracked, Tracker
from canton.track.train import Progress, Trained, train
from canton.track.train_config import TrainConfig
from canton.track.video.reader import Frame, Video, open_video
from canton.track.video.writer import Recorder

__all__ = [
    "ARTICLE",
    "Architecture",
    "Box",
    "CachedClip",
    "Clip",
    "Footage",
    "Frame",
    "Look",
    "Peak",
    "Progress",
    "Recorder",
    "Scores",
    "Sighting",
    "TrackModel",
    "Tracked",
    "Tracker",
    "TrainConfig",
    "Trained",
    "Video",
    "cache_frames",
    "choose_threshold",
    "evaluate",
    "find_peaks",
    "load_model",
    "look",
    "open_video",
    "save_model",
    "score",
    "train",
    "watch",
]
