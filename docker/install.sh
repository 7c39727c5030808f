#!/usr/bin/env bash
# What the images install: `install.sh server|client|sim`, in the repository's root, into the Python on the path
# or the one named by PYTHON. `docker/try.sh` runs the same lines in fresh virtual environments.
set -euo pipefail

extra=${1:?server, client or sim}
python=${PYTHON:-python}
case $extra in
  server) extras=server ;;
  client) extras=client ;;
  sim) extras=client,sim ;; # the client together with the simulated arm that it moves
  *) echo "no image $extra; there are server, client and sim" >&2 && exit 2 ;;
esac
"$python" -m pip install --no-cache-dir --disable-pip-version-check -c constraints.txt ".[$extras]"
