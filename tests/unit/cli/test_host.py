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
"""``oat host``."""

import json

import pytest
import yaml

EK = "ab" * 32
OTHER_EK = "cd" * 32


def host(name="node-1", **fields):
    return {
        "id": 1, "region": "", "host": name, "service_host": None, "resource_provider": None,
        "state": "approved", "ek_fingerprint": EK, "software_tpm": True,
        "ek_certificate_status": "verified", "manufacturer": "id:00001014", "level": "trusted",
        "findings": [], "appraised_at": "2026-01-01T00:00:00.000Z",
        "expires_at": "2026-01-01T00:05:00.000Z", "policy": "default",
        "created_at": "2026-01-01T00:00:00.000Z",
    } | fields  # fmt: skip


PCR_FINDING = {
    "code": "pcr-mismatch",
    "message": r"PCR 4 differs: event 27 EV_EFI_BOOT_SERVICES_APPLICATION \EFI\x.efi has digest ab",
    "pcr": 4,
    "bank": "sha256",
    "event": 27,
}


def test_a_list_for_people_has_verdict_and_reason(oat, api):
    findings = [PCR_FINDING, {"code": "x", "message": "also this"}]
    api("GET", "/v1/hosts", json={"hosts": [host("b", level="untrusted", findings=findings),
                                            host("a")]})  # fmt: skip
    ran = oat("host", "list")
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert [part.strip() for part in lines[1].strip("|").split("|")] == [
        "Host", "Region", "State", "Level", "Reason",
    ]  # fmt: skip
    assert lines[3].split("|")[1].strip() == "a"
    assert "PCR 4 differs" in lines[4]
    assert "(and 1 more)" in lines[4]


@pytest.mark.parametrize(("name", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_a_list_for_programs_has_the_fields_of_the_api(oat, api, name, load):
    api("GET", "/v1/hosts", json={"hosts": [host()]})
    (record,) = load(oat("host", "list", "-f", name).out)
    assert record["level"] == "trusted"
    assert record["ek_fingerprint"] == EK
    assert record["software_tpm"] is True


def test_hosts_are_picked_by_state_verdict_and_region(oat, api):
    api("GET", "/v1/hosts?region=r1", json={
        "hosts": [host("a", level="unknown"), host("b"), host("c", state="pending", level=None)]
    })  # fmt: skip
    ran = oat("host", "list", "--region", "r1", "--level", "unknown", "-f", "value", "-c", "host")
    assert ran.out == "a\n"
    ran = oat("host", "list", "--region", "r1", "--state", "pending", "-f", "value", "-c", "host")
    assert ran.out == "c\n"


def test_show_explains_every_finding(oat, api):
    findings = [PCR_FINDING, {"code": "secure-boot-off", "message": "Secure Boot is off"}]
    api("GET", "/v1/hosts/node-1", json=host(level="untrusted", findings=findings))
    ran = oat("host", "show", "node-1")
    assert ran.status == 0
    assert "1. PCR 4 differs: event 27" in ran.out
    assert "2. Secure Boot is off" in ran.out


def test_show_says_what_to_do_about_a_finding_and_on_which_host(oat, api):
    api("GET", "/v1/hosts/node-1", json=host(level="untrusted", findings=[
        {"code": "no-reference", "message": "there is nothing to compare with"}]))  # fmt: skip

    shown = " ".join(oat("host", "show", "node-1").out.replace("|", " ").split())

    assert "oat reference create NAME --from-host node-1" in shown


def test_show_for_programs_is_the_whole_record(oat, api):
    record = host(findings=[PCR_FINDING], pcrs={"sha256": {"0": "00"}}, news=["x"])
    api("GET", "/v1/hosts/node-1", json=record)
    assert json.loads(oat("host", "show", "node-1", "-f", "json").out) == record


def test_pcr_values_are_shown_on_request(oat, api):
    api("GET", "/v1/hosts/node-1", json=host(pcrs={"sha256": {"10": "bb", "2": "aa"}}))
    assert "sha256" not in oat("host", "show", "node-1").out
    out = oat("host", "show", "node-1", "--pcrs").out
    assert out.index("sha256  2 aa") < out.index("sha256 10 bb")


def test_show_says_how_to_approve_a_host_that_waits(oat, api):
    api("GET", "/v1/hosts/node-1", json=host(state="pending", level=None))
    assert f"oat host approve node-1 --ek-fingerprint {EK}" in oat("host", "show", "node-1").out


@pytest.mark.parametrize("name", ["table", "value", "csv"])
def test_a_boot_log_cannot_steer_the_terminal(oat, api, name):
    findings = [{"code": "x", "message": "string \x1b]0;owned\x07 \u202e"}]
    api("GET", "/v1/hosts", json={"hosts": [host(findings=findings)]})
    api("GET", "/v1/hosts/node-1", json=host(findings=findings))
    for ran in (oat("host", "list", "-f", name), oat("host", "show", "node-1")):
        assert "\x1b" not in ran.out
        assert "\u202e" not in ran.out
        assert r"\x1b]0;owned" in ran.out.replace("\\\\", "\\")


def test_approve_names_the_key(oat, api):
    sent = api("POST", "/v1/hosts/node-1/approve", json=host())
    colons = ":".join(EK[i : i + 2].upper() for i in range(0, 64, 2))
    ran = oat("host", "approve", "node-1", "--ek-fingerprint", colons, "-f", "json")
    assert ran.status == 0
    assert sent.last_request.json() == {"ek_fingerprint": EK}
    assert json.loads(ran.out)["state"] == "approved"


@pytest.mark.parametrize("key", ["abc", "g" * 64, EK + "00"])
def test_a_fingerprint_is_checked_before_anything_is_sent(oat, api, key):
    ran = oat("host", "approve", "node-1", "--ek-fingerprint", key)
    assert ran.status == 2
    assert "64 hex digits" in ran.err
    assert api.history() == []


@pytest.mark.parametrize(("argv", "answer"), [(["--yes"], None), ([], "y\n"), ([], "yes\n")])
def test_approve_without_a_key_shows_it_and_asks(oat, api, argv, answer):
    api("GET", "/v1/hosts", json={"hosts": [host("other", state="pending"),
                                            host(state="pending", region="r1")]})  # fmt: skip
    sent = api("POST", "/v1/hosts/node-1/approve", json=host(region="r1"))
    ran = oat("host", "approve", "node-1", *argv, answer=answer)
    assert ran.status == 0
    assert EK in ran.err
    assert sent.last_request.json() == {"ek_fingerprint": EK, "region": "r1"}


@pytest.mark.parametrize("answer", [None, "", "\n", "n\n", "nay\n"])
def test_approve_without_a_key_does_nothing_unless_told(oat, api, answer):
    api("GET", "/v1/hosts", json={"hosts": [host(state="pending")]})
    ran = oat("host", "approve", "node-1", answer=answer)
    assert ran.status == 2
    assert [request.method for request in api.history()] == ["GET"]


def test_approve_never_chooses_between_keys(oat, api):
    api("GET", "/v1/hosts", json={
        "hosts": [host(state="pending"), host(state="pending", ek_fingerprint=OTHER_EK)]
    })  # fmt: skip
    ran = oat("host", "approve", "node-1", "--yes")
    assert ran.status == 2
    assert EK in ran.err
    assert OTHER_EK in ran.err
    assert len(api.history()) == 1


@pytest.mark.parametrize(
    ("hosts", "words"), [([], "has its agent enrolled?"), ([host()], "it is approved")]
)
def test_approve_says_why_nothing_waits(oat, api, hosts, words):
    api("GET", "/v1/hosts", json={"hosts": hosts})
    ran = oat("host", "approve", "node-1", "--yes")
    assert ran.status == 1
    assert words in ran.err


def test_delete_can_name_region_and_key(oat, api):
    sent = api("DELETE", "/v1/hosts/node-1", status_code=204)
    ran = oat("host", "delete", "node-1", "--region", "r1", "--ek-fingerprint", EK)
    assert (ran.status, ran.out) == (0, "")
    assert sent.last_request.qs == {"region": ["r1"], "ek_fingerprint": [EK]}


def test_register_approves_a_key_beforehand(oat, api):
    sent = api("POST", "/v1/hosts", status_code=201, json=host(state="registered", level=None))
    assert oat("host", "register", "node-1", "--ek-fingerprint", EK).status == 0
    assert sent.last_request.json() == {"region": "", "host": "node-1", "ek_fingerprint": EK}
