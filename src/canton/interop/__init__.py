"""Weights from and to other systems; every conversion says its algebra in its docstring.

One module per system, each imported on its own so that none of their packages is needed for another:
`torch_nn`, `keras` and `keras_files`, `flax`, `convgru` (RAFT, Robust Video Matting, MXNet), `pasted` (a
ConvGRU of unknown origin), `onnx`.
"""

__all__ = ["convgru", "flax", "keras", "keras_files", "onnx", "pasted", "torch_nn"]
