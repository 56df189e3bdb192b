"""Convolutions, batch normalisation and pooling that are fast in loops on CPU, with gradients of our own.

The models made of them are in `models/`.
"""
