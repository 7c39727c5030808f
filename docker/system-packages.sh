#!/usr/bin/env bash
# Install the shared libraries that rendering and OpenCV need, when they are missing and we may.
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

[ ${#missing[@]} -eq 0 ] && exit 0

as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo -n"
if command -v apt-get >/dev/null && $as_root true 2>/dev/null; then
  echo "Installing system packages: ${missing[*]}"
  $as_root apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "${missing[@]}"
else
  echo "Missing system libraries. Please install these packages (Debian/Ubuntu names), then run again:" >&2
  echo "  sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
