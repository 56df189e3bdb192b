"""Published accuracies: which rows have a counterpart here, and the table beside ours."""

import csv
import math
from pathlib import Path

import pytest

from experiments.report.published import COLUMNS, beside, read_accuracies
from tests.experiments.made_up import results, several

SHARED = Path(__file__).parents[3].parent / "shared/reference"
ROWS = (
    ("resnet20", "cifar10", "random", "before training", 90.0, 80.0, 0.5),
    ("resnet20", "cifar10", "snip", "init, one-shot", 90.02, 83.0, 0.4),
    ("resnet20", "cifar10", "snip", "scored at rewind point", 90.0, 84.0, 0.4),
    ("resnet20", "cifar10", "snip", "shuffled layerwise; 80 epochs", 90.0, 82.5, ""),
    ("resnet20", "cifar10", "graspabs", "init", 50.0, 88.0, ""),
    ("resnet20", "cifar10", "random", "before training; best epoch", 90.0, 81.0, ""),
    ("resnet20", "cifar10", "magnitude", "keep largest |w|; best epoch", 90.0, 84.5, ""),
    ("wideresnet20", "cifar10", "snip", "init", 90.0, 12.0, ""),
    ("resnet20", "cifar10", "early-bird", "not of ours", 50.0, 88.0, ""),
    ("resnet200", "cifar10", "snip", "init", 90.0, 10.0, ""),
    ("resnet20", "cifar100", "snip", "init", 90.0, 11.0, ""),
)


THREE = (("random", 80.0, 0.5), ("snip", 83.0, ""), ("grasp", 84.0, ""), ("synflow", 70.0, ""))


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return path


@pytest.fixture
def theirs(tmp_path):
    return write_csv(tmp_path / "theirs.csv", ROWS)


def test_rows_of_the_network_with_a_counterpart_are_read(theirs):
    reference = read_accuracies(theirs, model="resnet-20", dataset="cifar10:3.0.2")
    assert reference.name == "theirs.csv"
    found = [(p.method, p.variant, p.of_best_epoch) for p in reference.accuracies]
    assert found == [
        ("random", "none", False),
        ("snip", "none", False),
        ("snip", "shuffle", False),
        ("grasp-absolute", "none", False),
        ("random", "none", True),
        ("magnitude", "none", True),
    ]
    snip = reference.accuracies[1]
    assert (snip.sparsity, snip.accuracy, snip.deviation) == pytest.approx((0.9002, 0.83, 0.004))
    assert math.isnan(reference.accuracies[2].deviation)


def lines_beside(path, rows):
    found = results(rows, model="resnet-20", dataset="cifar10:3.0.2", sparsities=[0.5, 0.9])
    return [line for line in beside(path, found) if line.startswith("| 0.")]


def test_ours_stand_beside_theirs_where_the_sparsity_is_the_same(theirs):
    ours = (
        several("random", [0.50, 0.52, 0.48])
        + several("snip", [0.60, 0.62, 0.61])
        + several("snip", [0.59, 0.59, 0.59], variant="shuffle")
        + several("grasp-absolute", [0.6, 0.6, 0.6])
    )
    first, _, snip, shuffled = lines_beside(theirs, ours)
    assert first == "| 0.9 | Random | before training | 80.00 ± 0.50 | 50.00 ± 2.00 | +0.00 | +0.00 |"
    assert snip == "| 0.9 | SNIP | init, one-shot | 83.00 ± 0.40 | 61.00 ± 1.00 | +3.00 | +11.00 |"
    says = "shuffled layerwise; 80 epochs"
    assert shuffled == f"| 0.9 | SNIP, shuffle | {says} | 82.50 | 59.00 ± 0.00 | +2.50 | +9.00 |"


def test_best_epochs_are_compared_among_themselves_and_without_random_with_nothing(theirs, tmp_path):
    (line,) = lines_beside(theirs, several("magnitude", [0.6]))
    assert line == r"| 0.9 | Magnitude | keep largest \|w\|; best epoch | 84.50 | 60.00 | +3.50 |  |"
    alone = write_csv(tmp_path / "alone.csv", [one for one in ROWS if one[2] != "random"])
    (line,) = lines_beside(alone, several("snip", [0.6]))
    assert line == "| 0.9 | SNIP | init, one-shot | 83.00 ± 0.40 | 60.00 |  |  |"


HEAD = ",".join(COLUMNS)


def test_orders_of_at_least_three_methods_are_compared(tmp_path):
    rows = [("resnet20", "cifar10", name, "init", 90.0, *a) for name, *a in THREE]
    theirs = write_csv(tmp_path / "three.csv", [*rows, *ROWS[5:7]])
    ours = [*several("random", [0.5, 0.6]), *several("snip", [0.8, 0.9]), *several("grasp", [0.7, 0.8])]
    ours += [*several("magnitude", [0.5, 0.6]), *several("synflow", [0.9], failed=True)]
    ours += several("snip", [0.1, 0.1], variant="shuffle")
    found = results(ours, model="resnet-20", dataset="cifar10:3.0.2", sparsities=[0.5, 0.9])
    # SynFlow has diverged, and of best epochs there are two methods only.
    assert beside(theirs, found)[-1] == "| 0.9 | Random, SNIP, GraSP | final | +0.50 |"
    without = results(ours[:4], model="resnet-20", dataset="cifar10:3.0.2", sparsities=[0.5, 0.9])
    assert "rank correlation" not in "".join(beside(theirs, without))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"{HEAD}\nresnet20,cifar100,snip,init,90,11,",
            "resnet-20 on cifar10, .* has resnet20 on cifar1",
        ),
        ("network,dataset", "lacks accuracy, method"),
        (HEAD, "resnet-20 on cifar10, .* has none"),
        (f"{HEAD}\nresnet20,cifar10,snip,init, one-shot,90,83,0.4", "7 values.*line 2.*quotes"),
        (f"{HEAD},std", "different columns"),
        (f"{HEAD}\nresnet20,cifar10,snip,init,90,183,", "from 0 to 100 as accuracy in line 2"),
        (f"{HEAD}\nresnet20,cifar10,snip", "a value of variant in line 2"),
    ],
)
def test_files_that_do_not_fit_are_errors_that_say_so(tmp_path, text, message):
    (tmp_path / "theirs.csv").write_text(text + "\n")
    with pytest.raises(ValueError, match=message):
        read_accuracies(tmp_path / "theirs.csv", model="resnet-20", dataset="cifar10")


TLAB = {"random", "magnitude", "snip", "grasp", "grasp-absolute", "synflow", "lottery-ticket-rewinding"}


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the published numbers in ../shared/reference")
@pytest.mark.parametrize(
    ("name", "model", "dataset", "methods"),
    [
        ("resnet20_vgg16_cifar10_tlab.csv", "resnet-20", "cifar10", TLAB),
        ("synflow_fig1_vgg16_cifar100.csv", "vgg-16", "cifar100", {"random", "magnitude", "snip"}),
    ],
)
def test_published_files_are_understood(name, model, dataset, methods):
    found = read_accuracies(SHARED / name, model=model, dataset=dataset)
    assert methods <= {published.method for published in found.accuracies}
    assert all(0 <= published.sparsity <= 1 for published in found.accuracies)
    assert all(0.01 <= published.accuracy <= 1 for published in found.accuracies)


def test_theirs_are_set_over_the_mean_of_several_published_random_ones(tmp_path):
    published = [
        ("resnet20", "cifar10", "random", f"as {n}", 90.0, a, "") for n, a in (("a", 80), ("b", 82))
    ]
    published.append(("resnet20", "cifar10", "snip", "init", 90.0, 84.0, ""))
    path = write_csv(tmp_path / "theirs.csv", published)
    snip = lines_beside(path, several("random", [0.5]) + several("snip", [0.6]))[-1]
    assert snip.endswith("| 84.00 | 60.00 | +3.00 | +10.00 |")
