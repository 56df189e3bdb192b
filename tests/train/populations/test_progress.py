"""Progress: quiet where there is no terminal, and counting what is left where there is one."""

import io

from rich.console import Console

from train.populations import progress
from train.populations.progress import training_progress


def test_it_is_quiet_when_not_on_a_terminal(capsys):
    with training_progress(10) as told:
        told.advance("search", 2, 1, 5)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_it_shows_stage_members_epochs_and_throughput(monkeypatch):
    screen = io.StringIO()
    terminal = lambda **_: Console(file=screen, force_terminal=True, width=160)  # noqa: E731
    monkeypatch.setattr(progress, "Console", terminal)
    with training_progress(10) as told:
        told.skip(6)
        told.advance("search", 2, 1, 5)
    shown = screen.getvalue()
    assert "search: 2 members, epoch 1/5" in shown
    assert "/s" in shown
    assert "50 %" in shown  # 2 of the 4 that were left
