"""A judge's endpoint on this machine."""

import pytest
from fake_judge import FakeJudge


@pytest.fixture
def fake_judge():
    judge = FakeJudge()
    yield judge
    judge.close()
