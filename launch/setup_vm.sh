#!/usr/bin/env bash
# Runs on a worker: makes ~/.humpback/venv, whatever Python the image has, with exactly the versions given.
#
#   setup_vm.sh PYTHON_VERSION REQUIREMENT…
set -eu

python_version=$1
shift
venv=$HOME/.humpback/venv
export PATH="$HOME/.local/bin:$PATH"

# The images' own Python is 3.10, with which `pip install jax[tpu]` silently gives an old JAX.
if ! command -v uv >/dev/null; then
  curl -LsSf https://astral.sh/uv/install.sh | sh
fi
wanted=$(printf '%s\n' "$python_version" "$@")
if [ "$(cat "$venv/humpback-installed" 2>/dev/null)" = "$wanted" ] && ! printf '%s\n' "$@" | grep -q '^\./'; then
  echo "the environment is as wanted"
  exit 0
fi
# Made elsewhere and moved: an interrupted set-up leaves no half environment under the final name.
rm -rf "$venv.new"
uv venv --relocatable --python "$python_version" "$venv.new"
VIRTUAL_ENV="$venv.new" uv pip install "$@"
printf '%s\n' "$wanted" >"$venv.new/humpback-installed"
rm -rf "$venv"
mv "$venv.new" "$venv"
"$venv/bin/python" - <<'PYTHON'
import importlib.metadata, sys
versions = {name: importlib.metadata.version(name) for name in ("jax", "libtpu", "humpback_jax")}
print(f"Python {sys.version.split()[0]},", ", ".join(f"{name} {version}" for name, version in versions.items()))
assert sys.version_info >= (3, 11), "Python 3.11 or later is needed"
PYTHON
