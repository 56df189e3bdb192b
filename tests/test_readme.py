"""The README's own code runs."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_there_is_python_in_the_readme():
    assert BLOCKS


@pytest.mark.parametrize("block", BLOCKS)
def test_the_code_in_the_readme_runs(block):
    exec(compile(block, "README.md", "exec"), {})
    assert block
