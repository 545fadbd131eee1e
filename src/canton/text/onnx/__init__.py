"""Export of byte models to ONNX."""
