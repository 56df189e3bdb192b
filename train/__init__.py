"""How networks are trained: models, data, recipes, population training. Imports pruning."""
