"""Progress: a line now and then where there is no terminal, and a bar where there is one."""

import io
import re

from rich.console import Console

from train.populations import progress
from train.populations.progress import training_progress


def test_without_a_terminal_it_is_quiet_for_a_minute(capsys):
    with training_progress(10) as told:
        told.advance("search", 2, 1, 5)
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_it_then_writes_a_line_and_no_bar(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    with training_progress(10) as told:
        told.skip(6)
        told.advance("search", 2, 1, 5)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"50 %, 0:00:00 left; search: 2 members, epoch 1/5, [\d.]+/s\n", err)


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
