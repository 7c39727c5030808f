"""The page and its guards: tokens entered once, roles, and nothing loaded from elsewhere."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

pytest.importorskip("playwright", reason="playwright is not installed; install .[dev]")

from playwright.sync_api import Page, expect

from benchmarks.page_scene import PageServer, ServerAddress
from models import config
from models.checkpoint import save_world_model
from models.world_model import WorldModel
from planner_server.security.tokens import make_token
from tests.page.conftest import Witness

Open = Callable[..., tuple[Page, Witness]]
MOST_BYTES = 500_000
ROLES = ("observe", "plan", "operate")


@pytest.fixture(scope="module")
def tokens() -> dict[str, tuple[str, Any]]:
    return {role: make_token(f"{role}-er", role) for role in ROLES}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, tokens: dict[str, tuple[str, Any]]
) -> Iterator[ServerAddress]:
    folder = tmp_path_factory.mktemp("guarded")
    save_world_model(WorldModel(config.tiny()), folder / "tiny")
    lines = [entry.model_dump_json() for _, entry in tokens.values()]
    (folder / "tokens.yaml").write_text("[" + ", ".join(lines) + "]")
    process = PageServer(
        folder,
        folder / "tiny",
        PLANNER_TOKENS_FILE=str(folder / "tokens.yaml"),
    )
    process.token = tokens["operate"][0]
    with process:
        yield process.wait()


def enter(page: Page, token: str) -> None:
    expect(page.get_by_test_id("token-dialog")).to_be_visible()
    page.get_by_test_id("token-input").fill(token)
    page.get_by_test_id("token-submit").click()


def test_a_wrong_token_is_told_and_the_right_one_opens_the_page(
    open_page: Open, server: ServerAddress, tokens: dict[str, tuple[str, Any]]
) -> None:
    page, _ = open_page(server.url)
    enter(page, "not-the-token")
    expect(page.get_by_test_id("token-error")).not_to_be_empty()
    expect(page.get_by_test_id("token-dialog")).to_be_visible()
    enter(page, tokens["operate"][0])
    expect(page.get_by_test_id("token-dialog")).to_be_hidden()
    expect(page.get_by_test_id("account")).to_contain_text("operate-er")
    expect(page.get_by_test_id("view-overview")).to_be_visible()


def test_a_token_is_entered_once_per_tab_and_never_stands_in_an_address(
    open_page: Open, server: ServerAddress, tokens: dict[str, tuple[str, Any]]
) -> None:
    token = tokens["operate"][0]
    page, witness = open_page(server.url)
    enter(page, token)
    expect(page.get_by_test_id("account")).to_contain_text("operate-er")
    page.reload()
    expect(page.get_by_test_id("account")).to_contain_text("operate-er")
    expect(page.get_by_test_id("token-dialog")).to_be_hidden()
    assert page.evaluate("sessionStorage.getItem('planner-token')") == token
    assert page.evaluate("localStorage.length + document.cookie.length") == 0
    assert not [each.url for each in witness.requests if token in each.url]
    assert any(each.headers.get("authorization") == f"Bearer {token}" for each in witness.requests)


def test_a_forgotten_token_is_asked_for_again(
    open_page: Open, server: ServerAddress, tokens: dict[str, tuple[str, Any]]
) -> None:
    page, _ = open_page(server.url)
    enter(page, tokens["plan"][0])
    expect(page.get_by_test_id("token-dialog")).to_be_hidden()
    page.get_by_test_id("account").click()
    page.get_by_test_id("token-forget").click()
    page.reload()
    expect(page.get_by_test_id("token-dialog")).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('planner-token')") is None


@pytest.mark.parametrize(
    ("role", "may_stop"), [("observe", False), ("plan", False), ("operate", True)]
)
def test_only_operators_can_stop_robots(
    open_page: Open,
    server: ServerAddress,
    tokens: dict[str, tuple[str, Any]],
    role: str,
    *,
    may_stop: bool,
) -> None:
    page, _ = open_page(server.url)
    enter(page, tokens[role][0])
    expect(page.get_by_test_id("account")).to_contain_text(f"{role}-er")
    # The button stays there for everybody; whoever may not use it is told so, whatever happens.
    page.get_by_test_id("stop-all").click(force=True)
    with server.http() as http:
        audit = http.get("/v1/audit").json()["events"]
    if may_stop:
        expect(page.get_by_test_id("stop-status")).not_to_have_attribute("data-state", "idle")
    else:
        expect(page.get_by_test_id("stop-status")).not_to_have_attribute(
            "data-state", "acknowledged"
        )
        assert not [each for each in audit if each["actor"] == f"{role}-er"]


def stopped(*, is_connected: bool | None, arm: str | None) -> dict[str, Any]:
    return {"id": "s", "is_connected": is_connected, "arm": arm}


@pytest.mark.parametrize(
    ("sessions", "problem", "state", "text"),
    [
        ([], None, "partly", "No robot is known to this server: look at the arms."),
        (
            [stopped(is_connected=False, arm=None)],
            None,
            "acknowledged",
            "1 session without a robot",
        ),
        (
            [stopped(is_connected=True, arm="standing")],
            None,
            "acknowledged",
            "1 of 1 robot standing",
        ),
        ([stopped(is_connected=True, arm="stopping")], None, "partly", "1 did not report an arm"),
        ([stopped(is_connected=None, arm=None)], None, "partly", "another replica"),
        ([], "the database does not answer", "partly", "the database does not answer"),
    ],
)
def test_stop_all_is_green_only_where_every_arm_is_known_to_stand(
    open_page: Open,
    server: ServerAddress,
    tokens: dict[str, tuple[str, Any]],
    sessions: list[dict[str, Any]],
    problem: str | None,
    state: str,
    text: str,
) -> None:
    page, _ = open_page(server.url)
    enter(page, tokens["operate"][0])
    expect(page.get_by_test_id("account")).to_contain_text("operate-er")
    answer = {"sessions": sessions, "problem": problem, "obeyed_ms": None, "standing_ms": None}
    page.route("**/v1/stop-all", lambda route: route.fulfill(json=answer))
    page.get_by_test_id("stop-all").click()
    expect(page.get_by_test_id("stop-status")).to_have_attribute("data-state", state)
    expect(page.get_by_test_id("stop-status")).to_contain_text(text)


def test_the_page_asks_its_own_server_alone_and_is_small(
    open_page: Open, server: ServerAddress, tokens: dict[str, tuple[str, Any]]
) -> None:
    page, witness = open_page(server.url)
    enter(page, tokens["observe"][0])
    expect(page.get_by_test_id("view-overview")).to_be_visible()
    assert witness.strangers(server.url) == []
    files = {each.url for each in witness.requests if "/page/" in each.url} | {server.url + "/"}
    assert len(files) > 2
    assert sum(len(httpx.get(each).content) for each in files) < MOST_BYTES


def test_the_description_of_the_api_asks_its_own_server_alone(
    open_page: Open, server: ServerAddress
) -> None:
    page, witness = open_page(server.url, "/docs")
    expect(page.locator(".info .title")).to_contain_text("V-JEPA 2-AC planner")
    expect(page.locator(".opblock-summary-path").first).to_be_visible()
    assert witness.strangers(server.url) == []
    assert witness.complaints == []
    assert httpx.get(server.url + "/redoc").status_code == 404
    assert (
        "frame-ancestors 'none'"
        in httpx.get(server.url + "/docs").headers["content-security-policy"]
    )


def test_nothing_inline_can_run_and_nobody_can_frame_the_page(
    open_page: Open, server: ServerAddress
) -> None:
    page, witness = open_page(server.url)
    answer = httpx.get(server.url + "/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "<script>" not in answer.text
    assert "style=" not in answer.text
    assert " on" + "click" not in answer.text
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        " document.body.append(s); }"
    )
    assert page.evaluate("window.ran") is None
    assert any("Content Security Policy" in each for each in witness.complaints)
