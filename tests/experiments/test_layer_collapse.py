"""Layer collapse: the grid, the critical compression, and the fractions of published runs."""

import csv
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

import pruning
from experiments import layer_collapse
from experiments.collapse_report import critical_powers, densities, emptied, read_published
from experiments.layer_collapse import LayerCollapse, compression_grid
from experiments.untrained import Network

PUBLISHED = Path(__file__).parents[2].parent / "shared/reference/synflow_layer_density_vgg16_cifar100.csv"
SMALL = LayerCollapse(model="lenet-300-100", seeds=2, step=1.0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("collapse") / "run"
    return layer_collapse.run(dataclasses.replace(SMALL, out_dir=path))


@pytest.fixture(scope="module")
def rows(finished):
    return pq.read_table(finished / "results.parquet").to_pylist()


def test_the_grid_ends_at_the_maximal_compression():
    masks = {"a": jnp.ones((100, 20), bool), "b": jnp.ones((100, 20), bool), "bias": None}
    assert compression_grid(masks, 1.0) == [0, 1, 2, 3, pytest.approx(np.log10(2000))]
    masks = {"a": jnp.ones((100, 10), bool)}
    assert compression_grid(masks, 1.5) == [0, 1.5, 3]


def made_up(kept, sparsity, seed=0):
    counts = {f"kept{name}": value for name, value in kept.items()}
    return {"sparsity_target": sparsity, "seed": seed, "sizea": 10, "sizeb": 100} | counts


def test_the_critical_compression_is_the_last_before_a_layer_is_empty():
    rows = [
        made_up({"a": 10, "b": 100}, 0.0),
        made_up({"a": 1, "b": 10}, 0.9),
        made_up({"a": 0, "b": 2}, 0.99),
        made_up({"a": 1, "b": 1}, 0.999),
        made_up({"a": 1, "b": 1}, 0.0, seed=1),
        made_up({"a": 1, "b": 1}, 0.9, seed=1),
        made_up({"a": 1, "b": 1}, 0.99, seed=1),
        made_up({"a": 1, "b": 1}, 0.999, seed=1),
    ]
    assert critical_powers(rows, [0, 1, 2, 3]) == [1, 3]
    assert emptied(rows[2]) == ["a"]
    np.testing.assert_allclose(densities(rows[:2]), [0.55, 0.55])


def test_synflow_reaches_the_maximal_compression_and_magnitude_does_not(rows):
    """At N / L three weights are left for three layers, one each."""
    last = max(row["sparsity_target"] for row in rows)
    at_last = [row for row in rows if row["sparsity_target"] == last]
    assert [emptied(row) for row in at_last if row["method"] == "synflow"] == [[], []]
    assert all(emptied(row) for row in at_last if row["method"] == "magnitude")


def test_counts_are_exact(rows):
    for row in rows:
        kept = sum(value for name, value in row.items() if name.startswith("kept"))
        size = sum(value for name, value in row.items() if name.startswith("size"))
        assert size - kept == pruning.pruned_count(row["sparsity_target"], size)


def test_the_run_is_complete_and_prints_again(finished, capsys):
    layer_collapse.run(dataclasses.replace(SMALL, out_dir=finished))
    assert "maximal compression N / L" in capsys.readouterr().out
    assert (finished / "layers.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 0.0}, "--step > 0"),
        ({"methods": ("snap",)}, "unknown method"),
        ({"methods": ()}, "at least one value of --methods"),
        ({"reference": Path("nowhere.csv")}, "--reference to be a file"),
        ({"classes": 0}, "--classes >= 1"),
        ({"seeds": 0}, "--seeds >= 1"),
        ({"model": "vgg-17"}, "unknown model"),
    ],
)
def test_options_that_are_wrong_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


def write_csv(path, layers):
    names = ["pruner", "log10_compression", *(f"L{layer}_keep" for layer in range(layers))]
    path.write_text(",".join(names) + "\n" + ",".join(["mag", "1.0"] + ["0.5"] * layers) + "\n")
    return path


def test_published_fractions_are_set_beside_ours(finished, tmp_path):
    """The masks are there; only the summary is written again."""
    before = {part: part.stat().st_mtime_ns for part in (finished / "parts").iterdir()}
    reference = write_csv(tmp_path / "published.csv", 3)
    layer_collapse.run(dataclasses.replace(SMALL, out_dir=finished, reference=reference))
    assert {part: part.stat().st_mtime_ns for part in (finished / "parts").iterdir()} == before
    assert "| magnitude | 1 | 0." in (finished / "summary.md").read_text()


def test_published_fractions_of_another_network_are_an_error_before_any_mask(tmp_path):
    reference = write_csv(tmp_path / "published.csv", 14)
    config = dataclasses.replace(SMALL, out_dir=tmp_path / "run", reference=reference)
    with pytest.raises(ValueError, match=r"L0_keep to L2_keep \(the network has 3 layers\)"):
        layer_collapse.run(config)
    assert not config.out_dir.exists()


@pytest.mark.parametrize(
    ("repeats", "message"), [(0, "columns alone"), (2, "mag at log10_.* 1 once.*line 3")]
)
def test_published_fractions_are_there_once(tmp_path, repeats, message):
    reference = write_csv(tmp_path / "published.csv", 3)
    head, line = reference.read_text().splitlines()
    reference.write_text("\n".join([head, *[line] * repeats]) + "\n")
    with pytest.raises(ValueError, match=message):
        read_published(reference, layers=3)


def test_fewer_classes_than_the_data_have_is_an_error():
    with pytest.raises(ValueError, match="--classes of at least the data set's 10, got 9"):
        Network(dataclasses.replace(SMALL, classes=9))


@pytest.mark.skipif(not PUBLISHED.is_file(), reason=f"no published fractions at {PUBLISHED}")
@pytest.mark.parametrize("method", ["random", "magnitude"])
def test_fractions_of_vgg16_are_the_published_ones(method):
    """100 classes, Kaiming normal: the reference's network. Large layers, to four standard deviations."""
    name = {"random": "rand", "magnitude": "mag"}[method]
    network = Network(LayerCollapse(model="vgg-16", classes=100))
    state = network.initial(0)
    seen = network.maker.seen(0, jax.random.key(0), state, state.params)
    with PUBLISHED.open() as file:
        lines = [line for line in csv.DictReader(file) if line["pruner"] == name]
    for line in lines:
        power = float(line["log10_compression"])
        if not 0 < power <= 2:
            continue
        masks = network.maker.masks(method, seen, 1 - 10**-power)
        row = layer_collapse.layer_columns(network, state, masks)
        found = densities([row])
        expected = np.array([float(line[f"L{layer}_keep"]) for layer in range(14)])
        # The colour channels of digits are fewer: the first layer is another.
        sizes = np.array([value for column, value in row.items() if column.startswith("size")])
        spread = np.sqrt(2 * expected * (1 - expected) / sizes)
        assert np.all(np.abs(found - expected)[1:] <= 4 * spread[1:] + 2e-4), power
