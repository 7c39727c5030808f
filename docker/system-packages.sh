#!/usr/bin/env bash
# Install the system packages that are missing, where we may.
#   system-packages.sh        what rendering and OpenCV need
#   system-packages.sh tests  besides it what some tests drive: a browser, PostgreSQL
set -euo pipefail

declare -A library_of=(
  [libegl1]=libEGL.so.1
  [libgl1]=libGL.so.1
  [libosmesa6]=libOSMesa.so
  [libglib2.0-0]=libgthread-2.0.so.0
)

libraries=$(ldconfig -p) # read whole: with pipefail, a grep that ends early would count as a miss
missing=()
for package in "${!library_of[@]}"; do
  [[ $libraries == *"${library_of[$package]}"* ]] || missing+=("$package")
done
# Mesa's software driver has no soname of its own to look for.
compgen -G '/usr/lib/*/dri/swrast_dri.so' >/dev/null ||
  compgen -G '/usr/lib*/dri/swrast_dri.so' >/dev/null ||
  compgen -G '/usr/lib/*/libgallium*.so' >/dev/null || missing+=(libgl1-mesa-dri)

wanted=()
if [ "${1:-}" = tests ]; then
  command -v chromium chromium-browser google-chrome >/dev/null || wanted+=(chromium)
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || wanted+=(postgresql)
fi

[ $((${#missing[@]} + ${#wanted[@]})) -eq 0 ] && exit 0

as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo -n"
may_install() { command -v apt-get >/dev/null && $as_root true 2>/dev/null; }
install() { DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "$@"; }

if may_install; then
  echo "Installing system packages: ${missing[*]} ${wanted[*]}"
  $as_root apt-get update -qq
  [ ${#missing[@]} -eq 0 ] || install "${missing[@]}"
elif [ ${#missing[@]} -ne 0 ]; then
  echo "Missing system libraries. Please install these packages (Debian/Ubuntu names), then run again:" >&2
  echo "  sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
for package in "${wanted[@]}"; do
  # A test that lacks its browser or data base says so and is skipped.
  may_install && install "$package" || echo "Without $package some tests will be skipped." >&2
done
