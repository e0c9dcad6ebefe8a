import io
import sys

import pytest

from sempre.errors import InputError, run_command


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii"])
def test_a_console_of_few_letters_shows_the_rest_by_number(monkeypatch, encoding):
    console = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", console)
    with pytest.raises(SystemExit) as stop:
        run_command(lambda: print("7 particles: Übersicht/粒子 ± β"))
    console.flush()
    assert stop.value.code == 0
    assert b"7 particles" in console.buffer.getvalue() and rb"\u7c92" in console.buffer.getvalue()


def test_what_the_user_can_mend_is_one_line(capsys):
    def fail():
        raise InputError("--tile 3 is too\nsmall")

    with pytest.raises(SystemExit) as stop:
        run_command(fail)
    assert (stop.value.code, capsys.readouterr().err) == (2, "error: --tile 3 is too small\n")
