"""Differentiable search over the blocks of a space, with latency and energy tables in the loss (FBNet, HANNA)."""
