"""Made scenes, with exact truth, as fast as they are learned from."""

from canton.track.synthetic.scene import KINDS, TARGETS, Scene, make_scene

__all__ = ["KINDS", "TARGETS", "Scene", "make_scene"]
