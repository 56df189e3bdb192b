"""Files that are written whole or not at all, and that carry a checksum.

What a file of masks holds is in `masks/saving.py`.
"""
