"""The verdicts of runs with other networks, side by side."""
