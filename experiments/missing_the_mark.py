"""Pruning at initialization, assessed: every method, its ablations, and the baselines after training.

    python -m experiments.missing_the_mark
    python -m experiments.missing_the_mark --dataset mnist --model lenet-300-100 --data-dir DIR

Expected: the first in two minutes on 2 CPU cores, digits with LeNet-300-100 (its result with five seeds:
docs/results/missing-the-mark-digits); the second, with all of the recipe's 16 epochs, in hours.
Interrupted, the same command goes on where it was; finished, it prints the stored summary.

All networks of a seed share initial weights and data order. A static mask is data, so every method,
ablation, pruning step, sparsity and seed is a member of one compiled program.

- Methods at initialization see the initial weights and 10 examples a class. With --steps they also prune
  the same network at later steps of its training, which then goes on.
- magnitude-after-training prunes the trained network by magnitude, in one shot, and trains it again with
  the whole schedule (learning-rate rewinding), in the same order of the data, without its old momentum.
  lottery-ticket-rewinding puts the same mask on the network of an early step, its momentum included, and
  goes on from there.
- shuffle permutes each layer's mask, reinit trains other initial weights under the same mask (from step
  0), invert keeps the other end of the ranking. By --ablations sparse-reinit other weights are drawn with
  the spread that fits the inputs which the mask leaves of each unit (pruning.sparse_kaiming_normal).

Source: Frankle et al. 2021 (arXiv 2009.08576); sparse-reinit: Evci et al. 2022 (arXiv 2010.03533);
K-starts and dissipating gradients: Haroon 2022 (arXiv 2209.02201).
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from experiments.engine.experiment import Experiment, main, training
from experiments.methods.asked import Methods, MethodsOptions
from experiments.methods.registry import METHODS, find_method
from experiments.methods.scored import ABLATIONS, PUBLISHED_ABLATIONS, Scored
from experiments.options.checks import check_file, check_names, check_sparsities
from experiments.options.options import own_first
from experiments.options.training import Grid

if TYPE_CHECKING:
    from experiments.report.findings import Finding
    from experiments.report.table import Results

EARLY = ("magnitude", "snip", "grasp", "synflow")  # what the paper calls early pruning
AFTER = ("magnitude-after-training", "lottery-ticket-rewinding")
FIRST_SYSTEM = ("k-starts", "dissipating-gradients")
_HARMLESS_EARLY = dict.fromkeys(EARLY, "hardly hurts") | dict.fromkeys(AFTER, "hurts")
CLAIMED = {
    "shuffle": _HARMLESS_EARLY,
    "reinit": _HARMLESS_EARLY,
    "invert": {"magnitude": "hurts", "snip": "hurts", "grasp": "hardly hurts"},
}
"""What the paper says of ablations, by method."""
DEFAULT_METHODS = (
    "random",
    "magnitude",
    "snip",
    "grasp",
    "grasp-absolute",
    "synflow",
    *FIRST_SYSTEM,
    *AFTER,
)


@own_first
@dataclass(frozen=True, kw_only=True)
class MissingTheMark(MethodsOptions):
    """Assess methods that prune at initialization, their ablations, and baselines after training."""

    experiment = "missing_the_mark"
    # Published accuracies decide no mask, only what the summary says.
    without_effect = (*MethodsOptions.without_effect, "reference")

    methods: Methods = DEFAULT_METHODS
    ablations: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            help=f"sanity checks of methods that score: {', '.join(ABLATIONS)} (of baselines after "
            "training the first two alone); --ablations without a name is none"
        ),
    ] = PUBLISHED_ABLATIONS
    sparsities: tuple[float, ...] = tuple(round(1 - 0.8**n, 4) for n in range(1, 19))
    """fractions of the prunable weights to remove; by default 1 - 0.8^n"""
    seeds: int = 2
    """independent repetitions: initial weights, data order, examples that are scored"""
    steps: tuple[int, ...] | None = None
    """steps after initialization at which methods prune as well; by default the end of the first epoch,
    a quarter and half of the training"""
    step_sparsities: tuple[float, ...] | None = None
    """sparsities for --steps; by default those of --sparsities nearest to 0.9 and to 0.97"""
    reference: Path | None = None
    """a CSV of published accuracies (network, dataset, method, ...) to set beside"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        if self.ablations:
            ablations = {ablation for method in METHODS.values() for ablation in method.ablations}
            check_names("ablations", self.ablations, sorted(ablations))
        have = {ablation for method in self.methods for ablation in METHODS[method].ablations}
        idle = [ablation for ablation in self.ablations if ablation not in have]
        if idle and set(self.ablations) != set(PUBLISHED_ABLATIONS):
            raise ValueError(
                f"--ablations {' '.join(idle)} would do nothing: of --methods {' '.join(self.methods)} "
                "none has it"
            )
        scored = [method for method in map(find_method, self.methods) if isinstance(method, Scored)]
        later = {"--steps": any(self.steps or ()), "--step-sparsities": self.step_sparsities is not None}
        for option in (option for option, given in later.items() if given):
            if all(method.at_init_only for method in scored):
                methods = " ".join(self.methods)
                raise ValueError(
                    f"{option} would do nothing: of --methods {methods} none prunes at a later step"
                )
        if self.step_sparsities is not None:
            check_sparsities(self, "step_sparsities")
            if self.steps is not None and not any(self.steps):
                raise ValueError("--step-sparsities would do nothing: --steps names no step")
        if not set(self.step_sparsities or ()) <= set(self.sparsities):
            raise ValueError(
                f"expected --step-sparsities among --sparsities, got {self.step_sparsities}: what is "
                "pruned later is compared with what is pruned at initialization"
            )
        check_file(self, "reference")

    def grid(self) -> Grid:
        """Where methods are asked for networks."""
        return Grid(self.sparsities, self.ablations, self.steps, self.step_sparsities)


def figures(results: "Results") -> dict[str, Any]:
    """Accuracies, ablations, and the steps at which networks are pruned."""
    from experiments.report import ablations, accuracy, steps  # plotting is imported where it is used

    if len(results.sparsities) == 1:
        found = {"accuracy": ablations.seeds_figure(results)}
    else:
        found = {"accuracy": accuracy.accuracy_figure(results, baseline="random")}
        if results.settings["ablations"]:
            found["ablations"] = ablations.ablations_figure(results)
    if steps.pruning_steps(results):
        found["steps"] = steps.steps_figure(results)
    return found


def summary(results: "Results", reference: Path | None) -> list[str]:
    """The accuracies, the paper's findings, published numbers beside ours, and emptied layers."""
    from experiments.report import at_same_sparsity, findings, markdown, published
    from experiments.report.paired import percent_cell

    spe = results.facts["steps_per_epoch"]
    given = results.at_sparsities
    first_system = list(of_the_first_system(results))
    the_papers = list(of_the_paper(results))
    lines = [
        f"# missing_the_mark: {results.title}",
        "",
        "Final test accuracy in percent, mean ± standard deviation over seeds; dense: "
        f"{percent_cell(results.dense())}. An epoch is {spe} steps{''.join(_of_methods(results))}.",
        "",
        *markdown.accuracies(results, given),
        "",
        "## The paper's findings, in this run",
        "",
        "Differences in accuracy points (ours minus theirs, ablated minus not), paired by seed and "
        "averaged over the sparsities of a band, with 95 % intervals over seeds, not corrected for their "
        f'number. "Hardly hurts" means by less than {100 * findings.MARGIN:g} points, for the whole '
        "interval.",
        "",
        *(
            findings.findings_table(the_papers, results)
            if the_papers
            else ["No method here takes part in any."]
        ),
    ]
    if first_system:
        lines += ["", "## K-starts and dissipating gradients on the same grid", ""]
        lines += findings.findings_table(first_system, results)
    known = ("random", *EARLY, *AFTER, *FIRST_SYSTEM)
    others = [*findings.other_methods(results, set(results.methods) - set(known))]
    if others:
        lines += ["", "## Other methods", "", *findings.findings_table(others, results)]
    if untold := list(of_other_ablations(results, known)):
        lines += ["", "## Other ablations", "", *findings.findings_table(untold, results)]
    lines += at_same_sparsity.sections(results)
    if reference is not None:
        lines += published.beside(reference, results)
    lines += ["", "## Emptied layers", "", *(markdown.emptied_layers(results) or ["None."])]
    return lines + markdown.kept_otherwise(results) + markdown.diverged(results)


def of_the_paper(results: "Results") -> "Iterator[Finding]":
    """The paper's findings (sections 4 to 6) for which the run has the methods."""
    from experiments.report.findings import Finding, above, below, better, changed, hardly_below
    from experiments.report.paired import differences
    from experiments.report.steps import pruning_steps
    from experiments.report.table import label

    early = [method for method in EARLY if results.has(method)]
    late = [method for method in AFTER if results.has(method)]
    if results.has("random"):
        for method in early:
            yield better(results, method, "random")
    for baseline in late:
        for method in early:
            yield better(results, baseline, method)
    holds = {"hurts": below, "hardly hurts": hardly_below}
    for ablation in (one for one in CLAIMED if one in results.settings["ablations"]):
        for method, says in CLAIMED[ablation].items():
            if results.has(method):
                yield changed(results, method, ablation, says, holds[says])
    if results.has("grasp", "grasp-absolute"):
        yield better(results, "grasp-absolute", "grasp")
    for step in pruning_steps(results):
        for method in early:
            gaps = differences(results.accuracy(method, step=step), results.accuracy(method))
            name = label(method)
            yield Finding(f"{name} at step {step} beats {name} at initialization", gaps, above)


def of_other_ablations(results: "Results", among: Collection[str]) -> "Iterator[Finding]":
    """Ablations that were trained and of which the paper claims nothing.

    Args:
        results: The table of a run.
        among: The methods in question.
    """
    from experiments.report.findings import below, changed

    for method in (m for m in results.methods if m in among):
        for ablation in results.settings["ablations"]:
            if method not in CLAIMED.get(ablation, ()) and results.accuracy(method, ablation):
                yield changed(results, method, ablation, "hurts", below)


def of_the_first_system(results: "Results") -> "Iterator[Finding]":
    """Where K-starts and dissipating gradients stand on the same grid; not of the paper."""
    from experiments.report.findings import better

    others = ("random", "magnitude", "snip", "grasp-absolute", "synflow", *AFTER)
    for method in (method for method in FIRST_SYSTEM if results.has(method)):
        for other in (other for other in others if results.has(other)):
            yield better(results, method, other)


def _of_methods(results: "Results") -> list[str]:
    """What is to be known of some methods' runs, where they are assessed."""
    from experiments.report.table import counted

    settings = results.settings
    search, prune = settings["search_epochs"], settings["prune_epochs"]
    after = [results.of(m)["pruned_at_step"] for m in results.methods if m == AFTER[1]]
    says = {
        AFTER[1]: f"lottery tickets are rewound to step {after[0].max()}" if after else "",
        "k-starts": f"K-starts has k = {settings['k']} and chooses after {counted(search, 'epoch')}",
        "dissipating-gradients": f"gradients dissipate in the first {counted(prune, 'epoch')}",
    }
    return [f"; {text}" for method, text in says.items() if results.has(method)]


def check_reference(path: Path, settings: dict[str, Any]) -> None:
    """Raises a ValueError if a file has no accuracies of this network and data set."""
    from experiments.report.published import read_accuracies

    read_accuracies(path, model=settings["model"], dataset=settings["dataset"])


EXPERIMENT = Experiment(
    options=MissingTheMark,
    help=__doc__,
    prepare=training(),
    figures=figures,
    summary=summary,
    check_reference=check_reference,
)

if __name__ == "__main__":
    main(EXPERIMENT)
