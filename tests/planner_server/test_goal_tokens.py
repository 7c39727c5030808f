"""Tokens and masks of goals: made once, kept by what they are made of, forgotten in turn."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from planner_server import goal_tokens
from planner_server.goal_tokens import GoalTokens, digest_of
from planner_server.goals import GoalImage, GoalRules, SubGoal
from planner_server.served_model import ServedModel, load_served_model

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
WORK = ("preprocess_frames", "decode_image")


@pytest.fixture(scope="module")
def model(make_settings: Callable[..., Any]) -> ServedModel:
    return load_served_model(make_settings())


@pytest.fixture
def work_done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everything costly that is done with pictures, as it is done."""
    done: list[str] = []

    def note(name: str) -> None:
        real = getattr(goal_tokens, name)

        def noted(*given: Any) -> Any:
            done.append(name)
            return real(*given)

        monkeypatch.setattr(goal_tokens, name, noted)

    for name in WORK:
        note(name)
    return done


@pytest.fixture
def image_of(encode_png: Callable[[Any], bytes]) -> Callable[[Any], GoalImage]:
    def make(picture: Any) -> GoalImage:
        height, width = picture.shape[:2]
        return GoalImage(digest_of(picture), width, height, "image/png", encode_png(picture))

    return make


def test_regions_and_masks_are_worked_out_once(
    model: ServedModel, image_of: Any, frame: Any, work_done: list[str]
) -> None:
    goals = GoalTokens(model, 8)
    left = SubGoal((image_of(frame),), GoalRules(region=LEFT))
    right = dataclasses.replace(left, rules=GoalRules(region=RIGHT))
    bright = np.zeros_like(frame)
    bright[:24] = 255
    masked = dataclasses.replace(left, rules=GoalRules(), mask=image_of(bright))
    both = dataclasses.replace(masked, rules=GoalRules(region=LEFT))
    asked = [left, right, masked, both]
    first = [goals.goal(each).token_mask for each in asked]
    assert set(work_done) == set(WORK)
    work_done.clear()
    again = [goals.goal(each).token_mask for each in asked]
    assert not work_done
    columns = [mask.reshape(model.grid).tolist() for mask in first if mask is not None]
    assert columns[0] == [[True, True, False, False]] * 4
    assert columns[1] == [[False, False, True, True]] * 4
    assert columns[2] == [[True] * 4] * 2 + [[False] * 4] * 2
    assert columns[3] == [[True, True, False, False]] * 2 + [[False] * 4] * 2
    for mask, same in zip(first, again, strict=True):
        assert mask is same


def test_a_region_of_an_image_of_another_shape_is_another_mask(
    model: ServedModel, image_of: Any, frame: Any
) -> None:
    goals = GoalTokens(model, 8)
    rules = GoalRules(region=LEFT)
    square = goals.goal(SubGoal((image_of(frame),), rules)).token_mask
    wide = goals.goal(SubGoal((image_of(np.tile(frame, (1, 2, 1))[:, :64]),), rules)).token_mask
    assert square is not None
    assert wide is not None
    assert goals.goal(SubGoal((image_of(frame),), rules)).token_mask is square
    assert wide is not square


def test_masks_beyond_the_cache_are_worked_out_again(
    model: ServedModel, image_of: Any, frame: Any, work_done: list[str]
) -> None:
    goals = GoalTokens(model, 1)
    for region in (LEFT, RIGHT):
        goals.goal(SubGoal((image_of(frame),), GoalRules(region=region)))
    work_done.clear()
    goals.goal(SubGoal((image_of(frame),), GoalRules(region=LEFT)))
    assert "preprocess_frames" in work_done
