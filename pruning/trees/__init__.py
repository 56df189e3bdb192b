"""What a tree of params is: which leaves may be pruned, their names, axes, dtypes and places on devices.

Nothing here knows masks.
"""
