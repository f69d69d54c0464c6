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
"""What an operator does about IMA logs with ``oat``."""

import hashlib
import json

import yaml


def test_from_a_good_host_to_an_enforced_policy(host, oat, tmp_path):
    """The steps of the administration guide."""
    file = tmp_path / "policy.yaml"
    policy = yaml.safe_load(oat("policy", "show", "default", "-f", "yaml"))
    assert policy["ima"] == {"mode": "off", "exclude": [], "keys": []}

    policy["ima"] = {"mode": "report", "exclude": ["/var/log/.*"]}
    file.write_text(yaml.safe_dump(policy))
    assert "report, 1 patterns" in oat("policy", "set", "default", str(file))
    host.violate("/usr/bin/login")
    agent = host.agent()
    assert agent.round().level == "trusted"
    shown = oat("host", "show", host.name)
    shown = " ".join(shown.replace("|", " ").split())
    assert "1. warning: PCR 10: /init has digest sha256:" in shown
    assert f"oat reference create NAME --kind ima --from-host {host.name}" in shown
    assert "7 entries, 6 unknown files, 1 violations, kexec not seen" in shown
    assert "warning: PCR 10" in oat("host", "list")

    created = oat("reference", "create", "compute", "--kind", "ima", "--from-host", host.name)
    assert ["files", "4"] in [line.replace("|", " ").split() for line in created.splitlines()]
    assert "was written while it was measured" in oat("host", "show", host.name)
    assert "has digest" not in oat("host", "show", host.name)

    policy["ima"]["mode"] = "enforce"
    file.write_text(yaml.safe_dump(policy))
    oat("policy", "set", "default", str(file))
    assert oat.show(host)["level"] == "untrusted"
    host.boot()
    assert agent.round().level == "trusted"
    (record,) = oat.json("verdict", "list")
    assert record["level"] == "trusted"


def test_a_list_of_sha256sum_is_an_allow_list(host, oat, tmp_path):
    oat.policy(mode="enforce", exclude=["/init|/bin/.*|/etc/.*"])
    agent = host.agent()
    assert agent.round().code == "ima-unknown-file"
    digest = hashlib.sha256(b"program").hexdigest()
    file = tmp_path / "SHA256SUMS"
    file.write_text(f"{digest}  /usr/bin/login\n{digest} */usr/sbin/sshd\n")

    oat("reference", "create", "packages", "--kind", "ima", "--file", str(file))

    paths = [item["description"] for item in oat.show(host)["findings"]]
    assert not {"/usr/bin/login", "/usr/sbin/sshd"} & set(paths)


def test_a_list_goes_through_a_file(enforced, oat, tmp_path):
    host, agent = enforced
    file = tmp_path / "files.json"
    file.write_text(oat("reference", "show", "files", "-f", "json"))
    assert json.loads(file.read_text())["kind"] == "ima"
    oat("reference", "delete", "files")
    assert oat.show(host)["level"] == "untrusted"
    oat("reference", "create", "files", "--file", str(file))
    assert oat.show(host)["level"] == "trusted"
    assert agent.round().level == "trusted"
    assert "sha256:" in oat("reference", "show", "files")
    (listed,) = [item for item in oat.json("reference", "list") if item["kind"] == "ima"]
    assert listed["file_count"] >= 4
