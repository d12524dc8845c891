#!/bin/sh
# Installs lock files into /opt/venv, in a stage of deploy/Dockerfile: `install.sh NAME...`, of requirements/NAME.txt.
# /wheels is deploy/wheels/: what lies there goes before what an index has, and its certificates are believed.
set -eu

for bundle in /wheels/*.pem; do
    [ -e "$bundle" ] || continue
    cat "$bundle" >>/etc/ssl/certs/ca-certificates.crt
    # pip believes only its own list otherwise.
    export PIP_CERT="${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}"
done
export PIP_FIND_LINKS=/wheels PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_PROGRESS_BAR=off

# pip stays outside of what it fills.
python3 -m venv /opt/pip
python3 -m venv --without-pip /opt/venv
for name in "$@"; do
    index=
    if [ "$name" = torch-cpu ]; then
        if ls /wheels/torch-*.whl >/dev/null 2>&1; then index=--no-index; else index="--extra-index-url $TORCH_INDEX"; fi
    fi
    # shellcheck disable=SC2086  # two words or none
    /opt/pip/bin/pip --python /opt/venv/bin/python install --require-hashes --no-deps --no-compile $index \
        -r "/requirements/$name.txt"
done
rm -r /opt/pip

# The project itself: its rooms come later, so that a change in them installs nothing anew.
echo /app >"$PACKAGES/app.pth"
printf '#!/opt/venv/bin/python\nfrom cli import main\n\nmain()\n' >/opt/venv/bin/fashion-mnist
chmod 755 /opt/venv/bin/fashion-mnist
