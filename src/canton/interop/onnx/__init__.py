"""Layers to ONNX (`export`), and ONNX files to layers (`load`)."""

from canton.interop.onnx.reader import LoadedGraph, NodeInputs, load

__all__ = ["LoadedGraph", "NodeInputs", "load"]
