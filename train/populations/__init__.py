"""Population training: many networks side by side in one compiled program, over devices, within memory.

What a member is trained by is a recipe (`recipes.py`); what decides its masks is the caller's method.
"""
