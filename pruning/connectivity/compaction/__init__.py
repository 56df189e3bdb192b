"""Dense networks that are smaller: what masks leave unused is cut out of the arrays, and outputs stay.

The function of the network is traced (``programs.py``); which axes of its arrays belong together follows
from its primitives (``axis_rules.py``), which entries are wanted from what the input reaches
(``dependence.py``, ``choosing.py``), and what a removed unit adds goes into a bias (``constants.py``).
The program then runs on the smaller arrays (``running.py``). Nothing here decides what is pruned.
"""
