"""What acts inside an optax chain: hold masks, accumulate gradients, prune while training.

What trains something beside the weights is in `gates/`.
"""
