"""Weights and graphs from and to other systems.

Each module is imported on its own, so that one system's packages are not needed for another:
`torch_nn`, `keras`, `keras_files`, `flax`, `raft` (RAFT and Robust Video Matting), `custom_convgru` (any
other ConvGRU) and `onnx`.
"""

__all__ = ["custom_convgru", "flax", "keras", "keras_files", "onnx", "raft", "torch_nn"]
