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
"""What the plugin does to a node: files, calls of devstack's functions, and their order.

Commands of OpenStack and programs of the project only pretend here; test_running has the real ones.
"""

import re
import socket
import stat

import nova.conf
import pytest
from oslo_config import cfg

from oat_trusted_filter.conf import agent as agent_conf
from tests.functional.devstack.node import (
    COMPUTE,
    CONTROL,
    HERE,
    NAME,
    REPOSITORY,
    read_options,
)

FILTER = "oat_trusted_filter.scheduler.trusted_filter.TrustedFilter"
ENABLED = ("filter_scheduler", cfg.ListOpt("enabled_filters"))
AVAILABLE = ("filter_scheduler", cfg.MultiStrOpt("available_filters"))
FINGERPRINT = "ab" * 32


def _options(path, group, *names):
    options = [(group, cfg.StrOpt(name)) for name in names]
    return {name: value for (_, name), value in read_options(path, *options).items()}


def _filters(node):
    found = read_options(node.nova_conf, ENABLED, AVAILABLE)
    return (
        found["filter_scheduler", "enabled_filters"],
        found["filter_scheduler", "available_filters"],
    )


# -- nova.conf -------------------------------------------------------------------------------------


def test_nova_gets_the_filter_beside_those_it_has(make_node):
    node = make_node()
    node.nova_conf.write_text(
        "[filter_scheduler]\nenabled_filters = ComputeFilter,SameHostFilter\n"
    )
    node.stack()
    assert _filters(node) == (
        ["ComputeFilter", "SameHostFilter", "TrustedFilter"],
        ["nova.scheduler.filters.all_filters", FILTER],
    )


def test_without_filters_in_nova_conf_the_defaults_of_nova_stay(make_node):
    node = make_node()
    node.nova_conf.write_text("")
    node.stack()
    enabled, available = _filters(node)
    assert enabled == [*nova.conf.CONF.filter_scheduler.enabled_filters, "TrustedFilter"]
    assert available == ["nova.scheduler.filters.all_filters", FILTER]


@pytest.mark.parametrize(
    ("before", "available"),
    [
        ("available_filters = site.filters.all\n", ["site.filters.all", FILTER]),
        (
            "available_filters = nova.scheduler.filters.all_filters\n"
            "available_filters = site.filters.all\n",
            ["nova.scheduler.filters.all_filters", "site.filters.all", FILTER],
        ),
        (f"available_filters = {FILTER}\n", [FILTER]),
    ],
)
def test_what_else_is_available_stays_so(before, available, make_node):
    node = make_node()
    node.nova_conf.write_text(
        f"[filter_scheduler]\n{before}enabled_filters = A, TrustedFilter ,B\n[DEFAULT]\nhost = h\n"
    )
    node.stack()
    assert _filters(node) == (["A", "TrustedFilter", "B"], available)


def test_a_filter_with_a_similar_name_is_not_ours(make_node):
    node = make_node()
    node.nova_conf.write_text("[filter_scheduler]\nenabled_filters = NotTrustedFilter\n")
    node.stack()
    assert _filters(node)[0] == ["NotTrustedFilter", "TrustedFilter"]


def test_nova_scheduler_is_told_where_the_backend_is(make_node):
    node = make_node(OAT_REGION="RegionOne")
    node.stack()
    assert _options(
        node.nova_conf,
        "trusted_computing",
        "endpoint",
        "attestation_server_ca_file",
        "token_file",
        "region",
    ) == {
        "endpoint": "https://192.0.2.10:8443",
        "attestation_server_ca_file": str(node.oat_dir / "ca.pem"),
        "token_file": str(node.oat_dir / "scheduler.token"),
        "region": "RegionOne",
    }


# -- a control node --------------------------------------------------------------------------------


def test_a_control_node_gets_everything(make_node):
    node = make_node()
    played = node.stack()
    assert {"oat-api", "oat-enforcer", "oat-agent", "oat-tpm"} <= set(played.services)
    assert played.only("setup_develop") == [[str(REPOSITORY), "backend,cli,enforcer,agent"]]
    assert played.only("install_bindep") == [
        [str(REPOSITORY / "devstack/files/bindep.txt"), "swtpm"]
    ]


def test_things_happen_in_the_phase_and_order_devstack_expects(make_node):
    node = make_node()
    played = node.stack()
    at = played.position
    manage = ("oat-manage", "--config-file", str(node.etc / "oat" / "oat.conf"))
    assert (
        at("run_phase", "stack", "pre-install")
        < at("install_bindep")
        < at("run_phase", "stack", "install")
        < at("setup_develop")
        < at("run_phase", "stack", "post-config")
        < at(*manage, "db", "sync")
        < at(*manage, "init")
        < at(*manage, "token", "create")
        < at("create_service_user", "oat")
        < at("run_phase", "stack", "extra")
        < at("run_process", "oat-tpm")
        < at("run_process", "oat-api")
        < at("wait_for_service")
        < at("run_process", "oat-enforcer")
        < at("oat", "host", "approve")
        < at("run_process", "oat-agent")
        < at("oat", "reference", "create")
        < at("openstack", "flavor", "create")
        < at("openstack", "flavor", "set")
        < at("run_phase", "stack", "test-config")
        < at("openstack", "--os-compute-api-version", "2.37", "server", "create")
    )


def test_the_configuration_of_the_backend(make_node):
    node = make_node(API_WORKERS=3, OAT_SERVICE_PORT=9443)
    played = node.stack()
    conf = node.etc / "oat" / "oat.conf"
    assert _options(conf, "api", "bind_host", "port", "workers", "auth_strategy") == {
        "bind_host": "0.0.0.0",  # noqa: S104
        "port": "9443",
        "workers": "3",
        "auth_strategy": "keystone",
    }
    assert _options(conf, "attestation", "state_dir", "ek_ca_dir", "allow_software_tpm") == {
        "state_dir": str(node.oat_dir),
        "ek_ca_dir": str(node.oat_dir / "ek-ca"),
        "allow_software_tpm": "True",
    }
    assert _options(conf, "api", "tls_certificate", "tls_key") == {
        "tls_certificate": None,
        "tls_key": None,
    }
    init = played.calls[played.position("oat-manage", "--config-file", str(conf), "init")]
    assert init[4:] == ["--host", "192.0.2.10", "--host", f"{NAME}.example.org"]
    assert ["60", "https://192.0.2.10:9443/healthz"] in played.only("wait_for_service")


def test_the_services_are_started_with_their_files(make_node):
    node = make_node()
    played = node.stack()
    etc = node.etc / "oat"
    started = {call[0]: call[1:] for call in played.only("run_process")}
    assert started["oat-api"] == [
        f"{node.programs}/oat-attestation-api --config-file {etc}/oat.conf"
    ]
    assert started["oat-enforcer"] == [
        f"{node.programs}/oat-enforcer --config-file {etc}/oat-enforcer.conf"
    ]
    assert started["oat-agent"] == [
        f"{node.programs}/oat-agent --config-file {etc}/oat-agent.conf",
        "",
        node.settings["STACK_USER"],
    ]
    units = {path.name for path in (node.folder / "units").iterdir()}
    assert units == {f"devstack@{service}.service" for service in started}


def test_keystone_knows_user_service_and_endpoint(make_node):
    played = make_node().stack()
    assert played.only("create_service_user") == [["oat"]]
    assert played.only("get_or_create_service") == [
        ["oat", "trust-attestation", "Trusted compute pools"]
    ]
    assert played.only("get_or_create_endpoint") == [
        ["trust-attestation", "RegionOne", "https://192.0.2.10:8443"]
    ]
    created = [call for call in played.only("openstack") if "create" in call]
    assert any({"endpoint", "trust-attestation"} <= set(call) for call in created)


def test_without_keystone_there_are_no_accounts(make_node):
    played = make_node(services="n-api,n-sch,n-cpu").stack()
    assert not played.only("create_service_user", "get_or_create_service")
    assert "oat-enforcer" not in played.services


def test_the_enforcer_reaches_backend_and_placement(make_node):
    node = make_node(OAT_REGION="RegionOne")
    node.stack()
    conf = node.etc / "oat" / "oat-enforcer.conf"
    token = node.oat_dir / "enforcer.token"
    assert _options(conf, "enforcer", "endpoint", "ca_file", "token_file", "region") == {
        "endpoint": "https://192.0.2.10:8443",
        "ca_file": str(node.oat_dir / "ca.pem"),
        "token_file": str(token),
        "region": "RegionOne",
    }
    assert _options(conf, "placement", "username", "auth_type", "region_name", "cafile") == {
        "username": "oat",
        "auth_type": "password",
        "region_name": "RegionOne",
        "cafile": None,
    }
    assert token.read_text() == "secret-of-the-enforcer\n"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_the_host_is_approved_by_the_key_its_own_agent_names(make_node):
    played = make_node(OAT_AGENT_HOST="compute-1").stack()
    assert ["host", "approve", "compute-1", "--ek-fingerprint", FINGERPRINT] in played.only("oat")
    create = ["reference", "create", "devstack", "--from-host", "compute-1"]
    assert create in played.only("oat")


def test_another_policy_is_set_before_the_host_is_judged_by_it(make_node, tmp_path):
    policy = tmp_path / "policy.json"
    policy.touch()
    played = make_node(OAT_POLICY=policy).stack()
    setting = played.position("oat", "policy", "set", "default", str(policy))
    assert setting < played.position("oat", "reference", "create")


def test_the_flavor_asks_for_trust(make_node):
    played = make_node().stack()
    openstack = played.only("openstack")
    assert ["flavor", "create", "--vcpus", "1", "--ram", "512", "--disk", "1", "m1.trusted"] in (
        openstack
    )
    assert ["flavor", "set", "--property", "trust:trusted_host=trusted", "m1.trusted"] in openstack


def test_a_trusted_server_is_booted_and_removed(make_node):
    played = make_node().stack()
    calls = [call for call in played.during("stack", "test-config") if call[0] != "sudo"]
    create = next(call for call in calls if "create" in call)
    assert create[create.index("--flavor") + 1] == "m1.trusted"
    assert create[create.index("--image") + 1] == "cirros"
    assert calls[-1] == ["openstack", "server", "delete", "--wait", "oat-smoke-test"]


def test_the_smoke_test_can_be_left_out(make_node):
    played = make_node(OAT_SMOKE_TEST="False").stack()
    assert not [call for call in played.only("openstack") if "server" in call]


def test_no_token_is_in_the_log(make_node):
    node = make_node()
    played = node.stack()
    # So what is run is in the log.
    assert f"sudo -u {node.settings['STACK_USER']} {node.programs}/oat-agent" in played.output
    assert "secret-of-the-admin" not in played.output
    assert "secret-of-the-enforcer" not in played.output


# -- variants --------------------------------------------------------------------------------------


def test_ipv6(make_node):
    node = make_node(SERVICE_HOST="[2001:db8::10]", SERVICE_LISTEN_ADDRESS="[::]")
    played = node.stack()
    endpoint = "https://[2001:db8::10]:8443"
    conf = node.etc / "oat" / "oat.conf"
    assert _options(conf, "api", "bind_host") == {"bind_host": "::"}
    assert _options(node.nova_conf, "trusted_computing", "endpoint") == {"endpoint": endpoint}
    agent = node.etc / "oat" / "oat-agent.conf"
    assert _options(agent, "agent", "endpoint") == {"endpoint": endpoint}
    init = played.calls[played.position("oat-manage", "--config-file", str(conf), "init")]
    assert init[4:6] == ["--host", "2001:db8::10"]
    assert ["60", f"{endpoint}/healthz"] in played.only("wait_for_service")


def test_with_the_certificates_of_devstack(make_node):
    node = make_node(services=f"{CONTROL},tls-proxy")
    played = node.stack()
    authority = node.data / "CA" / "int-ca"
    bundle = str(node.data / "ca-bundle.pem")
    assert played.only("ensure_certificates") == [["OAT"]]
    assert _options(node.etc / "oat" / "oat.conf", "api", "tls_certificate", "tls_key") == {
        "tls_certificate": str(authority / "devstack-cert.crt"),
        "tls_key": str(authority / "private" / "devstack-cert.key"),
    }
    for file, group, option in (
        (node.nova_conf, "trusted_computing", "attestation_server_ca_file"),
        (node.etc / "oat" / "oat-agent.conf", "agent", "ca_file"),
        (node.etc / "oat" / "oat-enforcer.conf", "enforcer", "ca_file"),
        (node.etc / "oat" / "oat-enforcer.conf", "placement", "cafile"),
    ):
        assert _options(file, group, option) == {option: bundle}


def test_in_the_database_of_devstack(make_node):
    node = make_node()
    played = node.stack()
    assert played.only("recreate_database") == [["oat"]]
    conf = node.etc / "oat" / "oat.conf"
    sync = played.position("oat-manage", "--config-file", str(conf), "db", "sync")
    assert played.position("recreate_database") < sync
    connection = _options(conf, "database", "connection")["connection"]
    assert connection == "mysql+pymysql://root:secret@127.0.0.1/oat?charset=utf8"


def test_a_database_that_devstack_does_not_run(make_node):
    played = make_node(OAT_DATABASE="postgresql").play("stack")
    assert played.status != 0
    assert "OAT_DATABASE is postgresql, but devstack runs mysql" in played.output


def test_with_the_accounts_of_keystone(make_node):
    node = make_node()
    played = node.stack()
    conf = node.etc / "oat" / "oat.conf"
    assert _options(conf, "api", "auth_strategy") == {"auth_strategy": "keystone"}
    assert played.only("configure_keystone_authtoken_middleware") == [[str(conf), "oat"]]
    assert _options(conf, "keystone_authtoken", "username") == {"username": "oat"}


def test_with_accounts_and_a_database_of_its_own(make_node):
    node = make_node(OAT_AUTH_STRATEGY="http_basic", OAT_DATABASE="sqlite")
    played = node.stack()
    conf = node.etc / "oat" / "oat.conf"
    assert _options(conf, "api", "auth_strategy") == {"auth_strategy": "http_basic"}
    assert _options(conf, "database", "connection") == {"connection": None}
    assert played.only("configure_keystone_authtoken_middleware") == []
    assert played.only("recreate_database") == []


def test_a_hardware_tpm_is_used_by_root(make_node, tmp_path):
    device = tmp_path / "tpmrm7"
    device.touch()
    node = make_node(OAT_TPM_DEVICE=device, OAT_SOFTWARE_TPM="")
    played = node.stack()
    assert "oat-tpm" not in played.services
    assert played.only("install_bindep") == [[str(REPOSITORY / "devstack/files/bindep.txt")]]
    agent = node.etc / "oat" / "oat-agent.conf"
    assert _options(agent, "agent", "tcti", "boot_log") == {
        "tcti": f"device:{device}",
        "boot_log": None,
    }
    started = {call[0]: call[1:] for call in played.only("run_process")}
    assert started["oat-agent"][1:] == ["", "root"]
    once = next(call for call in played.only("sudo") if "--once" in call)
    assert once[:2] == ["-u", "root"]


def test_without_a_tpm_there_is_one_in_software(make_node, tmp_path):
    node = make_node(OAT_TPM_DEVICE=tmp_path / "none", OAT_SOFTWARE_TPM="")
    played = node.stack()
    assert "oat-tpm" in played.services
    agent = node.etc / "oat" / "oat-agent.conf"
    assert _options(agent, "agent", "tcti", "boot_log") == {
        "tcti": "swtpm:path=/tpm",
        "boot_log": str(REPOSITORY / "tests/data/boots/machine-a/boot_log.bin"),
    }
    believed = {path.name for path in (node.oat_dir / "ek-ca").iterdir()}
    assert believed == {"swtpm-localca-rootca-cert.pem", "issuercert.pem"}


def test_the_agent_takes_the_names_nova_has_for_the_host(make_node):
    node = make_node()
    node.nova_conf.write_text("[DEFAULT]\nhost = service-1\n")
    node.stack()
    conf = cfg.ConfigOpts()
    agent_conf.register_opts(conf)
    conf([], default_config_files=[str(node.etc / "oat" / "oat-agent.conf")])
    assert conf.agent.service_host == "service-1"
    assert conf.agent.host.split(".")[0] == socket.gethostname().split(".")[0]
    assert agent_conf.host_name(conf) == conf.agent.host


def test_with_the_fake_driver_the_agent_speaks_for_its_first_compute(make_node):
    node = make_node(VIRT_DRIVER="fake")
    node.stack()
    names = _options(node.etc / "oat" / "oat-agent.conf", "agent", "host", "service_host")
    assert names == {"host": f"{NAME}1", "service_host": f"{NAME}1"}


def test_disable_service_has_the_last_word(make_node):
    played = make_node(DISABLED_SERVICES="oat-enforcer,oat-agent").stack()
    assert "oat-api" in played.services
    assert not {"oat-enforcer", "oat-agent", "oat-tpm"} & set(played.services)
    assert played.only("setup_develop") == [[str(REPOSITORY), "backend,cli"]]
    assert not played.only("oat-agent")


# -- a compute node --------------------------------------------------------------------------------


def test_a_compute_node_gets_just_the_agent(make_node, tmp_path):
    authority = tmp_path / "ca.pem"
    authority.write_text("certificate\n")
    node = make_node(services=COMPUTE, OAT_CA_FILE=authority, DATABASE_TYPE="")
    before = node.nova_conf.read_text()
    played = node.stack()
    assert set(played.services) == {*COMPUTE.split(","), "oat-agent", "oat-tpm"}
    assert played.only("setup_develop") == [[str(REPOSITORY), "agent"]]
    assert [call[0] for call in played.only("run_process")] == ["oat-tpm", "oat-agent"]
    assert not played.only("oat", "oat-manage", "openstack", "create_service_user")
    assert node.nova_conf.read_text() == before
    assert [path.name for path in (node.etc / "oat").iterdir()] == ["oat-agent.conf"]
    agent = node.etc / "oat" / "oat-agent.conf"
    assert _options(agent, "agent", "ca_file", "endpoint") == {
        "ca_file": str(authority),
        "endpoint": "https://192.0.2.10:8443",
    }
    assert "On the node of the backend: oat host approve" in played.output


def test_a_compute_node_without_the_certificate_of_the_backend_says_so(make_node):
    node = make_node(services=COMPUTE)
    played = node.play("stack")
    assert played.status != 0
    assert f"{node.oat_dir}/ca.pem is missing: copy it from the node of the backend" in (
        played.output
    )
    assert not played.only("run_process")


def test_a_node_with_neither_scheduler_nor_compute_is_left_alone(make_node):
    node = make_node(services="key,mysql,g-api")
    played = node.stack()
    assert {call[0] for call in played.calls} <= {"run_phase", "ENABLED_SERVICES"}
    assert not node.oat_dir.exists()


def test_a_node_with_the_scheduler_alone_gets_the_filter(make_node):
    node = make_node(services="n-sch", DISABLED_SERVICES="oat-api")
    played = node.stack()
    assert played.only("setup_develop") == [[str(REPOSITORY)]]
    assert FILTER in _filters(node)[1]
    assert not played.only("run_process", "oat", "oat-manage")


# -- again, and away -------------------------------------------------------------------------------


def _files(node):
    return {
        path.name: path.read_text()
        for path in [node.nova_conf, *(node.etc / "oat").iterdir()]
        if path.is_file()
    }


def test_stack_twice_gives_the_same_files(make_node):
    node = make_node(OAT_DATABASE="sqlite")
    first = node.stack()
    files = _files(node)
    (node.oat_dir / "oat.sqlite").touch()
    (node.oat_dir / "oat.sqlite-wal").touch()
    second = node.stack()
    assert _files(node) == files
    assert second.services == first.services
    # As with all services of devstack, the second stack begins with an empty database.
    assert not list(node.oat_dir.glob("oat.sqlite*"))
    assert not [call for call in second.only("openstack") if call[:2] == ["flavor", "create"]]
    assert ["flavor", "set", "--property", "trust:trusted_host=trusted", "m1.trusted"] in (
        second.only("openstack")
    )


def test_what_still_runs_is_stopped_before_its_database_goes(make_node):
    node = make_node()
    node.stack()
    again = node.stack()
    stopped = again.position("systemctl", "stop", "devstack@oat-api.service")
    conf = str(node.etc / "oat" / "oat.conf")
    assert stopped < again.position("oat-manage", "--config-file", conf, "db", "sync")


def test_unstack_stops_the_services_and_keeps_the_files(make_node):
    node = make_node()
    node.stack()
    files = _files(node)
    played = node.play("unstack")
    assert played.status == 0
    stopped = [call[0] for call in played.only("stop_process")]
    assert sorted(stopped) == ["oat-agent", "oat-api", "oat-enforcer", "oat-tpm"]
    assert stopped.index("oat-agent") < stopped.index("oat-tpm")
    assert not list((node.folder / "state").glob("*.enabled"))
    assert _files(node) == files


def test_unstack_of_a_node_that_was_never_stacked(make_node):
    played = make_node().play("unstack")
    assert played.status == 0
    assert not [call for call in played.only("systemctl") if call[0] == "stop"]


def test_clean_leaves_nothing(make_node):
    node = make_node()
    node.stack()
    played = node.play("clean")
    assert played.status == 0
    assert not (node.etc / "oat").exists()
    assert not node.oat_dir.exists()
    assert not list((node.folder / "state").glob("*.enabled"))


# -- when it goes wrong ----------------------------------------------------------------------------


def test_a_tpm_that_does_not_answer_ends_the_stack(make_node):
    node = make_node()
    node.path("tpm-broken").touch()
    played = node.play("stack")
    assert played.status != 0
    assert "oat-agent cannot attest this host" in played.output
    assert not [call for call in played.only("oat") if call[:2] == ["host", "approve"]]


def test_a_trusted_server_that_cannot_be_booted_ends_the_stack(make_node):
    node = make_node()
    node.path("no-valid-host").touch()
    played = node.play("stack")
    assert played.status != 0
    assert "no trusted server could be booted" in played.output
    assert ["host", "list"] in played.only("oat")


def test_filters_that_somebody_else_set_later_end_the_stack(make_node):
    """Sections of local.conf for nova.conf are merged after the plugin has written to it."""
    node = make_node()
    # The command that the plugin gives last before the smoke test.
    override = node.folder / "commands" / "openstack"
    override.unlink()
    override.write_text(
        f'#!/bin/bash\n[[ "$*" != "flavor set "* ]] || sed -i s/,TrustedFilter// {node.nova_conf}\n'
    )
    override.chmod(0o755)
    played = node.play("stack")
    assert played.status != 0
    assert f"TrustedFilter is not in enabled_filters of {node.nova_conf}" in played.output


# -- the stand-ins ---------------------------------------------------------------------------------


def test_the_stand_ins_have_the_names_of_devstack(checkout):
    """A function that devstack renamed or dropped would be stood in for, for ever."""
    ours = set(_functions(HERE / "standins.sh"))
    theirs = {
        name
        for path in [checkout / "functions", checkout / "functions-common", *checkout.glob("inc/*"),
                     *checkout.glob("lib/*"), checkout / "stack.sh"]
        if path.is_file()
        for name in _functions(path)
    }  # fmt: skip
    assert {name for name in ours if not name.startswith("_")} <= theirs


def _functions(path):
    return re.findall(r"^function ([a-z_]+) ?(?:\(\) ?)?\{", path.read_text(), re.MULTILINE)
