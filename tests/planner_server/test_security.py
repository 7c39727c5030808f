"""Who gets in, who does not, and what they may do."""

import hashlib
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
import zmq
import zmq.auth

from planner_server import __main__ as command
from planner_server.app import create_app
from planner_server.errors import PlannerError, StartupError
from planner_server.security.addresses import is_local_endpoint, is_loopback, uvicorn_host
from planner_server.security.keys import make_keys
from planner_server.security.rates import RateLimiter
from planner_server.security.tokens import Role, TokenRing, entry_of, make_token, read_tokens
from robot_client.protocol import ErrorReply, Hello, Observe, Ping, Pong, Welcome

Settings = Callable[..., Any]
ROLES = ("observe", "plan", "operate")


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.yaml"
    entries = [entry_of(role, role, f"secret of {role}").model_dump() for role in ROLES]
    path.write_text(yaml.safe_dump(entries))
    return path


def bearer(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer secret of {role}"}


def test_each_role_may_do_what_it_may_and_no_more(
    run_server: Any, make_settings: Settings, tokens_file: Path, robots: Any
) -> None:
    with run_server(make_settings(tokens_file=tokens_file), "secret of observe") as address:
        with httpx.Client(base_url=address.url) as http:
            made = http.post("/v1/sessions", headers=bearer("plan"))
            path = f"/v1/sessions/{made.json()['id']}"
            wanted = {
                ("GET", path): "observe",
                ("GET", "/v1/model"): "observe",
                ("GET", "/metrics"): "observe",
                ("GET", f"{path}/plans"): "observe",
                ("POST", "/v1/sessions"): "plan",
                ("POST", "/v1/plan"): "plan",
                ("POST", f"{path}/pause"): "operate",
                ("POST", f"{path}/resume"): "operate",
                ("POST", f"{path}/stop"): "operate",
                ("DELETE", path): "plan",
            }
            for (verb, where), needed in wanted.items():
                assert http.request(verb, where).status_code == 401
                for role in ROLES:
                    answer = http.request(verb, where, headers=bearer(role))
                    is_refused = ROLES.index(role) < ROLES.index(needed)
                    assert (answer.status_code == 403) == is_refused, (verb, where, role)
                    assert answer.status_code != 401
                    if is_refused:
                        assert needed in answer.json()["message"]
                    if verb == "DELETE" and not is_refused:
                        break
            assert http.get("/healthz").status_code == http.get("/readyz").status_code == 200
        watcher = robots(address.zmq).ask(Hello(1, "t", token="secret of observe"))
        assert isinstance(watcher, ErrorReply)
        assert watcher.code == "forbidden"
        assert isinstance(robots(address.zmq).ask(Hello(1, "t", token="secret of plan")), Welcome)


def test_only_digests_are_kept_and_every_token_is_compared() -> None:
    token, entry = make_token("robot", "plan")
    assert entry.sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert token not in entry.model_dump_json()
    ring = TokenRing([entry, entry_of("boss", "operate", "b" * 20)])
    assert ring.identify(token).name == "robot"
    assert ring.identify("b" * 20).role is Role.OPERATE
    for wrong in (None, "", token[:-1], token + "x", entry.sha256, "sécret"):
        with pytest.raises(PlannerError, match="token") as caught:
            ring.identify(wrong)
        assert caught.value.code == "unauthorised"


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", "a: 1", "[{name: x}]", "[{name: x, role: king, sha256: '0'}]", "[plain]"],
)
def test_a_tokens_file_that_is_none_stops_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(content)
    with pytest.raises(StartupError, match="planner_server token"):
        read_tokens(path)
    with pytest.raises(StartupError, match="tokens_file"):
        read_tokens(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    "content",
    [
        "[{name: x, role: plan, sha256: sesame}]",
        "[{name: x, role: plan, token: sesame}]",
        "{tokens: {x: sesame}}",
        "- {name: x, role: plan, sha256: [sesame}",
    ],
)
def test_a_token_written_in_place_of_its_digest_is_not_repeated_in_the_log(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(content)
    with pytest.raises(StartupError) as caught:
        read_tokens(path)
    assert "sesame" not in "".join(traceback.format_exception(caught.value))


def test_the_token_command_prints_a_line_that_the_server_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["token", "robot-1", "--role", "plan"]) == 0
    out, err = capsys.readouterr()
    path = tmp_path / "tokens.yaml"
    path.write_text(out)
    token = err.split()[-1]
    assert TokenRing(read_tokens(path)).identify(token).name == "robot-1"


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:5555", "tcp://*:5555", "tcp://192.0.2.7:1"])
def test_a_public_door_without_a_guard_is_refused(make_settings: Settings, endpoint: str) -> None:
    with pytest.raises(StartupError, match="PLANNER_TOKEN"):
        create_app(make_settings(zmq_endpoint=endpoint))
    with pytest.raises(StartupError, match="PLANNER_TOKEN"):
        create_app(make_settings(zmq_endpoint=endpoint, token=""))
    create_app(make_settings(zmq_endpoint=endpoint, token="sesame"))


def test_no_token_is_nobody_even_where_a_file_lists_an_empty_one() -> None:
    tokens = TokenRing([entry_of("blank", "operate", "")])
    for given in (None, ""):
        with pytest.raises(PlannerError, match="no token"):
            tokens.identify(given)


def test_uvicorn_told_to_listen_to_the_world_without_a_token_does_not_start(
    clean_environment: Callable[..., dict[str, str]], model_dir: Path
) -> None:
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "uvicorn",
            "planner_server.app:app",
            "--host",
            "0.0.0.0",
            "--port",
            "0",
        ],
        env=clean_environment(PLANNER_MODEL=str(model_dir)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode != 0
    assert "--host 0.0.0.0 lets other machines in" in run.stderr
    assert "Traceback" not in run.stderr


def test_requests_that_come_from_elsewhere_are_not_served_without_a_token(server: Any) -> None:
    """A web page that points its own name at this machine, or posts to it from a browser."""

    def ask(**headers: str) -> tuple[int, str]:
        answer = httpx.get(f"{server.url}/v1/sessions", headers=headers)
        return answer.status_code, answer.json().get("code", "")

    assert ask()[0] == 200
    assert ask(Host="evil.example")[1] == "unauthorised"
    assert ask(Host="localhost:1234")[0] == 200
    assert ask(Origin="http://evil.example")[1] == "forbidden"
    own = server.url.removeprefix("http://")
    assert ask(Origin=server.url, Host=own)[0] == 200
    answer = httpx.options(
        f"{server.url}/v1/sessions",
        headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "Via", "X-Forwarded-Proto"]
)
def test_a_proxy_on_this_machine_lets_nobody_in_where_there_is_no_token(
    server: Any, header: str
) -> None:
    answer = httpx.get(f"{server.url}/v1/sessions", headers={header: "192.0.2.7"})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorised")
    assert header.lower() in answer.json()["message"]
    assert "PLANNER_TOKEN" in answer.json()["message"]


def test_a_proxy_is_served_where_there_is_a_token(run_server: Any, make_settings: Settings) -> None:
    with run_server(make_settings(token="sesame"), "sesame") as address:
        headers = {"X-Forwarded-For": "192.0.2.7", "Authorization": "Bearer sesame"}
        assert httpx.get(f"{address.url}/v1/sessions", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("*", False),
        ("192.168.1.4", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_what_only_this_machine_can_reach(host: str, expected: bool) -> None:
    assert is_loopback(host) == expected
    if ":" not in host:
        assert is_local_endpoint(f"tcp://{host}:5555") == expected
    assert is_local_endpoint("ipc:///run/planner")


def test_uvicorns_address_is_found_wherever_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UVICORN_HOST", raising=False)
    assert uvicorn_host(["uvicorn", "x:app"]) is None
    assert uvicorn_host(["uvicorn", "--host", "1.2.3.4"]) == "1.2.3.4"
    assert uvicorn_host(["uvicorn", "--host=::"]) == "::"
    monkeypatch.setenv("UVICORN_HOST", "0.0.0.0")
    assert uvicorn_host(["uvicorn"]) == "0.0.0.0"


def test_whoever_asks_too_often_is_refused_and_nobody_else() -> None:
    now_s = 0.0
    rates = RateLimiter(per_s=10.0, burst=5.0, clock=lambda: now_s)
    assert [rates.is_allowed("a") for _ in range(7)] == [True] * 5 + [False] * 2
    assert rates.is_allowed("b")
    now_s = 0.2
    assert [rates.is_allowed("a") for _ in range(3)] == [True, True, False]
    for key in range(10_000):
        rates.is_allowed(key)
    assert len(rates) <= 4096


def test_rates_are_kept_at_both_doors(
    run_server: Any, make_settings: Settings, robots: Any
) -> None:
    limits = {"requests_per_s": 1.0, "messages_per_s": 1.0}  # slower than any machine that is busy
    with run_server(make_settings(**limits)) as address:
        with address.http() as http:
            answers = [http.get("/v1/model") for _ in range(60)]
            assert answers[-1].status_code == 429
            assert answers[-1].headers["Retry-After"] == "1"
            assert http.get("/healthz").status_code == 200
        robot, other = robots(address.zmq), robots(address.zmq)
        for _ in range(100):
            robot.send(Ping(t=0.0))
        replies = []
        while not robot.is_silent(0.3):
            replies.append(robot.receive())
        assert sum(isinstance(reply, Pong) for reply in replies) < 50
        complaints = [reply for reply in replies if isinstance(reply, ErrorReply)]
        assert {reply.code for reply in complaints} == {"rate_limited"}
        assert len(complaints) < 10
        assert isinstance(other.ask(Ping(t=0.0)), Pong)


class Encrypted:
    """A robot with keys of its own."""

    def __init__(self, endpoint: str, server_public: bytes, pair: tuple[bytes, bytes]) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.curve_publickey, self.socket.curve_secretkey = pair
        self.socket.curve_serverkey = server_public
        self.socket.connect(endpoint)

    def is_answered(self, time_s: float) -> bool:
        try:
            self.socket.send(Ping(t=1.0).encode(), zmq.NOBLOCK)
        except zmq.Again:  # refused already, and ZMQ has given the connection up
            return False
        answered = bool(self.socket.poll(round(1000 * time_s)))
        if answered:
            self.socket.recv()
        return answered

    def close(self) -> None:
        self.context.destroy(linger=0)


def test_with_curve_only_listed_keys_get_in(
    run_server: Any,
    make_settings: Settings,
    robots: Any,
    tmp_path: Path,
    observation: Callable[..., Observe],
) -> None:
    _, server_secret = make_keys(tmp_path, "server")
    clients = tmp_path / "clients"
    _, friend_secret = make_keys(clients, "friend")
    server_public = zmq.auth.load_certificate(server_secret)[0]
    keys = {"curve_secret_key": server_secret, "curve_clients": clients}
    with run_server(make_settings(**keys)) as address:
        friend = Encrypted(address.zmq, server_public, zmq.auth.load_certificate(friend_secret))
        stranger = Encrypted(address.zmq, server_public, zmq.curve_keypair())
        wrong_server = Encrypted(
            address.zmq, zmq.curve_keypair()[0], zmq.auth.load_certificate(friend_secret)
        )
        known = [friend, stranger, wrong_server]
        try:
            assert friend.is_answered(10.0)
            assert not stranger.is_answered(0.5)
            assert not wrong_server.is_answered(0.5)
            plain = robots(address.zmq)
            plain.send(Ping(t=0.0))
            assert plain.is_silent(0.5)
            _, late_secret = make_keys(clients, "late")  # added while the server runs
            late = Encrypted(address.zmq, server_public, zmq.auth.load_certificate(late_secret))
            known.append(late)
            assert late.is_answered(10.0)
            (clients / "friend.key").unlink()  # keeps nobody new in, and throws nobody out
            assert friend.is_answered(10.0)
            again = Encrypted(address.zmq, server_public, zmq.auth.load_certificate(friend_secret))
            known.append(again)
            assert not again.is_answered(0.5)
        finally:
            for each in known:
                each.close()


def test_keys_are_made_once_and_for_their_owner_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["keys", "robot", "--folder", str(tmp_path)]
    assert command.main(arguments) == 0
    secret = tmp_path / "robot.key_secret"
    assert secret.stat().st_mode & 0o077 == 0
    before = secret.read_bytes()
    assert command.main(arguments) == 1
    assert "exists" in capsys.readouterr().err
    assert secret.read_bytes() == before


@pytest.mark.parametrize("missing", ["key", "clients", "secret part"])
def test_curve_that_is_half_configured_does_not_start(
    run_server: Any, make_settings: Settings, tmp_path: Path, missing: str
) -> None:
    public, secret = make_keys(tmp_path, "server")
    (tmp_path / "clients").mkdir()
    settings = {
        "key": {"curve_secret_key": tmp_path / "none", "curve_clients": tmp_path / "clients"},
        "clients": {"curve_secret_key": secret, "curve_clients": tmp_path / "none"},
        "secret part": {"curve_secret_key": public, "curve_clients": tmp_path / "clients"},
    }[missing]
    import asyncio

    app = create_app(make_settings(**settings))

    async def run() -> None:
        async with app.router.lifespan_context(app):
            pytest.fail("it started")

    with pytest.raises(StartupError, match="planner_server keys"):
        asyncio.run(run())


def test_nothing_of_the_inside_is_told_to_peers(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from planner_server.service import PlannerService

    def broken(*_: Any) -> None:
        raise RuntimeError("at /home/somebody/secret.py")

    monkeypatch.setattr(PlannerService, "create_session", broken)
    answer = httpx.post(f"{server.url}/v1/sessions", headers={"X-Request-ID": "abc"})
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert "secret.py" not in answer.text
    assert "abc" in answer.json()["message"]
