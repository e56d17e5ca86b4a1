#!/bin/sh
# Fetch onnxruntime-web for the devices config/profile/browser.yaml and phone.yaml, at the version and with the hashes of
# tools/browser/package-lock.json. Needs npm; runs no script of a package, and changes nothing outside the folder that it fills.
#
#     tools/onnxruntime_web.sh [folder, by default .edgeward/devices/browser]
set -eu

folder=${1:-.edgeward/devices/browser}
command -v npm >/dev/null || { echo "npm is missing: install Node.js (Debian: apt install npm)" >&2; exit 1; }
mkdir -p "$folder"
cp "$(dirname "$0")/browser/package.json" "$(dirname "$0")/browser/package-lock.json" "$folder/"
npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund
echo "onnxruntime-web is in $folder/node_modules/onnxruntime-web"
