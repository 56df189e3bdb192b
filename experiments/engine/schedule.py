"""The order in which networks are trained, as it follows from what each needs of others."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from experiments.methods.method import Method
from experiments.methods.point import Need, Point
from experiments.methods.programs import Observe, Program
from experiments.methods.study import Study


class Kind(NamedTuple):
    """What points that train together have in common.

    Attributes:
        program: That trains them.
        first_step: At which they begin.
        epochs: After which they end.
        observed: What is read of them besides what is read of all: (epoch, function) pairs.
        stops: Steps whose states other points need.
    """

    program: Program
    first_step: int
    epochs: int
    observed: tuple[tuple[int, Observe], ...]
    stops: tuple[int, ...]


class Group(NamedTuple):
    """Points that train together: of one kind, all that they need being there."""

    kind: Kind
    points: list[Point]


class Schedule:
    """Who is trained, and after whom."""

    def __init__(
        self, asked: Iterable[Point], study: Study, find_method: Callable[[str], Method]
    ) -> None:
        """Finds all points that are needed, directly or not."""
        self.study, self.find_method = study, find_method
        self.needs: dict[Point, tuple[Need, ...]] = {}
        self.levels: dict[Point, int] = {}
        for point in asked:
            self._add(point)
        self.stops: dict[Point, set[int]] = {point: set() for point in self.needs}
        for needs in self.needs.values():
            for point, step in needs:
                if step is not None:
                    self.stops[point].add(step)
        programs = {self._method(point).program_of(point) for point in self.needs}
        self._serving = {other.serves: other for other in programs if other.serves is not None}

    def untrained(self, done: set[Point], has: Callable[[Need], bool]) -> set[Point]:
        """The points that are still to be trained.

        Args:
            has: Whether the state that a point needs of another is there. Where it is gone, the other is
                trained again, and what that one needs.
        """
        found: set[Point] = set()

        def want(point: Point) -> None:
            if point not in found:
                found.add(point)
                for need in self.needs[point]:
                    if need.point not in done or not (need.step is None or has(need)):
                        want(need.point)

        for point in self.needs:
            if point not in done:
                want(point)
        return found

    def groups(self, points: Iterable[Point]) -> list[Group]:
        """Points in the order in which they are trained; those of one group train together."""
        groups: dict[tuple[int, Kind], list[Point]] = {}
        chosen = set(points)
        for point in (point for point in self.needs if point in chosen):
            groups.setdefault((self.levels[point], self.kind(point)), []).append(point)
        ordered = sorted(groups.items(), key=lambda item: item[0][0])  # stable within a level
        return [Group(kind, found) for (_, kind), found in ordered]

    def kind(self, point: Point) -> Kind:
        """What a point has in common with those that can be trained with it."""
        method = self._method(point)
        return Kind(
            self.program(point),
            method.first_step(point, self.study),
            method.epochs(point, self.study),
            tuple(method.observes(point, self.study).items()),
            tuple(sorted(self.stops[point])),
        )

    def program(self, point: Point) -> Program:
        """The program that trains a point in this run."""
        return self.serving(self._method(point).program_of(point))

    def serving(self, program: Program) -> Program:
        """The program that trains the networks of another in this run."""
        return self._serving.get(program, program)

    def epochs_of(self, point: Point) -> int:
        """Epochs, begun ones included, that a point is trained for."""
        kind = self.kind(point)
        return kind.epochs - kind.first_step // self.study.steps_per_epoch

    def _method(self, point: Point) -> Method:
        return self.find_method(point.method)

    def _add(self, point: Point) -> int:
        """Adds a point and all that it needs; returns its level, one above theirs."""
        if point not in self.levels:
            needs = self._method(point).needs(point, self.study)
            self.levels[point] = 1 + max((self._add(need.point) for need in needs), default=0)
            self.needs[point] = needs
        return self.levels[point]
