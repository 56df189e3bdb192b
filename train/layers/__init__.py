"""Convolutions, batch normalisation and pooling with gradients of our own, fast in loops on CPU.

The models made of them are in `models/`.
"""
