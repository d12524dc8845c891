"""From trained weights to what is served: TorchScript, ONNX, the parity check, the model card, TorchServe's archive."""

import fashion_mnist  # noqa: F401 - before torch, to say how its threads wait
