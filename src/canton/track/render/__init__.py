"""Overlays, figures and plots."""
