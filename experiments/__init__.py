"""Runnable modules, one per figure or table: ``python -m experiments.NAME --help``."""
