"""Detection and tracking of small moving objects in video."""

from canton.track.boxes import Box
from canton.track.checkpoint import load_model, save_model
from canton.track.data.dataset import Clip, Footage
from canton.track.data.frame_cache import CachedClip, cache_frames
from canton.track.evaluate import ClipResult, evaluate, watch_clip
from canton.track.metrics import FramePrediction, Scores, choose_threshold, predict_windows, score
from canton.track.model import ARTICLE, Architecture, TrackModel
from canton.track.peaks import Peak, find_peaks
from canton.track.pipeline import FrameResult, track_video
from canton.track.tracker import Track, Tracker
from canton.track.train import Progress, Trained, train
from canton.track.train_config import TrainConfig
from canton.track.video.reader import Frame, Video, open_video
from canton.track.video.writer import VideoWriter
from canton.track.watch_many import FilmResult, watch_many

__all__ = [
    "ARTICLE",
    "Architecture",
    "Box",
    "CachedClip",
    "Clip",
    "ClipResult",
    "FilmResult",
    "Footage",
    "Frame",
    "FramePrediction",
    "FrameResult",
    "Peak",
    "Progress",
    "Scores",
    "Track",
    "TrackModel",
    "Tracker",
    "TrainConfig",
    "Trained",
    "Video",
    "VideoWriter",
    "cache_frames",
    "choose_threshold",
    "evaluate",
    "find_peaks",
    "load_model",
    "open_video",
    "predict_windows",
    "save_model",
    "score",
    "track_video",
    "train",
    "watch_clip",
    "watch_many",
]
