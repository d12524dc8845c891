"""Finished models, trained elsewhere: an ONNX, TorchScript or torch.export file becomes a model store."""
