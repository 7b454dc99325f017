"""What leaves for a device: the packed file, ONNX, the engine that runs it, and how it compares."""
