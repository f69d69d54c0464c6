#!/bin/bash
#
# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

# The commands the plugin runs, under whose names this file is linked into the search path. Each
# call is noted in $NODE/calls; what a command remembers is under $NODE/state.

name=$(basename "$0")
state=$NODE/state

if [[ "$name" == record ]]; then
    printf '%s\x1f' "$@" >> "$NODE/calls"
    printf '\x1e' >> "$NODE/calls"
    exit
fi
record "$name" "$@"

# The value of an option that comes after its name.
function value_of {
    local option=$1
    shift
    while [[ $# -gt 0 && "$1" != "$option" ]]; do
        shift
    done
    echo "${2:-}"
}

# -- the system ---------------------------------------------------------------------------------

function run_sudo {
    if [[ "$1" == -u ]]; then
        shift 2
    fi
    exec "$@"
}

function run_hostname {
    if [[ "${1:-}" == -f ]]; then
        echo "$NODE_NAME.example.org"
    else
        echo "$NODE_NAME"
    fi
}

# Whether a service answers.
function run_answers {
    if [[ -n "${NODE_STARTS:-}" ]]; then
        python3 -c 'import ssl, sys, urllib.request
context = ssl._create_unverified_context()
urllib.request.urlopen(sys.argv[1], timeout=10, context=context)' "$1" 2> /dev/null
    fi
}

# A service manager that knows what is enabled; it starts processes if NODE_STARTS is set.
function run_systemctl {
    local unit=${2:-}
    local command pid
    case "$1" in
        enable) touch "$state/$unit.enabled" ;;
        disable) rm "$state/$unit.enabled" ;;
        is-enabled) test -e "$state/$unit.enabled" ;;
        start)
            command=$(sed -n 's/^ExecStart *= *//p' "$SYSTEMD_DIR/$unit")
            if [[ -n "${NODE_STARTS:-}" ]]; then
                setsid $command < /dev/null > "$state/$unit.log" 2>&1 &
                echo $! > "$state/$unit.pid"
            else
                pretend_start $command
            fi
            ;;
        stop)
            if [[ -n "${NODE_STARTS:-}" ]]; then
                pid=$(cat "$state/$unit.pid")
                kill -TERM "$pid"
                while kill -0 "$pid"; do
                    sleep 0.05
                done 2> /dev/null
                rm "$state/$unit.pid"
            fi
            ;;
    esac
}

# What others wait for when these services start.
function pretend_start {
    case "$*" in
        *software_tpm.py*)
            mkdir -p "$(value_of --ca-dir "$@")"
            echo root > "$(value_of --ca-dir "$@")/swtpm-localca-rootca-cert.pem"
            echo issuer > "$(value_of --ca-dir "$@")/issuercert.pem"
            echo swtpm:path=/tpm > "$(value_of --booted "$@")"
            ;;
    esac
}

# -- OpenStack ----------------------------------------------------------------------------------

function run_openstack {
    case "$*" in
        "flavor show "*) test -e "$state/flavor" ;;
        "flavor create "*) touch "$state/flavor" ;;
        *"server create "*) test ! -e "$state/no-valid-host" ;;
        *"server show "*hypervisor_hostname*) echo "$NODE_NAME" ;;
        *"service show "*) cat "$state/service" ;;
        *"service create "*) echo service-id | tee "$state/service" ;;
        *"endpoint list "*) cat "$state/endpoint" ;;
        *"endpoint create "*) echo endpoint-id | tee "$state/endpoint" ;;
    esac
} 2> /dev/null

# -- the project; not used where its real programs are under test -------------------------------

fingerprint=$(printf 'ab%.0s' {1..32})

function run_oat-manage {
    local dir
    dir=$(sed -n 's/^state_dir *= *//p' "$(value_of --config-file "$@")")
    case "$3 ${4:-}" in
        init*)
            echo certificate > "$dir/ca.pem"
            echo token > "$dir/scheduler.token"
            echo "export OAT_TOKEN=secret-of-the-admin" > "$dir/admin-openrc"
            ;;
        "token create") echo secret-of-the-enforcer ;;
    esac
}

function run_oat-agent {
    if [[ -e "$state/tpm-broken" ]]; then
        echo "oat-agent: [tpm-unusable] the TPM does not answer" >&2
        return 3
    fi
    if [[ -e "$state/approved" ]]; then
        echo "untrusted: [no-reference] no reference set"
        return 1
    fi
    echo "INFO enrolled with the endorsement key $fingerprint (with certificate): pending"
    echo "unknown: [host-pending] an operator has to approve endorsement key $fingerprint"
    return 2
}

function run_oat {
    if [[ "$OAT_TOKEN" != secret-of-the-admin ]]; then
        return 2
    fi
    case "$1 $2" in
        "host approve") touch "$state/approved" ;;
        "host show")
            case "$(value_of -c "$@")" in
                appraised_at) echo 2026-01-01T00:00:00.000Z ;;
                level) echo trusted ;;
            esac
            ;;
        "reference list") cat "$state/reference" 2> /dev/null ;;
        "reference create") echo "$3" > "$state/reference" ;;
    esac
}

"run_$name" "$@"
