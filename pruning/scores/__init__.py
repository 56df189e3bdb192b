"""What each method thinks a weight is worth; the highest are kept.

What makes masks of scores is in `masks/`.
"""
