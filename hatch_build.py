"""What hatchling does besides packing the files: nothing yet. The native kernel is to be built here."""

from __future__ import annotations

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    """Leaves the wheel as it is."""
