"""Data sets: where images come from, how they are read and kept, and how they become what a model sees.

What trains on them is in `populations/`.
"""
