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

# Stand-ins for the functions of devstack that the plugin calls: what their documentation promises,
# and no more. driver.sh puts devstack's own in their place where there is a checkout.

# -- text and settings --------------------------------------------------------------------------

function echo_summary {
    echo "== $*"
}

function die {
    shift
    echo "[ERROR] $*" >&2
    exit 1
}

function trueorfalse {
    case "${!2:-}" in
        1|[Yy]es|YES|[Tt]rue|TRUE) echo True ;;
        0|[Nn]o|NO|[Ff]alse|FALSE) echo False ;;
        *) echo "$1" ;;
    esac
}

function ipv6_unquote {
    local address=${1#\[}
    echo "${address%\]}"
}

function define_plugin {
    :
}

# -- plugins ------------------------------------------------------------------------------------

declare -A GITDIR

function run_phase {
    local plugin
    for plugin in ${DEVSTACK_PLUGINS//,/ }; do
        case "$1" in
            override_defaults) source "${GITDIR[$plugin]}/devstack/override-defaults" ;;
            source) source "${GITDIR[$plugin]}/devstack/settings" ;;
            *) source "${GITDIR[$plugin]}/devstack/plugin.sh" "$1" "${2:-}" ;;
        esac
    done
}

# -- services -----------------------------------------------------------------------------------

function is_service_enabled {
    local service
    for service in "$@"; do
        if [[ ",$ENABLED_SERVICES," == *",$service,"* ]]; then
            return 0
        fi
        if [[ $(type -t "is_${service}_enabled") == function ]] && "is_${service}_enabled"; then
            return 0
        fi
    done
    return 1
}

function enable_service {
    local service
    for service in "$@"; do
        if [[ ",${DISABLED_SERVICES:-}," == *",$service,"* ]]; then
            continue
        fi
        if [[ ",$ENABLED_SERVICES," != *",$service,"* ]]; then
            ENABLED_SERVICES+=",$service"
        fi
    done
}

function run_process {
    local service=$1
    if ! is_service_enabled "$service"; then
        return
    fi
    mkdir -p "$SYSTEMD_DIR"
    cat > "$SYSTEMD_DIR/devstack@$service.service" << END
[Service]
ExecStart = $2
User = ${4:-$STACK_USER}
END
    systemctl enable "devstack@$service.service"
    systemctl start "devstack@$service.service"
}

function stop_process {
    local unit=devstack@$1.service
    if is_service_enabled "$1" && systemctl is-enabled "$unit"; then
        systemctl stop "$unit"
        systemctl disable "$unit"
    fi
}

function wait_for_service {
    local deadline
    deadline=$((SECONDS + $1))
    until answers "$2"; do
        if [[ $SECONDS -ge $deadline ]]; then
            return 1
        fi
        sleep 0.1
    done
}

function test_with_retry {
    local deadline
    deadline=$((SECONDS + ${3:-10}))
    until sh -c "$1"; do
        if [[ $SECONDS -ge $deadline ]]; then
            die $LINENO "$2"
        fi
        sleep 0.1
    done
}

# -- installation -------------------------------------------------------------------------------

function get_python_exec_prefix {
    echo "$BIN_DIR"
}

function install_bindep {
    :
}

function setup_develop {
    :
}

# -- INI files ----------------------------------------------------------------------------------

# Values of an option, one a line.
function _ini_values {
    if [[ -e $1 ]]; then
        awk -v section="[$2]" -v option="$3" '
            /^\[/ { inside = ($0 == section) }
            inside {
                at = index($0, "=")
                name = substr($0, 1, at - 1)
                gsub(/[ \t]+$/, "", name)
                if (at && name == option) {
                    value = substr($0, at + 1)
                    gsub(/^[ \t]+|[ \t]+$/, "", value)
                    print value
                }
            }' "$1"
    fi
}

# The file without an option.
function _ini_without {
    if [[ -e $1 ]]; then
        awk -v section="[$2]" -v option="$3" '
            /^\[/ { inside = ($0 == section) }
            {
                name = substr($0, 1, index($0, "=") - 1)
                gsub(/[ \t]+$/, "", name)
                if (!inside || name != option) print
            }' "$1"
    fi
}

function iniget {
    echo $(_ini_values "$@")
}

function iniget_multiline {
    echo $(_ini_values "$@")
}

function iniadd {
    iniset_multiline "$1" "$2" "$3" $(_ini_values "$1" "$2" "$3") "${@:4}"
}

function iniset {
    iniset_multiline "$@"
}

function iniset_multiline {
    local file=$1 section=$2 option=$3
    local value text
    shift 3
    text=$(_ini_without "$file" "$section" "$option")
    if ! grep -q -F -x "[$section]" <<< "$text"; then
        text+=$'\n'"[$section]"
    fi
    while IFS= read -r line; do
        echo "$line"
        if [[ "$line" == "[$section]" ]]; then
            for value in "$@"; do
                echo "$option = $value"
            done
        fi
    done <<< "$text" > "$file.new"
    mv "$file.new" "$file"
}

# -- database, keystone, certificates -----------------------------------------------------------

function recreate_database {
    :
}

function database_connection_url {
    echo "mysql+pymysql://root:secret@127.0.0.1/$1?charset=utf8"
}

function is_keystone_enabled {
    [[ ",$ENABLED_SERVICES," == *,key,* ]]
}

function create_service_user {
    :
}

function get_or_create_service {
    openstack service create "$2" --name "$1"
}

function get_or_create_endpoint {
    openstack endpoint create "$1" public "$3" --region "$2"
}

function configure_keystoneauth {
    iniset "$1" "$3" auth_type password
    iniset "$1" "$3" auth_url "$KEYSTONE_SERVICE_URI"
    iniset "$1" "$3" username "$2"
    iniset "$1" "$3" password "$SERVICE_PASSWORD"
}

function configure_keystone_authtoken_middleware {
    configure_keystoneauth "$1" "$2" "${3:-keystone_authtoken}"
}

function ensure_certificates {
    local service=$1
    declare -g "${service}_SSL_CERT=$DATA_DIR/CA/int-ca/devstack-cert.crt"
    declare -g "${service}_SSL_KEY=$DATA_DIR/CA/int-ca/private/devstack-cert.key"
    declare -g "${service}_SSL_CA=$DATA_DIR/CA/int-ca/ca-chain.pem"
}
