"""What of a masked network is connected, read from its jaxpr: effective masks, dead units, multiply-adds.

Nothing here runs the network on numbers or decides what is pruned.
"""
