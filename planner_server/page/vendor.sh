#!/usr/bin/env bash
# Fetch the page's only library again (`make vendor`). Its files are in the repository: serving needs no network.
set -euo pipefail

package=uplot
version=1.6.32
sha512=2883159c6ebccefbb95d751b0b82d010f9e1c0ec41b8bc96d401eda66e882935c89a46cb824332fa369b8cb8122cc6ac36e186cd09bf7a9ded3a4c93c6989023

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent "$package@$version" >/dev/null
echo "$sha512  $package-$version.tgz" | sha512sum --check --quiet
tar -xzf "$package-$version.tgz"
install -m 644 package/dist/uPlot.iife.min.js "$here/static/vendor/uplot.js"
install -m 644 package/dist/uPlot.min.css "$here/static/vendor/uplot.css"
install -m 644 package/LICENSE "$here/static/vendor/uplot.LICENSE"
echo "$package $version is in $here/static/vendor"
