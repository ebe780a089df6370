"""Deliberate faults in the code: each can be put in, and the tests catch them (``python tests/mutate.py``: all)."""

import pytest

from tests.mutate import FAULTS, ROOT, chosen, mutate


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f["name"])
def test_a_fault_has_one_place_and_tests_that_exist(fault):
    assert (ROOT / fault["file"]).read_text(encoding="utf-8").count(fault["old"]) == 1
    assert fault["new"] != fault["old"]
    assert fault["tests"]
    for test in fault["tests"]:
        file, name = test.split("::")
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_faults_are_chosen_by_number_or_word():
    assert chosen([]) == FAULTS
    assert chosen(["2"]) == [FAULTS[1]]
    word = FAULTS[4]["name"].split()[-1]
    assert FAULTS[4] in chosen([word]) and all(word in f["name"] for f in chosen([word]))


@pytest.mark.slow
def test_ten_fast_faults_are_caught():
    faults = [f for f in FAULTS if f.get("fast")]
    assert len(faults) == 10
    found = list(mutate(faults))
    assert found[0][:2] == ("no fault", "passed")
    assert {name: verdict for name, verdict, _ in found[1:]} == {f["name"]: "caught" for f in faults}
