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

# **devstack/plugin.sh** - what devstack calls: source plugin.sh <mode> [phase]

source "$OAT_DIR/devstack/lib/oat"

if is_service_enabled oat n-sch; then
    case "$1 ${2:-}" in
        "stack pre-install")
            echo_summary "Installing system packages for oat"
            install_oat_packages
            ;;
        "stack install")
            echo_summary "Installing oat"
            install_oat
            ;;
        "stack post-config")
            echo_summary "Configuring oat"
            configure_oat
            init_oat
            ;;
        "stack extra")
            echo_summary "Starting oat"
            start_oat
            enrol_oat_host
            create_oat_flavor
            ;;
        "stack test-config")
            if [[ "$OAT_SMOKE_TEST" == "True" ]]; then
                echo_summary "Booting a trusted server"
                run_oat_smoke_test
            fi
            ;;
        "unstack "*)
            stop_oat
            ;;
        "clean "*)
            cleanup_oat
            ;;
    esac
fi
