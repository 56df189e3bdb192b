"""Small finished runs, made by hand: what an experiment stores, with numbers that a test has chosen."""

import json

import numpy as np

from experiments.effective_sparsity import EffectiveSparsity
from experiments.layer_collapse import LayerCollapse
from experiments.methods.point import DENSE, Point
from experiments.missing_the_mark import MissingTheMark
from experiments.pruning_methods import PruningMethods
from experiments.report.bought import SPEEDUPS
from experiments.report.writing import store_rows
from experiments.what_masks_buy import WhatMasksBuy

EPOCHS = 2
FACTS = {"steps_per_epoch": 23}
BY_SEED = {
    (DENSE, 0.0): (0.98, 0.96),
    ("random", 0.5): (0.8, 0.9),
    ("random", 0.9): (0.5, 0.7),
    ("snip", 0.5): (0.9, 0.96),
    ("snip", 0.9): (0.75, 0.75),
}
"""Final accuracies of two seeds, by method and sparsity."""


def trained(accuracies, *, variant="none", step=0):
    """The rows of networks, of which every epoch before the last has accuracy 0.1."""
    return [
        row_of(
            Point(method, variant=variant, pruned_at_step=step, sparsity_target=sparsity, seed=seed),
            sparsity=sparsity,
            epoch=epoch,
            test_accuracy=accuracy if epoch == EPOCHS else 0.1,
        )
        for (method, sparsity), of_seeds in accuracies.items()
        for seed, accuracy in enumerate(of_seeds)
        for epoch in range(1, EPOCHS + 1)
    ]


def row_of(point, **columns):
    others = {"test_loss": None, "failed": False, "seconds": 1.0}
    return {"member": point.name} | point._asdict() | others | columns


def store(folder, options, rows, facts=FACTS):
    """Writes a finished run's table, and a config.json as of a run that has a folder of its own."""

    def write(name, content):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    settings = json.loads(json.dumps(options.settings())) | {"seed_keys": 2}
    store_rows(write, rows, settings, facts)
    write("config.json", json.dumps({"settings": settings}).encode())
    return folder


def pruning_methods(folder, accuracies=BY_SEED, **options):
    """A run of ``experiments.pruning_methods`` with random pruning and SNIP."""
    given = {"methods": ("random", "snip"), "sparsities": (0.5, 0.9), "seeds": 2, "epochs": EPOCHS}
    return store(folder, PruningMethods(**given | options), trained(accuracies))


def missing_the_mark(folder):
    """A run of ``experiments.missing_the_mark`` with an ablation of SNIP, and SNIP at a later step."""
    options = MissingTheMark(
        methods=("random", "snip"), ablations=("shuffle",), sparsities=(0.5, 0.9), seeds=2, epochs=EPOCHS
    )
    rows = trained(BY_SEED) + trained({("snip", 0.5): (0.6, 0.7)}, variant="shuffle")
    return store(folder, options, rows + trained({("snip", 0.9): (0.85, 0.95)}, step=23))


def layer_collapse(folder):
    """A run of ``experiments.layer_collapse``: two layers of 100 weights, compressions 1 and 10."""
    kept = {
        ("random", 0.0): ((100, 100), (100, 100)),
        ("random", 0.9): ((10, 10), (12, 8)),
        ("synflow", 0.0): ((100, 100), (100, 100)),
        ("synflow", 0.9): ((20, 0), (18, 0)),
    }
    rows = []
    for (method, sparsity), of_seeds in kept.items():
        for seed, (first, second) in enumerate(of_seeds):
            point = Point(method, sparsity_target=sparsity, seed=seed)
            layers = {"kept['a']['kernel']": first, "kept['b']['kernel']": second}
            layers |= {"size['a']['kernel']": 100, "size['b']['kernel']": 100}
            sparsity_now = 1 - (first + second) / 200
            rows.append(row_of(point, sparsity=sparsity_now, epoch=0, test_accuracy=None, **layers))
    options = LayerCollapse(methods=("random", "synflow"), seeds=2, step=1.0)
    return store(folder, options, rows, {"layers": ["['a']['kernel']", "['b']['kernel']"]})


def effective_sparsity(folder):
    """A run of ``experiments.effective_sparsity``; random pruning cuts one of two networks in two."""
    found = {
        ("random", 0.5): (0.5, 0.6),
        ("random", 0.9): (0.95, 1.0),
        ("synflow", 0.5): (0.5, 0.5),
        ("synflow", 0.9): (0.9, 0.9),
    }
    rows = [
        row_of(
            Point(method, sparsity_target=sparsity, seed=seed),
            sparsity=sparsity,
            epoch=0,
            test_accuracy=None,
            effective_sparsity=effective,
            dead_units=3,
            units=10,
            cut_off_layers=0,
        )
        for (method, sparsity), of_seeds in found.items()
        for seed, effective in enumerate(of_seeds)
    ]
    options = EffectiveSparsity(methods=("random", "synflow"), seeds=2, sparsities=(0.5, 0.9))
    return store(folder, options, rows, {"layers": []})


def what_masks_buy(folder):
    """A run of ``experiments.what_masks_buy``: SNIP gains at 0.9 alone; one random network is cut in two.

    The lowest and the highest pair are a tenth below and above the speed that is given.
    """
    found = {
        ("random", 0.5): (1.5, 2.0),
        ("random", 0.9): (3.0, np.nan),
        ("snip", 0.5): (1.0, 1.4),
        ("snip", 0.9): (2.0, 4.0),
    }
    rows = []
    for (method, sparsity), of_seeds in found.items():
        for seed, speed in enumerate(of_seeds):
            dense = ("flops_dense", "flops_ideal_sparse", "bytes_dense", "bytes_gzip")
            small = ("weights_compacted", "flops_compacted", "bytes_compacted")
            is_cut = np.isnan(speed)
            columns = {"weights": 100, "weights_kept": 100 * (1 - sparsity), "bytes_packed": 4}
            columns |= dict.fromkeys(dense, 8) | dict.fromkeys(small, np.nan if is_cut else 2)
            columns["cut"] = float(is_cut)
            for name in SPEEDUPS:
                columns |= {name: speed, f"{name}_low": 0.9 * speed, f"{name}_high": 1.1 * speed}
            point = Point(method, sparsity_target=sparsity, seed=seed)
            rows.append(row_of(point, sparsity=sparsity, epoch=0, test_accuracy=None, **columns))
    options = WhatMasksBuy(methods=("random", "snip"), seeds=2, sparsities=(0.5, 0.9))
    return store(folder, options, rows, {"layers": []})
