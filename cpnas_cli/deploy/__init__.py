"""What leaves for a device: packed file, ONNX, the engine that `predict` runs; and how that compares, measured."""
