"""Export of layers and models to ONNX."""
