"""Networks that are published as ONNX graphs, computed by PyTorch or by onnxruntime."""
