"""The report page and the comparison: whole, self-contained, honest."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from rich.console import Console

from trajectories.errors import BadEpisodeError, Defect
from trajectories.replay.comparison import compare_results
from trajectories.replay.errors import ReplayError
from trajectories.replay.report import Shown, render_comparison, render_report
from trajectories.replay.report.svg import Plot, arrow, span_of, ticks
from trajectories.replay.report.words import QUANTITIES
from trajectories.replay.terminal import comparison_table, summary_table

VOID = {"meta", "link", "br", "img", "input", "hr", "image"}


class Tags(HTMLParser):
    """Holds opening against closing tags."""

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.seen = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def checked(page):
    """Return all tags of a page that is well formed and needs nothing from elsewhere."""
    parser = Tags()
    parser.feed(page)
    assert not parser.wrong
    assert not parser.open
    for tag, attributes in parser.seen:
        assert tag not in ("script", "iframe", "link")
        for name in ("src", "href"):
            value = attributes.get(name) or ""
            assert "//" not in value.split(",")[0], (tag, value[:80])
        if tag == "image":
            assert attributes["href"].startswith("data:image/")
        assert not any(name.startswith("on") for name in attributes)
    assert "nan" not in re.sub(r"data:[^\"]*", "", page).lower().split()
    for chart in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        for element in ET.fromstring(chart).iter():
            for value in element.attrib.values():
                assert "nan" not in value.split(",")[0].lower() or value.startswith("data:")
    return parser.seen


@pytest.fixture
def two_runs(make_episode, known_planner, replayed):
    episodes = [make_episode(rows=6 + seed, seed=seed) for seed in range(7)]
    return [
        replayed(known_planner(offset, label=label), *episodes, landscapes=1)
        for offset, label in ((0.01, "near"), (0.04, "far"))
    ]


def test_the_page_shows_every_episode_and_policy_and_needs_no_network(two_runs):
    runs = [
        Shown(each.result(), each.thumbnails, (f"{index}.json",))
        for index, each in enumerate(two_runs)
    ]
    page = render_report(runs)
    tags = checked(page)
    for name in ("episode-0", "episode-1", "episode-6", "near", "far", "Constant velocity"):
        assert name in page
    for quantity in QUANTITIES.values():
        assert quantity.title in page
    assert sum(tag == "image" for tag, _ in tags) >= 7 * (5 + 8)  # pictures and landscapes
    assert {attributes["href"] for tag, attributes in tags if tag == "a"} == {"0.json", "1.json"}


def test_a_page_without_energies_says_why(make_episode, known_planner, replayed):
    replay = replayed(known_planner(0.02, knows_energies=False), make_episode(rows=8))
    page = render_report([Shown(replay.result(), replay.thumbnails)])
    checked(page)
    assert "POST /v1/energy" in page
    assert "Energy landscapes" not in page


def test_one_step_of_one_episode_still_makes_a_page(make_episode, known_planner, replayed):
    replay = replayed(known_planner(horizon=1), make_episode(rows=2), goal_steps=1, landscapes=1)
    page = render_report([Shown(replay.result(), replay.thumbnails)])
    checked(page)
    assert "one episode tells no more" in page


def test_an_episode_shorter_than_the_horizon_makes_a_page_without_means(
    make_episode, known_planner, replayed
):
    replay = replayed(known_planner(horizon=4), make_episode(rows=3), goal_steps=4)
    page = render_report([Shown(replay.result(), replay.thumbnails)])
    checked(page)
    assert "no means" in page


def test_names_and_tasks_from_the_data_cannot_add_markup(make_episode, known_planner, replayed):
    evil = '<script>alert(1)</script><b>&"'
    episode = make_episode(rows=8, task=evil, name=evil)
    replay = replayed(known_planner(label=evil), episode, landscapes=1)
    bad = [BadEpisodeError(evil, [Defect("unreadable", evil)])]
    page = render_report([Shown(replay.result(bad), replay.thumbnails, (evil,))])
    checked(page)
    assert "1 episode skipped" in page


def test_three_episodes_are_too_few_to_be_sure(make_episode, known_planner, replayed):
    episodes = [make_episode(rows=9, seed=seed) for seed in range(3)]
    page = render_report([Shown(replayed(known_planner(0.5), *episodes).result(), {})])
    assert "Not to be told from holding still" in page
    assert "no p below 0.25 is possible" in page


@pytest.mark.parametrize(("offset_m", "word"), [(0.0, "Better"), (0.5, "Worse")])
def test_the_verdict_is_about_holding_still(make_episode, known_planner, replayed, offset_m, word):
    episodes = [make_episode(rows=9, seed=seed) for seed in range(7)]
    replay = replayed(known_planner(offset_m), *episodes)
    assert f"{word} than holding still" in render_report([Shown(replay.result(), {})])


def test_the_nearer_planner_wins_the_comparison_and_swapping_turns_it(two_runs):
    near, far = (each.result() for each in two_runs)
    found = compare_results(far, near)
    row = next(each for each in found.rows if each.metric == "end_distance_xyz_m")
    assert row.paired.difference.mean == pytest.approx(-0.03)
    assert row.paired.difference.high < 0
    assert found.scores == pytest.approx((800 * 0.06, 800 * 0.09))
    page = render_comparison(found)
    checked(page)
    assert "B is better" in page
    assert "B is worse" in render_comparison(compare_results(near, far))
    assert "No difference can be told" in render_comparison(compare_results(near, near))


def test_different_questions_are_not_compared(make_episode, known_planner, replayed):
    first = replayed(known_planner(), make_episode(rows=9)).result()
    goals = replayed(known_planner(), make_episode(rows=9), goal_steps=3).result()
    with pytest.raises(ReplayError, match="goal steps"):
        compare_results(first, goals)
    others = replayed(known_planner(), make_episode(rows=9, seed=4)).result()
    with pytest.raises(ReplayError, match="no step in common"):
        compare_results(first, others)
    moved = replayed(known_planner(), make_episode(rows=9, seed=4, name="episode-0")).result()
    with pytest.raises(ReplayError, match="recorded motion differs"):
        compare_results(first, moved)


def test_what_only_one_has_is_counted_and_left_out(make_episode, known_planner, replayed):
    both, one = make_episode(rows=9, seed=1), make_episode(rows=7, seed=2)
    found = compare_results(
        replayed(known_planner(), both, one).result(), replayed(known_planner(), both).result()
    )
    assert found.left_out == 5
    assert found.episodes == 1
    assert "left out" in render_comparison(found)


def test_the_terminal_shows_all_numbers_within_80_columns(two_runs):
    near, far = (each.result() for each in two_runs)
    console = Console(width=80, record=True)
    console.print(summary_table([near, far]))
    console.print(comparison_table(compare_results(near, far)))
    text = console.export_text()
    assert "…" not in text
    assert "72.0" in text  # 9 cm of end distance less: 800 * 0.09


@pytest.mark.parametrize("span", [(0, 1), (-3.2, 8.9), (1e-5, 1.1e-5), (0.1, 12345.0)])
def test_ticks_are_round_and_inside(span):
    found = ticks(span)
    assert 2 <= len(found) <= 12
    assert all(span[0] - 1e-9 <= tick <= span[1] + 1e-9 for tick in found)
    assert np.diff(found) == pytest.approx(found[1] - found[0])


def test_spans_have_a_width_even_for_one_value_or_none():
    for values in ([], [3.0], [0.0, 0.0], [None, float("nan")]):
        low, high = span_of(values)
        assert high > low


def test_a_line_has_a_gap_where_a_number_is_missing():
    plot = Plot(100, 100, (0, 6), (0, 1), left=0, right=0, bottom=0, top=0)
    nan = float("nan")
    plot.line([(0, 0), (1, 0.5), (2, nan), (3, nan), (4, 1), (6, 0), (nan, 1)], "energy")
    drawn = re.findall(r'points="(.*?)"', plot.render("a line"))
    assert drawn == ["0.0,100.0 16.7,50.0", "66.7,0.0 100.0,100.0"]


def test_an_arrow_of_no_length_is_a_dot():
    assert arrow((1, 1), (1, 1), "run0").startswith("<circle")
    assert "polygon" in arrow((0, 0), (10, 0), "run0")


def test_a_page_shows_thirty_episodes_and_says_so(make_episode, known_planner, replayed):
    episodes = [make_episode(rows=4, seed=0, name=f"run-{index}") for index in range(31)]
    replay = replayed(known_planner(), *episodes)
    page = render_report([Shown(replay.result(), replay.thumbnails)])
    assert "The first 30 of 31" in page
    assert len(replay.thumbnails["run-30"]) == 0
    assert "31 episodes" in page
