"""From trained weights to what is served: TorchScript, ONNX, the parity check, the model card, TorchServe's archive."""
