#!/usr/bin/env bash
# Makes .venv and installs a requirements file into it, once per change of that file.
#   tools/set-up.sh runtime | dev
# What Debian or Ubuntu has to give (python3-venv) is installed where this runs as root, and named where it does not.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:-runtime}
case $kind in
  runtime) requirements=requirements.txt ;;
  dev) requirements=requirements-dev.txt ;;
  *) echo "usage: tools/set-up.sh runtime|dev" >&2; exit 2 ;;
esac

say_or_install() { # the packages that are missing
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing $*"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  else
    echo "Missing here: $*. Install them first, for example: sudo apt-get install $*" >&2
    exit 1
  fi
}

python=${PYTHON:-python3}
command -v "$python" >/dev/null || say_or_install python3 python3-venv
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Atelier needs Python 3.11 or newer; $python is $("$python" --version). Name another: make PYTHON=python3.12 …" >&2
  exit 1
}
"$python" -c 'import ensurepip, venv' 2>/dev/null || say_or_install python3-venv

# The tests start a PostgreSQL server of their own. Debian's package would start one too, on port 5432: it is told not to.
if [ "$kind" = dev ] && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && ! command -v initdb >/dev/null; then
  if [ "$(id -u)" = 0 ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    say_or_install postgresql-common
    sed -i "s/^#\?create_main_cluster.*/create_main_cluster = false/" /etc/postgresql-common/createcluster.conf
  fi
  say_or_install postgresql
fi

# And a RabbitMQ node and a Redis of their own, promtool, which checks the metrics and the alert rules, and a browser that opens the documentation
# pages. Debian's packages would start a broker on port 5672, a Redis on 6379 and a Prometheus on 9090, unless a policy says that nothing is started.
missing=()
if [ "$kind" = dev ]; then
  [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing+=(rabbitmq-server)
  command -v redis-server >/dev/null || missing+=(redis-server)
  command -v promtool >/dev/null || missing+=(prometheus)
  command -v chromium >/dev/null || missing+=(chromium)
fi
if [ "${#missing[@]}" -gt 0 ]; then
  policy=/usr/sbin/policy-rc.d
  if [ "$(id -u)" = 0 ] && [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  say_or_install "${missing[@]}"
fi

stamp=.venv/.set-up-$kind
wanted=$(cat requirements.txt "$requirements" pyproject.toml | sha256sum)
if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi
[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "installing $requirements into .venv (PyTorch is large: a few minutes the first time)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
echo "$wanted" >"$stamp"
