# SPDX-License-Identifier: GPL-2.0-only
"""What searches would notice: histories made by chance tell the model from ones that are wrong."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.utils.model import namespaces, propagation
from tests.utils.model.namespaces import World
from tests.utils.search.histories import History

#: How many histories are made; a search makes as many in a minute or two.
MANY = 300

#: What is wrong with each model: in which module, which text, and what stands there instead.
WRONG = {
    "locks_of_a_copied_copy_are_lost": (
        namespaces,
        "_locked(self._extra[source], foreign)",
        "dict.fromkeys(self._extra[source], foreign)",
    ),
    "locked_attributes_of_a_copied_copy_are_lost": (
        namespaces,
        "name: _locked(attributes, foreign)",
        "name: dict.fromkeys(attributes, foreign)",
    ),
    "what_a_foreign_caller_copies_is_not_locked": (namespaces, "lock or foreign", "lock"),
    "a_caller_from_above_is_no_foreign_one": (
        namespaces,
        "foreign = owner != self.owner[source]",
        "foreign = owner not in (0, self.owner[source])",
    ),
    "what_arrives_is_locked": (
        namespaces,
        "self._extra[other][rest[0]] = False",
        "self._extra[other][rest[0]] = other != number",
    ),
    "umounts_stay_where_they_are": (
        namespaces,
        "for other in self._reached(number, place):\n            # A",
        "for other in [number]:\n            # A",
    ),
    "umounts_stop_at_locks": (
        namespaces,
        "            self._extra[other].pop(place, None)",
        "            self._extra[other].get(place) or self._extra[other].pop(place, None)",
    ),
    "copies_by_foreign_callers_are_peers": (
        propagation,
        "slave = foreign and",
        "slave = False and",
    ),
    "copies_have_no_master": (
        propagation,
        "else _Tie(tie.group, tie.master)",
        "else _Tie(tie.group, None)",
    ),
    "slaves_receive_nothing": (
        propagation,
        "group in (tie.group, tie.master)",
        "group == tie.group",
    ),
    "slaves_pass_nothing_on": (propagation, "                    todo.append(tie.group)\n", ""),
    "the_last_peer_forgets_its_master": (
        propagation,
        "other.master = tie.master",
        "other.master = None",
    ),
}


def wrong_world(module: ModuleType, old: str, new: str) -> type[World]:
    """The model, one text of *module* replaced."""
    made: dict[ModuleType, ModuleType] = {}
    for each in (propagation, namespaces):
        text = inspect.getsource(each)
        if each is module:
            assert text.count(old) == 1, "the text to replace is not there, or more than once"
            text = text.replace(old, new)
        made[each] = ModuleType(each.__name__)
        exec(compile(text, each.__name__, "exec"), vars(made[each]))
    vars(made[namespaces])["Propagation"] = vars(made[propagation])["Propagation"]
    return vars(made[namespaces])["World"]  # type: ignore[no-any-return]


def account(history: History, model: type[World]) -> Iterator[object]:
    """What the model says after each event: all that a kernel is compared with."""
    one = model(history.types)
    for event in history.events:
        yield one.apply(event)
        yield {number: one.holds(number) for number in one.owner}
        yield propagation.renumbered(one.groups())


def told_apart(history: History, model: type[World]) -> bool:
    """Whether *model* says something else of *history* than the right one does."""
    pairs = zip(account(history, World), account(history, model), strict=True)
    try:
        return any(right != wrong for right, wrong in pairs)
    except KeyError:
        return True  # it has lost track of what happens


@pytest.fixture(scope="module")
def histories() -> list[History]:
    """What the strategy makes from one seed."""
    pytest.importorskip("hypothesis", reason="Hypothesis is not installed (tox -e model has it)")
    import hypothesis

    from tests.utils.search import strategies

    made: list[History] = []

    @hypothesis.seed(1)
    @hypothesis.settings(max_examples=MANY, database=None, deadline=None)
    @hypothesis.given(strategies.histories())
    def one(history: History) -> None:
        made.append(history)

    one()
    return made


@pytest.mark.parametrize("name", WRONG)
def test_wrong_models_are_told_apart(name: str, histories: list[History]) -> None:
    """The search would notice if kernel and model differed so."""
    model = wrong_world(*WRONG[name])
    assert any(told_apart(history, model) for history in histories)


def test_the_right_model_is_not(histories: list[History]) -> None:
    """The comparison finds nothing where nothing is wrong."""
    same = wrong_world(namespaces, "number = self._last", "number = self._last")
    assert not any(told_apart(history, same) for history in histories)


def test_most_histories_are_long(histories: list[History]) -> None:
    """What is made by chance is neither nothing nor always the same."""
    assert len(set(histories)) > 0.9 * MANY
    assert sum(len(history.events) for history in histories) > 20 * MANY


def test_groups_are_compared_by_who_shares_them() -> None:
    """However they are numbered, the same ties are the same, and others are not."""
    first, second = (0, "top"), (1, "top")
    assert propagation.renumbered({first: (7, 0), second: (0, 7)}) == {
        first: (1, 0),
        second: (0, 1),
    }
    assert propagation.renumbered({first: (7, 0), second: (9, 0)}) == {
        first: (1, 0),
        second: (2, 0),
    }
