#!/usr/bin/env bash
# Do in fresh virtual environments what the images do: the same install lines, the same entry points.
#   docker/try.sh [server] [client] [sim]      all three by default
# Needs no container engine. Leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
server_pid=""
finish() {
  [ -z "$server_pid" ] || kill "$server_pid" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap finish EXIT

# The images build from what .dockerignore leaves of the repository, so this does, too.
git ls-files -z --cached --others --exclude-standard -- \
  configs constraints.txt docker LICENSE models planner_server pyproject.toml README.md robot_client simulation \
  trajectories training |
  while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done | # not what is deleted, uncommitted
  xargs -0 cp --parents -t "$work"
cd "$work"

install_into() {
  "${PYTHON3:-python3}" -m venv "$work/venv-$1"
  PYTHON="$work/venv-$1/bin/python" bash docker/install.sh "$1" >"$work/pip.log" 2>&1 ||
    { tail -20 "$work/pip.log" >&2; exit 1; }
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

try_server() {
  install_into server
  local port; port=$(free_port)
  PLANNER_TOKEN=trying PLANNER_ZMQ_ENDPOINT='tcp://127.0.0.1:*' PLANNER_DATA_DIR="$work/state" \
    "$work/venv-server/bin/uvicorn" planner_server.app:app --host 127.0.0.1 --port "$port" \
    >"$work/server.log" 2>&1 &
  server_pid=$!
  for _ in $(seq 180); do
    "$work/venv-server/bin/python" -c \
      "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/readyz', timeout=2)" 2>/dev/null && break
    kill -0 "$server_pid" 2>/dev/null || { cat "$work/server.log" >&2; exit 1; }
    sleep 1
  done
  curl -sf -H 'Authorization: Bearer trying' "http://127.0.0.1:$port/v1/model" >/dev/null
  kill "$server_pid" && wait "$server_pid" || true
  server_pid=""
}

try_client() {
  install_into client
  "$work/venv-client/bin/robot-client" --version
  "$work/venv-client/bin/robot-client" run --help >/dev/null
  for heavy in torch mujoco; do # the robot's machine stays light
    if "$work/venv-client/bin/python" -c "import $heavy" 2>/dev/null; then
      echo "client: brings $heavy along" >&2
      exit 1
    fi
  done
}

try_sim() {
  install_into sim
  # From elsewhere, so that what was installed is tried and not the sources beside it.
  (cd / && "$work/venv-sim/bin/python" -c 'from simulation.stepper import OfflineWorkcell
from simulation.tasks import make_task
assert OfflineWorkcell(make_task("reach", 0).variation).render().std() > 10')
}

for image in "${@:-server client sim}"; do
  for name in $image; do
    "try_$name"
    echo "$name: installs and starts"
  done
done
