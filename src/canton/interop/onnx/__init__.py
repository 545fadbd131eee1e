"""Export of layers to ONNX."""
