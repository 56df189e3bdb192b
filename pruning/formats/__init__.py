"""Masked params in the forms that others read: sparse matrices, packed files.

Nothing here computes with them.
"""
