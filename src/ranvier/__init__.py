"""Ranvier: spiking neural networks on PyTorch."""
