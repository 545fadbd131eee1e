"""Synthetic scenes with exact labels, generated as fast as training needs them."""

from canton.track.synthetic.scene import KINDS, TARGETS, Scene, make_scene

__all__ = ["KINDS", "TARGETS", "Scene", "make_scene"]
