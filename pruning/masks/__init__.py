"""The mask pytree: counts, selection, rounds and ablations of masks, and where masks are kept.

What gives weights the scores that are selected by is in `scores/`.
"""
