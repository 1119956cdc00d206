"""vit-export: a checkpoint as a program: ONNX, StableHLO or torch.export, checked before it is called done."""
