"""From one sparsity to a sparsity for each layer.

What selects weights within the layers is in `masks/`.
"""
