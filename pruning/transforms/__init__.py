"""What acts inside an optax chain: hold masks, accumulate gradients, prune while training.

What a network with gates or scores beside its weights computes with is in `gates/`.
"""
