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
"""What an operator does, command by command, and what the commands say."""

import json
import signal
import socket

import pytest
import yaml

from tests.lab.wait import wait_for

EK = "ab" * 32


def level(oat, host):
    return oat.json("host", "show", host.name)["level"]


def test_from_enrolment_to_trust(hosts, backend, oat, clean):
    host = hosts["node-a"]
    host.boot("machine-a", backend)
    host.attest()
    (waiting,) = oat.json("host", "list", "--state", "pending")
    assert waiting["host"] == "node-a"
    key = waiting["ek_fingerprint"]
    shown = oat("host", "show", "node-a")
    assert f"oat host approve node-a --ek-fingerprint {key}" in shown

    oat("host", "approve", "node-a", "--ek-fingerprint", key)
    assert oat.json("host", "list", "--state", "pending") == []
    host.attest()
    assert level(oat, host) == "untrusted"
    # The advice is the command that helps.
    assert "oat reference create" in oat("host", "show", "node-a")

    oat("reference", "create", "good", "--from-host", "node-a")
    assert level(oat, host) == "trusted"
    assert [(item["host"], item["level"]) for item in oat.json("verdict", "list")] == [
        ("node-a", "trusted")
    ]


def test_approval_without_a_key_needs_a_yes(hosts, backend, oat, clean):
    host = hosts["node-a"]
    host.boot("machine-a", backend)
    host.attest()
    key = oat.json("host", "show", "node-a")["ek_fingerprint"]
    ran = oat.run("host", "approve", "node-a")
    assert ran.returncode == 2
    assert key in ran.stderr
    assert oat.json("host", "show", "node-a")["state"] == "pending"
    ran = oat.run("host", "approve", "node-a", "--yes")
    assert ran.returncode == 0
    assert key in ran.stderr
    assert oat.json("host", "show", "node-a")["state"] == "approved"


def test_approving_another_key_is_refused(hosts, backend, oat, clean):
    host = hosts["node-a"]
    host.boot("machine-a", backend)
    host.attest()
    ran = oat.run("host", "approve", "node-a", "--ek-fingerprint", EK)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1)
    assert oat.json("host", "show", "node-a")["state"] == "pending"


def test_a_registered_host_is_approved_when_it_enrols(hosts, backend, oat, clean):
    host = hosts["node-a"]
    host.boot("machine-a", backend)
    host.attest()
    key = oat.json("host", "show", "node-a")["ek_fingerprint"]
    oat("host", "delete", "node-a")
    oat("host", "register", "node-a", "--ek-fingerprint", key)
    assert [item["state"] for item in oat.json("host", "list")] == ["registered"]
    host.attest()
    assert oat.json("host", "show", "node-a")["state"] == "approved"


def test_reference_values_of_two_machines_leave_out_what_differs(approved, oat):
    text = oat("reference", "create", "good", "--from-host", "node-a", "--from-host", "node-b")
    # The partition tables of the two machines are not the same.
    assert "PCR 5 left out" in text
    assert "EV_EFI_GPT_EVENT" in text
    assert {level(oat, host) for host in approved.values()} == {"trusted"}
    kept = oat.json("reference", "show", "good")
    kept = kept.get("document", kept)["pcrs"]["sha256"]
    assert {"0", "2", "4", "7"} <= set(kept)
    assert "5" not in kept


def test_only_the_pcrs_asked_for_are_taken(approved, oat):
    created = oat.json("reference", "create", "few", "--from-host", "node-a", "--pcr", "4,7")
    assert set(created.get("document", created)["pcrs"]["sha256"]) == {"4", "7"}


def test_deleting_reference_values_takes_effect_at_once(approved, oat):
    oat("reference", "create", "good", "--from-host", "node-a")
    assert level(oat, approved["node-a"]) == "trusted"
    oat("reference", "delete", "good")
    assert level(oat, approved["node-a"]) == "untrusted"


def test_reference_values_go_through_a_file(approved, oat, tmp_path):
    oat("reference", "create", "good", "--from-host", "node-a")
    file = tmp_path / "good.yaml"
    file.write_text(oat("reference", "show", "good", "-f", "yaml"))
    oat("reference", "delete", "good")
    oat("reference", "create", "good", "--file", str(file))
    assert level(oat, approved["node-a"]) == "trusted"


def test_a_changed_boot_loader_is_named(approved, backend, oat):
    oat("reference", "create", "good", "--from-host", "node-a")
    host = approved["node-a"]
    host.boot("machine-a-loader", backend)
    host.attest()
    shown = oat("host", "show", "node-a")
    assert "untrusted" in shown
    assert "PCR 4" in shown
    assert "EV_EFI_BOOT_SERVICES_APPLICATION" in shown
    (listed,) = oat.json("host", "list", "--level", "untrusted")[:1]
    assert "PCR 4" in listed["reason"]


def test_a_policy_goes_through_a_file(approved, oat, tmp_path):
    oat("reference", "create", "good", "--from-host", "node-a")
    before = oat("policy", "show", "default", "-f", "yaml")
    changed = yaml.safe_load(before)
    changed.get("document", changed)["kernel_command_line"] = "nothing boots with this"
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(changed))
    try:
        oat("policy", "set", "default", str(file))
        assert level(oat, approved["node-a"]) == "untrusted"
    finally:
        file.write_text(before)
        oat("policy", "set", "default", str(file))
    assert level(oat, approved["node-a"]) == "trusted"


@pytest.mark.parametrize(
    "argv",
    [
        ("host", "show", "nobody"),
        ("host", "delete", "nobody"),
        ("host", "approve", "nobody", "--ek-fingerprint", EK),
        ("reference", "show", "nothing"),
        ("reference", "delete", "nothing"),
        ("reference", "create", "x", "--from-host", "nobody"),
        ("policy", "show", "nothing"),
    ],
)
def test_what_is_not_there_is_one_line_with_a_code(oat, argv):
    ran = oat.run(*argv)
    assert (ran.returncode, ran.stdout) == (1, "")
    (line,) = ran.stderr.splitlines()
    code, _, detail = line.partition(": ")
    assert code.replace("-", "").isalpha()
    assert detail


def test_a_policy_the_backend_does_not_take_is_refused(oat, tmp_path):
    file = tmp_path / "policy.json"
    file.write_text('{"colour": "blue"}')
    ran = oat.run("policy", "set", "default", str(file))
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1


def test_the_credential_decides(oat, backend):
    for token in ("", "wrong"):
        ran = oat.run("host", "list", OAT_TOKEN=token)
        assert ran.returncode == 1
        assert "OAT_TOKEN" in ran.stderr
    # The scheduler reads verdicts and nothing else.
    assert oat.run("verdict", "list", OAT_TOKEN=backend.scheduler_token).returncode == 0
    assert oat.run("host", "list", OAT_TOKEN=backend.scheduler_token).returncode == 1


def test_nobody_there_is_told_from_a_refusal(oat):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        ran = oat.run("host", "list", OAT_ENDPOINT=f"https://127.0.0.1:{unused.getsockname()[1]}")
    assert ran.returncode == 3
    assert len(ran.stderr.splitlines()) == 1


def test_the_backend_has_to_prove_who_it_is(oat, hosts):
    stranger = hosts["node-a"].software.ca_certificates[0]
    ran = oat.run("host", "list", OAT_CACERT=str(stranger))
    assert ran.returncode == 3
    assert len(ran.stderr.splitlines()) == 1
    assert oat.run("--insecure", "host", "list", OAT_CACERT="").returncode == 0


def test_what_has_happened_to_a_host_can_be_told_and_proven(approved, backend, oat, tmp_path):
    host = approved["node-a"]
    oat("reference", "create", "good", "--from-host", "node-a")
    host.boot("machine-a-loader", backend)
    host.attest()
    newest, before = oat.json("host", "history", "node-a", "--limit", "2")
    assert (newest["level"], newest["cause"]) == ("untrusted", "evidence")
    assert (before["level"], before["cause"]) == ("trusted", "rules")
    answers = [oat.json("report", "appraise", report["id"]) for report in (newest, before)]
    assert [answer["same"] for answer in answers] == [True, True]
    # The quote of a real TPM is checked again.
    assert answers[0]["signature"] == "verified"
    changed = oat.json("host", "diff", "node-a", "--at", before["at"])
    assert "sha256:4" in {row["item"] for row in changed if row["kind"] == "pcr"}
    rows = oat.json("audit", "list", "--host", "node-a", "--action", "host.approve")
    assert rows[0]["actor"] == "admin"
    assert oat("audit", "verify").endswith("whole\n")
    export = tmp_path / "trail.jsonl"
    export.write_text(oat("audit", "export"))
    assert oat("audit", "verify", "--file", str(export)).endswith("whole\n")
    lines = export.read_text().splitlines()
    export.write_text("\n".join(lines[:3] + lines[4:]) + "\n")
    ran = oat.run("audit", "verify", "--file", str(export))
    assert ran.returncode == 1
    assert "row-removed: rows 4 to 4 are missing" in ran.stdout


def test_a_watch_tells_a_change_as_it_happens_and_outlives_the_backend(
    approved, backend, oat, tmp_path
):
    host = approved["node-a"]
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("w") as output, err.open("w") as errors:
        watch = oat.start(
            "host", "watch", "-f", "json", "--interval", "0.1", stdout=output, stderr=errors
        )
    try:
        wait_for(lambda: "watching 2 hosts" in err.read_text(), 30, "the watch to begin")
        oat("reference", "create", "good", "--from-host", "node-a", "--from-host", "node-b")
        wait_for(lambda: len(out.read_text().splitlines()) == 2, 30, "both changes")
        backend.stop()
        wait_for(lambda: "count for" in err.read_text(), 30, "the outage to be said")
        backend.start()
        wait_for(lambda: "is back" in err.read_text(), 30, "the return to be said")
        host.boot("machine-a-loader", backend)
        host.attest()
        wait_for(lambda: len(out.read_text().splitlines()) == 3, 30, "the last change")
        watch.send_signal(signal.SIGINT)
        assert watch.wait(30) == 130
    finally:
        watch.kill()
        watch.wait()
    changes = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(change["host"], change["from"], change["to"]) for change in changes] == [
        ("node-a", "untrusted", "trusted"),
        ("node-b", "untrusted", "trusted"),
        ("node-a", "trusted", "untrusted"),
    ]
    assert changes[-1]["reason"]
    assert len(err.read_text().splitlines()) == 3
