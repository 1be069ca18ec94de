#!/bin/sh
# Lints the pages' scripts with ESLint: run.sh PYTHON. Says so where there is no npm.
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")"
if ! command -v npm >/dev/null 2>&1; then
    echo "npm is not there: the scripts of the pages are not linted"
    exit 0
fi
if [ ! node_modules/.package-lock.json -nt package.json ]; then
    npm install --silent --no-audit --no-fund --no-package-lock
fi
"$python" joined.py
node_modules/.bin/eslint --max-warnings 0 joined
