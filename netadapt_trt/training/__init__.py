"""Data, fine-tuning, evaluation and checkpoints. PyTorch only; nothing here knows about devices to deploy to."""
