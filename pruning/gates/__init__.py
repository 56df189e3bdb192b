"""What trains gates beside the weights: Continuous Sparsification, supermasks.

What acts on updates alone is in `transforms/`.
"""
