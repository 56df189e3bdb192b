"""Who trains, and after whom, follows from what networks need."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import pytest

from experiments.engine.schedule import Schedule
from experiments.methods.method import Look, Method, When
from experiments.methods.point import DENSE, Need, Point, dense
from experiments.methods.programs import SEARCHED, STATIC
from experiments.methods.registry import find_method
from experiments.methods.study import study_of
from tests.experiments.everything import EPOCH, Everything, points

STUDY = study_of(Everything(), EPOCH, ())


@dataclass(frozen=True, kw_only=True)
class Chained(Method):
    """A network needs the one of the round before, at step 7; the first one needs the dense one's end."""

    def needs(self, point, study):
        if point.method == DENSE:
            return ()
        before = point._replace(round=point.round - 1)
        return (Need(before, 7) if point.round > 1 else Need(dense(point), study.last_step),)

    def first_step(self, point, study):
        return 0 if point.method == DENSE else 30


CHAINED = Chained(name="chained", look=Look("", "", ""), when=When.AFTER, functions=(), source="")
FIRST, SECOND, THIRD = (Point("chained", round=round) for round in (1, 2, 3))
BASE = dense(FIRST)


@pytest.fixture
def chain():
    return Schedule([THIRD, SECOND], STUDY, lambda _: CHAINED)


def test_levels_and_stops_follow_from_needs(chain):
    assert chain.levels == {BASE: 1, FIRST: 2, SECOND: 3, THIRD: 4}
    assert chain.stops == {BASE: {STUDY.last_step}, FIRST: {7}, SECOND: {7}, THIRD: set()}
    assert [group.points for group in chain.groups(chain.needs)] == [[BASE], [FIRST], [SECOND], [THIRD]]
    assert [chain.epochs_of(point) for point in (BASE, FIRST)] == [3, 2]  # Begun ones included.


def test_a_network_whose_state_is_gone_is_trained_again_with_all_that_it_needs(chain):
    there = lambda need: True  # noqa: E731
    gone = lambda need: need.point not in (SECOND, FIRST)  # noqa: E731
    everything = set(chain.needs)
    assert chain.untrained(everything, there) == set()
    assert chain.untrained(everything, gone) == set()  # Nobody needs them any more.
    assert chain.untrained(everything - {THIRD}, there) == {THIRD}
    assert chain.untrained(everything - {THIRD}, gone) == {THIRD, SECOND, FIRST}
    assert chain.untrained(everything - {THIRD}, lambda need: need.point != SECOND) == {THIRD, SECOND}
    assert chain.untrained(everything - {BASE}, there) == {BASE}


def test_a_program_serves_another_where_both_are_needed():
    both = Schedule(points(Everything(methods=("random", "k-starts")), STUDY), STUDY, find_method)
    alone = Schedule(points(Everything(methods=("random",)), STUDY), STUDY, find_method)
    assert {both.program(point) for point in both.needs} == {SEARCHED}
    assert {alone.program(point) for point in alone.needs} == {STATIC}


def test_every_network_trains_after_all_that_it_needs():
    schedule = Schedule(points(Everything(), STUDY), STUDY, find_method)
    groups = schedule.groups(schedule.needs)
    place = {point: at for at, group in enumerate(groups) for point in group.points}
    assert len(place) == len(schedule.needs) == sum(len(group.points) for group in groups)
    for point, needs in schedule.needs.items():
        assert all(place[need.point] < place[point] for need in needs)
        assert all(need.step in schedule.kind(need.point).stops for need in needs if need.step)
    levels = [schedule.levels[group.points[0]] for group in groups]
    assert all(one <= other for one, other in pairwise(levels))


def test_methods_say_what_they_need():
    """Of one method of each kind: how many networks of others, and at which steps of the dense one."""
    asked = {
        ("snip",): (Counter(dense=1), {5, EPOCH}),
        ("magnitude-fine-tuned",): (Counter(dense=1), {2 * EPOCH}),
        ("magnitude-after-training",): (Counter(dense=1), {3 * EPOCH}),
        ("lottery-ticket-rewinding",): (Counter(dense=1), {3, 3 * EPOCH}),
        ("k-starts",): (Counter({"dense": 1, "k-starts": 4}), set()),
        ("imp",): (Counter(dense=1), {3, 3 * EPOCH}),
        ("imp-continued",): (Counter({"dense": 1, "learning-rate-rewinding": 1}), {3, 3 * EPOCH}),
        ("imp-reinit",): (Counter({"dense": 1, "imp": 1}), {3, 3 * EPOCH}),
        ("cs-parallel",): (Counter({"dense": 1, "cs-search": 2}), set()),
        ("cs-sequential",): (Counter({"dense": 1, "cs-search": 2}), set()),
        ("gradual-magnitude", "supermask", "dissipating-band"): (Counter(dense=1), set()),
    }
    for methods, (others, steps) in asked.items():
        judged = points(Everything(methods=methods), STUDY)
        schedule = Schedule(judged, STUDY, find_method)
        needed = Counter(p.method for p in schedule.needs if p.method == DENSE or p not in judged)
        assert (needed, schedule.stops[dense(judged[0])]) == (others, steps), methods
