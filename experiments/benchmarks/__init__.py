"""Speed, as ratios measured in one run; whether what is computed is right is tested in ``tests``."""
