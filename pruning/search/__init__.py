"""What looks for masks by training candidates: K-starts, successive elimination, evolution.

Nothing here trains: the caller's function does.
"""
