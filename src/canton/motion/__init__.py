"""Video: find a small flying thing by its motion, frame by frame, with a belief that sharpens.

The command `canton track` does from the shell what these functions do from Python.
"""

from canton.motion.evaluation import Look, Scores, choose_threshold, look, score
from canton.motion.footage import Clip, Footage
from canton.motion.labels import Box
from canton.motion.learning import Progress, Trained, train
from canton.motion.model import ARTICLE, Architecture, MotionModel
from canton.motion.modelfile import load_model, save_model
from canton.motion.peaks import Peak, find_peaks
from canton.motion.recorder import Recorder
from canton.motion.report import evaluate
from canton.motion.store import Stored, store
from canton.motion.tracks import Tracked, Tracker
from canton.motion.video import Frame, Video, open_video
from canton.motion.watching import Sighting, watch

__all__ = [
    "ARTICLE",
    "Architecture",
    "Box",
    "Clip",
    "Footage",
    "Frame",
    "Look",
    "MotionModel",
    "Peak",
    "Progress",
    "Recorder",
    "Scores",
    "Sighting",
    "Stored",
    "Tracked",
    "Tracker",
    "Trained",
    "Video",
    "choose_threshold",
    "evaluate",
    "find_peaks",
    "load_model",
    "look",
    "open_video",
    "save_model",
    "score",
    "store",
    "train",
    "watch",
]
