"""Runnable modules, one per figure or table: ``python -m experiments.NAME --help``."""

import os

# XLA logs an error for every program that it reads from the cache of a CPU with AVX-512, though it fits
# (jax issue 38445). Before jax is imported its log is silenced below fatal errors, unless one wants it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
