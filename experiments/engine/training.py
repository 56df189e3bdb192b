"""Trains what a run asks for, group by group, as the schedule says; what is stored stays."""

from collections.abc import Callable

from experiments.engine.networks import Networks
from experiments.engine.processes import as_first_sees, is_first, wait_for_all
from experiments.engine.run_folder import Row, RunFolder
from experiments.engine.schedule import Group, Kind
from experiments.engine.stage import Stage, chunk_that_fits, run_stage
from experiments.methods.point import Point, point_of
from experiments.methods.programs import Observe, Program
from train.populations.progress import TrainingProgress, training_progress

Watch = Callable[[Networks, Program], Observe]


def train_all(
    networks: Networks, folder: RunFolder, *, chunk_size: int | None, watch: Watch | None = None
) -> None:
    """Trains all points of a run that are not finished yet.

    Args:
        folder: Where finished networks, and the states that others need, are kept.
        chunk_size: Networks that train together; None for as many as fit.
        watch: What is noted of finished networks besides their layers, candidates of searches aside.
    """
    schedule = networks.schedule
    if chunk_size is None and any(networks.method(point).in_rounds for point in schedule.needs):
        # One size for all programs: a ticket's file says with how many others it was trained.
        some = {schedule.program(point): point for point in schedule.needs}
        chunk_size = min(
            chunk_that_fits(networks.population(program), networks.member(point))
            for program, point in some.items()
        )
    networks.open(folder, chunk_size)
    pending = _pending(networks, folder)
    if is_first():
        folder.announce(len(schedule.needs) - len(pending), len(schedule.needs), "networks")
    total = sum(map(schedule.epochs_of, pending))
    with training_progress(total) as progress:
        for group in schedule.groups(pending):
            useful = _useful(group, networks, folder, progress)
            if useful:
                stage = _stage(group.kind, useful, networks, watch)
                run_stage(stage, folder, progress, chunk_size=chunk_size)
            networks.forget_rows()
    counts = ", ".join(f"{name} {count}" for name, count in networks.compilations().items())
    print(f"training programs compiled: {counts}")


def _pending(networks: Networks, folder: RunFolder) -> list[Point]:
    """Who is still to be trained, as the first process sees it."""
    schedule = networks.schedule
    done = {
        point
        for point, ends in _epochs_there(folder).items()
        if point in schedule.needs and (ends is None or ends >= _ends(networks, point))
    }
    untrained = schedule.untrained(done, networks.has)
    names = as_first_sees([point.name for point in schedule.needs if point in untrained])
    of_name = {point.name: point for point in schedule.needs}
    wait_for_all()
    return [of_name[name] for name in names]


def _epochs_there(folder: RunFolder) -> dict[Point, set[int] | None]:
    """The epochs of which each point has a row; None for one that there was no use in training."""
    found: dict[Point, set[int] | None] = {}
    for row in folder.rows():
        there = found.setdefault(point_of(row), set())
        if row.get("untrained_because"):
            found[point_of(row)] = None
        elif there is not None:
            there.add(row["epoch"])
    return found


def _ends(networks: Networks, point: Point) -> set[int]:
    """The epochs of which a finished point has a row."""
    kind = networks.schedule.kind(point)
    return set(range(kind.first_step // networks.study.steps_per_epoch + 1, kind.epochs + 1))


def _useful(
    group: Group, networks: Networks, folder: RunFolder, progress: TrainingProgress
) -> list[Point]:
    """Those that it makes sense to train; of the others the folder keeps the reason."""
    useful, reasons = [], []
    for point in group.points:
        needs = networks.schedule.needs[point]
        # Where only rows count, the method looks at them.
        states = [need for need in needs if need.step is not None]
        ended = any(networks.rows(need.point)[-1].get("untrained_because") for need in states)
        reason = "a network that it goes on from was not trained" if ended else None
        reason = reason or networks.method(point).why_useless(point, networks)
        if reason is None:
            useful.append(point)
        else:
            reasons.append(_untrained(point, reason))
            progress.skip(networks.schedule.epochs_of(point))
    if is_first():
        for row in reasons:
            folder.save_part([row])
    wait_for_all()
    return useful


def _stage(kind: Kind, points: list[Point], networks: Networks, watch: Watch | None) -> Stage:
    observe = {epoch: [function] for epoch, function in kind.observed}
    last = observe.setdefault(kind.epochs, [])
    last.append(networks.observe_layers(kind.program))
    if watch is not None and points[0].candidate is None:  # No method is judged by a candidate.
        last.append(watch(networks, kind.program))
    first = points[0]
    round = "" if first.round is None else f", round {first.round}"
    return Stage(
        name=f"{kind.program.name}{round}",
        population=networks.population(kind.program),
        points=points,
        member=networks.member,
        start=networks.start,
        at_stop=networks.keep,
        first_step=kind.first_step,
        epochs=kind.epochs,
        observe=observe,
        stops=kind.stops,
    )


def _untrained(point: Point, reason: str) -> Row:
    return {
        "member": point.name,
        **point._asdict(),
        "epoch": 0,
        "train_loss": None,
        "sparsity": None,
        "test_loss": None,
        "test_accuracy": None,
        "failed": True,
        "seconds": 0.0,
        "untrained_because": reason,
    }
