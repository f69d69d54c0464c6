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

# Plays devstack's scripts to the plugin: driver.sh stack|unstack|clean
#
# From the environment: NODE, the folder of a node with its localrc; PLUGIN, a clone of the project;
# DEVSTACK_DIR, a checkout of devstack, or nothing.

source "$(dirname "${BASH_SOURCE[0]}")/standins.sh"
if [[ -n "${DEVSTACK_DIR:-}" ]]; then
    source "$DEVSTACK_DIR/inc/ini-config"
    source "$DEVSTACK_DIR/functions-common"
    # This one would change the machine of the tests.
    function install_bindep {
        :
    }
fi
source "$NODE/localrc"
DEVSTACK_PLUGINS=,oat-trusted-filter
GITDIR[oat-trusted-filter]=$PLUGIN

# Note every call of these functions, whoever wrote them.
for name in \
    configure_keystone_authtoken_middleware configure_keystoneauth create_service_user \
    database_connection_url ensure_certificates get_or_create_endpoint get_or_create_service \
    install_bindep recreate_database run_phase run_process setup_develop stop_process \
    wait_for_service; do
    definition=$(declare -f "$name")
    eval "_called_$definition"
    eval "function $name { record $name \"\$@\"; _called_$name \"\$@\"; }"
done

case "$1" in
    stack)
        set -o errexit
        trap 'echo "failed at line $LINENO of ${BASH_SOURCE[0]}" >&2' ERR
        run_phase override_defaults
        run_phase source
        set -o xtrace
        run_phase stack pre-install
        run_phase stack install
        run_phase stack post-config
        # Here devstack starts placement and Nova.
        run_phase stack extra
        run_phase stack test-config
        ;;
    unstack)
        run_phase override_defaults
        run_phase source
        set -o xtrace
        run_phase unstack
        ;;
    clean)
        run_phase source
        set -o xtrace
        run_phase clean
        ;;
esac
set +o xtrace
record ENABLED_SERVICES "$ENABLED_SERVICES"
