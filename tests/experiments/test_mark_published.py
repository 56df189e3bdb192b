"""Published accuracies: which rows have a counterpart here, and the table beside ours."""

import csv
import dataclasses
import math
from pathlib import Path

import pytest

from experiments.mark_claims import Findings
from experiments.mark_published import COLUMNS, Reference, beside_table, read_accuracies
from experiments.missing_the_mark import run
from tests.experiments.test_mark_claims import PLAN, several
from tests.experiments.test_missing_the_mark import CONFIG

SHARED = Path(__file__).parents[2].parent / "shared/reference"


def write_csv(path, *rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return path


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


@pytest.fixture
def reference(tmp_path):
    path = write_csv(tmp_path / "theirs.csv", *ROWS)
    return read_accuracies(path, model="resnet-20", dataset="cifar10:3.0.2")


def test_rows_of_the_network_with_a_counterpart_are_read(reference):
    assert reference.name == "theirs.csv"
    names = [(p.method, p.variant) for p in reference.accuracies]
    assert names == [
        ("random", "none"),
        ("snip", "none"),
        ("snip", "shuffle"),
        ("grasp-absolute", "none"),
        ("random", "none"),
        ("magnitude", "none"),
    ]
    assert [p.of_best_epoch for p in reference.accuracies] == [False] * 4 + [True] * 2
    snip = reference.accuracies[1]
    assert (snip.sparsity, snip.accuracy, snip.deviation) == pytest.approx((0.9002, 0.83, 0.004))
    assert math.isnan(reference.accuracies[2].deviation)


def test_ours_stand_beside_theirs_where_the_sparsity_is_the_same(reference):
    found = Findings(
        several("random", [0.50, 0.52, 0.48])
        + several("snip", [0.60, 0.62, 0.61])
        + several("snip", [0.59, 0.59, 0.59], variant="shuffle")
        + several("grasp-absolute", [0.6, 0.6, 0.6]),
        epochs=20,
    )
    head, _, *lines = beside_table(reference, found, PLAN)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "best" not in line]
    assert head.count("|") == 8
    assert cells == [
        ["0.9", "random", "before training", "80.00 ± 0.50", "50.00 ± 2.00", "+0.00", "+0.00"],
        ["0.9", "snip", "init, one-shot", "83.00 ± 0.40", "61.00 ± 1.00", "+3.00", "+11.00"],
        [
            "0.9",
            "snip, shuffle",
            "shuffled layerwise; 80 epochs",
            "82.50",
            "59.00 ± 0.00",
            "+2.50",
            "+9.00",
        ],
    ]


def test_the_best_epochs_are_compared_among_themselves(reference):
    found = Findings(several("magnitude", [0.6]), epochs=20)
    *_, line = beside_table(reference, found, PLAN)
    assert line == r"| 0.9 | magnitude | keep largest \|w\|; best epoch | 84.50 | 60.00 | +3.50 |  |"


def test_without_random_pruning_nothing_is_said_over_it(reference):
    found = Findings(several("snip", [0.6]), epochs=20)
    alone = Reference("theirs", [p for p in reference.accuracies if p.method != "random"])
    *_, line = beside_table(alone, found, PLAN)
    assert line == "| 0.9 | snip | init, one-shot | 83.00 ± 0.40 | 60.00 |  |  |"


def test_a_file_without_the_network_is_an_error_that_says_what_it_has(tmp_path):
    path = write_csv(tmp_path / "theirs.csv", *ROWS)
    with pytest.raises(ValueError, match=r"vgg-16 on cifar10.*resnet20 on cifar100"):
        read_accuracies(path, model="vgg-16", dataset="cifar10")
    path.write_text("network,dataset\n")
    with pytest.raises(ValueError, match="lacks accuracy, method"):
        read_accuracies(path, model="vgg-16", dataset="cifar10")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([",".join(COLUMNS)], "resnet-20 on cifar10, .* has none"),
        (
            [",".join(COLUMNS), "resnet20,cifar10,snip,init, one-shot,90,83,0.4"],
            "7 values.*line 2.*quotes",
        ),
        ([",".join((*COLUMNS, "std"))], "different columns"),
    ],
)
def test_lines_that_do_not_fit_the_columns_are_named(tmp_path, lines, message):
    path = tmp_path / "theirs.csv"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=message):
        read_accuracies(path, model="resnet-20", dataset="cifar10")


def test_a_finished_run_is_set_beside_a_file_given_later(tmp_path):
    config = dataclasses.replace(
        CONFIG, out_dir=tmp_path / "run", seeds=1, methods=("random",), steps=(0,)
    )
    summary = run(config) / "summary.md"
    assert "published" not in summary.read_text()
    percent = 100 * config.sparsities[0]
    path = write_csv(
        tmp_path / "theirs.csv", ("lenet_300_100", "digits", "random", "init", percent, 77.0, "")
    )
    run(dataclasses.replace(config, reference=path))
    assert "| random | init | 77.00 |" in summary.read_text()


def test_a_missing_file_is_an_error():
    with pytest.raises(ValueError, match="--reference to be a file"):
        dataclasses.replace(CONFIG, reference=Path("nowhere.csv"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the published numbers in ../shared/reference")
@pytest.mark.parametrize(
    ("name", "model", "dataset", "methods"),
    [
        (
            "resnet20_vgg16_cifar10_tlab.csv",
            "resnet-20",
            "cifar10",
            {
                "random",
                "magnitude",
                "snip",
                "grasp",
                "grasp-absolute",
                "synflow",
                "lottery-ticket-rewinding",
            },
        ),
        ("synflow_fig1_vgg16_cifar100.csv", "vgg-16", "cifar100", {"random", "magnitude", "snip"}),
    ],
)
def test_published_files_are_understood(name, model, dataset, methods):
    found = read_accuracies(SHARED / name, model=model, dataset=dataset)
    assert methods <= {published.method for published in found.accuracies}
    assert all(0 <= published.sparsity <= 1 for published in found.accuracies)
    assert all(0.01 <= published.accuracy <= 1 for published in found.accuracies)
