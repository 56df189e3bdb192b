"""Layer collapse: the grid, the critical compression, and the fractions of published runs."""

import csv
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import pruning
from experiments.engine.experiment import run
from experiments.engine.untrained import Network
from experiments.layer_collapse import EXPERIMENT, LayerCollapse, compression_grid, look
from experiments.methods.point import Point
from experiments.methods.registry import scored
from experiments.report.layers import critical_powers, densities, first_emptied, read_published
from experiments.report.table import as_table, load
from tests.experiments.made_up import results, row

PUBLISHED = Path(__file__).parents[2].parent / "shared/reference/synflow_layer_density_vgg16_cifar100.csv"
SMALL = LayerCollapse(model="lenet-300-100", seeds=2, step=1.0, methods=("magnitude", "synflow"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(EXPERIMENT, replace(SMALL, out_dir=tmp_path_factory.mktemp("collapse") / "run"))


def test_a_recipe_for_other_images_is_refused():
    with pytest.raises(
        ValueError, match="a mean in the recipe for each of the 1 channels of digits, got 3"
    ):
        Network(replace(SMALL, recipe="assessed-cifar"))


def test_the_grid_ends_at_the_maximal_compression():
    assert compression_grid(4000, 2, 1.0) == [0, 1, 2, 3, pytest.approx(np.log10(2000))]
    assert compression_grid(1000, 1, 1.5) == [0, 1.5, 3]
    with pytest.raises(ValueError, match=r"--step of at least 0\.003"):
        compression_grid(1000, 1, 1e-3)


def made_up(a, b, sparsity, seed=0):
    point = Point("snip", sparsity_target=sparsity, seed=seed)
    return row(point, None, epoch=0, kepta=a, keptb=b, sizea=10, sizeb=100)


def test_the_critical_compression_is_the_last_before_a_layer_is_empty():
    rows = [made_up(10, 100, 0.0), made_up(1, 10, 0.9), made_up(0, 2, 0.99), made_up(1, 1, 0.999)]
    whole = [made_up(1, 1, sparsity, seed=1) for sparsity in (0.0, 0.9, 0.99, 0.999)]
    assert critical_powers(results(rows + whole), "snip") == pytest.approx([1, 3])
    assert first_emptied(results(rows + whole), "snip") == ["a"]
    assert first_emptied(results(whole), "snip") == []
    np.testing.assert_allclose(densities(as_table(rows[:2])), [0.55, 0.55])


@pytest.mark.slow
def test_synflow_reaches_the_maximal_compression_and_magnitude_does_not(finished):
    """At N / L three weights are left for three layers, one each. Counts are exact at every one."""
    table = load(finished)
    kept, sizes = (table.filter(regex=f"^{what}").to_numpy() for what in ("kept", "size"))
    size = int(sizes[0].sum())
    allowed = [pruning.pruned_count(sparsity, size) for sparsity in table["sparsity_target"]]
    np.testing.assert_array_equal(size - kept.sum(axis=1), allowed)
    last = (table["sparsity_target"] == table["sparsity_target"].max()).to_numpy()
    whole = (kept > 0).all(axis=1)
    assert whole[last & (table["method"] == "synflow").to_numpy()].all()
    assert not whole[last & (table["method"] == "magnitude").to_numpy()].any()


def write_csv(path, layers, repeats=1):
    names = ["pruner", "log10_compression", *(f"L{layer}_keep" for layer in range(layers))]
    line = ",".join(["mag", "1.0"] + ["0.5"] * layers) + "\n"
    path.write_text(",".join(names) + "\n" + line * repeats)
    return path


@pytest.mark.slow
def test_published_fractions_are_set_beside_ours(tmp_path, capsys):
    """The masks are there; only the summary is written again."""
    options = replace(SMALL, methods=("magnitude",), out_dir=tmp_path / "run")
    finished = run(EXPERIMENT, options)
    before = {part: part.stat().st_mtime_ns for part in (finished / "parts").iterdir()}
    reference = write_csv(tmp_path / "published.csv", 3)
    run(EXPERIMENT, replace(options, reference=reference))
    assert {part: part.stat().st_mtime_ns for part in (finished / "parts").iterdir()} == before
    said = capsys.readouterr().out
    assert "| Magnitude | 1 | 0." in said
    assert "maximal compression N / L is 4.224" in said
    assert (finished / "layers.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("layers", "repeats", "message"),
    [
        (14, 1, r"L0_keep to L2_keep \(the network has 3 layers\)"),
        (3, 0, "columns alone"),
        (3, 2, "mag at log10_.* 1 once.*line 3"),
    ],
)
def test_published_fractions_that_do_not_fit_are_refused(tmp_path, layers, repeats, message):
    with pytest.raises(ValueError, match=message):
        read_published(write_csv(tmp_path / "published.csv", layers, repeats), layers=3)


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.is_file(), reason=f"no published fractions at {PUBLISHED}")
@pytest.mark.parametrize(("method", "name"), [("random", "rand"), ("magnitude", "mag")])
def test_fractions_of_vgg16_are_the_published_ones(method, name):
    """100 classes, Kaiming normal: the reference's network. Large layers, to four standard deviations."""
    network = Network(LayerCollapse(model="vgg-16", classes=100))
    params, stats = network.initial(0)
    seen = network.maker.seen(0, jax.random.key(0), params, stats, params)
    with PUBLISHED.open() as file:
        lines = [line for line in csv.DictReader(file) if line["pruner"] == name]
    for line in lines:
        power = float(line["log10_compression"])
        if not 0 < power <= 2:
            continue
        masks = network.maker.masks(method, scored()[method].ranking, seen, 1 - 10**-power)
        columns = look(network)(params, masks)
        found = densities(as_table([columns | {"method": method}]))
        expected = np.array([float(line[f"L{layer}_keep"]) for layer in range(14)])
        # The colour channels of digits are fewer: the first layer is another.
        sizes = np.array([value for column, value in columns.items() if column.startswith("size")])
        spread = np.sqrt(2 * expected * (1 - expected) / sizes)
        assert np.all(np.abs(found - expected)[1:] <= 4 * spread[1:] + 2e-4), power
