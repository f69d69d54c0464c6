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
"""How hosts come in and change, command by command, with real agents."""

from tests.functional.agent.running import run_agent, write_config


def known_key(host, backend, oat):
    """The key of a host, as the vendor's list would have it; the backend forgets it again."""
    host.boot("machine-a", backend)
    host.attest()
    key = oat.json("host", "show", host.name)["ek_fingerprint"]
    oat("host", "delete", host.name)
    return key


def test_an_imported_host_is_approved_when_it_enrols(hosts, backend, oat, clean, tmp_path):
    host = hosts["node-a"]
    key = known_key(host, backend, oat)
    file = tmp_path / "march.csv"
    file.write_text(f"host,ek_fingerprint\nnode-a,{key}\nnode-z,{'ab' * 32}\nnode-y,{key}\n")
    ran = oat.run("host", "import", str(file))
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[0].startswith(f"{file}:4: ek-twice: ")
    assert oat.json("host", "list") == []

    file.write_text(f"host,ek_fingerprint\nnode-a,{key}\nnode-z,{'ab' * 32}\n")
    assert oat.json("host", "import", str(file), "--dry-run")["registered"] == 2
    assert oat.json("host", "list") == []
    assert oat.json("host", "import", str(file))["registered"] == 2
    assert oat.json("host", "import", str(file))["unchanged"] == 2
    host.attest()
    assert oat.json("host", "show", "node-a")["state"] == "approved"


def test_a_token_goes_through_a_file_to_a_host(hosts, backend, oat, clean, tmp_path):
    host = hosts["node-a"]
    host.boot("machine-a", backend)
    file = tmp_path / "token"
    made = oat.json("enrolment-token", "create", "--host", "node-a", "--output-file", str(file))
    with host.config.open("a") as config:
        config.write(f"enrolment_token_file = {file}\n")
    host.attest()
    assert oat.json("host", "show", "node-a")["state"] == "approved"
    (used,) = [item for item in oat.json("enrolment-token", "list") if item["id"] == made["id"]]
    assert (used["state"], used["used_by"]) == ("used", "/node-a")
    oat("enrolment-token", "revoke", made["id"])


def test_a_new_main_board_and_a_new_name(hosts, backend, oat, clean):
    """The TPM of another host stands for the new board."""
    host, spare = hosts["node-a"], hosts["node-b"]
    host.boot("machine-a", backend)
    host.attest()
    oat("host", "approve", "node-a", "--yes")
    host.attest()
    oat("reference", "create", "good", "--from-host", "node-a")
    number = oat.json("host", "show", "node-a")["id"]

    spare.boot("machine-a", backend)
    config = write_config(spare.folder, **options_of(spare), host="node-a")
    assert run_agent(config, "--once").returncode == 2
    (waiting,) = oat.json("host", "list", "--state", "pending")
    oat("host", "rebind", "node-a", "--ek-fingerprint", waiting["ek_fingerprint"])
    assert run_agent(config, "--once").returncode == 0
    shown = oat.json("host", "show", "node-a")
    assert (shown["id"], shown["level"]) == (number, "trusted")

    oat("host", "rename", "node-a", "node-c")
    assert [item["host"] for item in oat.json("verdict", "list")] == ["node-c"]
    config = write_config(spare.folder, **options_of(spare), host="node-c")
    assert run_agent(config, "--once").returncode == 0
    assert oat.json("host", "show", "node-c")["id"] == number


def options_of(host):
    """What is in the configuration of its agent, but for its name."""
    lines = host.config.read_text().splitlines()
    options = dict(line.split(" = ", 1) for line in lines if " = " in line)
    options.pop("host")
    return options
