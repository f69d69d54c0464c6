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
"""TrustedFilter with Nova's own objects, against a scripted backend."""

from pathlib import Path

import pytest
from oslo_config import cfg

from oat_trusted_filter.scheduler.settings import Settings
from tests.lab.scripted_backend import cut, status
from tests.unit.scheduler.conftest import (
    SERVER,
    TRUSTED,
    Flavor,
    RequestSpec,
    hosts,
    passed,
    spec,
)

NAMES = ("a", "b", "c")


def lines(log, level):
    return [record.getMessage() for record in log.records if record.levelname == level]


def test_a_trusted_flavor_gets_trusted_hosts_in_the_order_they_came(make_filter, backend):
    backend.say("trusted", "c", "a")
    backend.say("untrusted", "b")
    assert passed(make_filter(), NAMES) == ["a", "c"]


def test_one_pass_is_one_request_at_most(make_filter, backend):
    backend.say("trusted", "a")
    trusted_filter = make_filter()
    names = [f"stranger-{n}" for n in range(50)]
    for _ in range(5):
        assert passed(trusted_filter, [*names, "a"]) == ["a"]
    assert len(backend.requests) == 1


@pytest.mark.parametrize("extra_specs", [{}, {"hw:cpu_policy": "dedicated"}])
@pytest.mark.parametrize("rebuild", [False, True])
def test_a_plain_flavor_costs_nothing(make_filter, backend, extra_specs, rebuild):
    trusted_filter = make_filter()
    given = hosts(*NAMES)
    assert trusted_filter.filter_all(given, spec(extra_specs, rebuild=rebuild)) is given
    assert backend.connections == 0


def test_a_request_without_flavor_or_extra_specs_asks_for_nothing(make_filter):
    given = hosts(*NAMES)
    for request in (RequestSpec(), RequestSpec(flavor=Flavor(name="m1"))):
        assert make_filter().filter_all(given, request) is given


def test_no_host_is_no_host(make_filter):
    assert passed(make_filter(), []) == []


def test_the_name_of_the_node_counts_and_not_that_of_the_service(make_filter, backend):
    backend.say("trusted", "node-1", "service-2")
    assert passed(make_filter(), ["service/node-1", "service/node-2", "service-2/node-3"]) == [
        "node-1"
    ]


@pytest.mark.parametrize(
    "variant",
    [
        "Compute-1.example.org",
        "COMPUTE-1.EXAMPLE.ORG",
        "compute-1",
        "compute-1.example.org.",
        "compute-1.example.org ",
        " compute-1.example.org",
        "compute-1.example",
        "compute-11.example.org",
        "compute−1.example.org",  # with a minus sign
    ],
)
def test_E4_a_variant_of_a_name_is_another_host(make_filter, backend, variant):
    backend.say("trusted", "compute-1.example.org")
    assert passed(make_filter(), [variant, "compute-1.example.org"]) == ["compute-1.example.org"]


@pytest.mark.parametrize(
    "variant", ["2001:DB8::7", "2001:db8:0::7", "[2001:db8::7]", "2001:db8::70"]
)
def test_E4_an_address_is_a_name_like_any_other(make_filter, backend, variant):
    backend.say("trusted", "2001:db8::7")
    assert passed(make_filter(), [variant, "2001:db8::7"]) == ["2001:db8::7"]


def test_E4_an_answer_about_other_hosts_says_nothing_about_these(make_filter, backend):
    backend.say("trusted", "x", "y")
    assert passed(make_filter(), NAMES) == []


def test_E4_a_verdict_of_another_region_does_not_count(make_filter, backend):
    backend.say("trusted", "a", region="south")
    backend.say("trusted", "b", region="north")
    assert passed(make_filter(region="north"), NAMES) == ["b"]
    assert passed(make_filter(region=""), NAMES) == []


@pytest.mark.parametrize("value", ["Trusted", " trusted", "trusted ", "true", "unknown", ""])
def test_E6_a_value_nobody_understands_finds_no_host_and_asks_nobody(
    make_filter, backend, log, value
):
    backend.say("trusted", *NAMES)
    assert passed(make_filter(), NAMES, {"trust:trusted_host": value}) == []
    assert backend.connections == 0
    assert (
        f"server {SERVER} of flavor m1.trusted: no host passes: the flavor has "
        f"trust:trusted_host={value!r}; it has to be exactly 'trusted'"
    ) in lines(log, "WARNING")


def test_E6_a_key_nobody_understands_finds_no_host(make_filter, backend, log):
    backend.say("trusted", *NAMES)
    assert passed(make_filter(), NAMES, {"trust:trustedhost": "trusted"}) == []
    assert "'trust:trustedhost'" in log.text


def test_tags_are_asked_of_trusted_hosts(make_filter, backend, log):
    backend.say("trusted", "a", tags={"zone": "eu-1", "rack": "7"})
    backend.say("trusted", "b", tags={"zone": "eu-2"})
    backend.say("untrusted", "c", reason="pcr-mismatch", tags={"zone": "eu-1"})
    backend.say("trusted", "d")
    names, trusted_filter = ("a", "b", "c", "d"), make_filter()
    zone = {"trust:asset_tag:zone": "eu-1"}
    assert passed(trusted_filter, names, zone) == ["a"]
    assert passed(trusted_filter, names, {**TRUSTED, **zone}) == ["a"]
    assert passed(trusted_filter, names, {"trust:asset_tag:zone": "eu-1,eu-2"}) == ["a", "b"]
    assert passed(trusted_filter, names, {**zone, "trust:asset_tag:rack": "8,9"}) == []
    assert len(backend.requests) == 1
    assert "1 of 4 hosts pass; 2 trusted (other tags), 1 untrusted (pcr-mismatch)" in log.text
    assert "host b refused: trusted (not zone=eu-1 but eu-2)" in log.text


def test_E5_another_tag_reaches_the_filter_like_another_verdict(make_filter, backend, clock):
    backend.say("trusted", "a", tags={"zone": "eu-1"})
    trusted_filter, zone = make_filter(), {"trust:asset_tag:zone": "eu-1"}
    assert passed(trusted_filter, NAMES, zone) == ["a"]
    backend.say("trusted", "a", tags={"zone": "us-1"})
    clock.advance(5.0)
    assert passed(trusted_filter, NAMES, zone) == []
    backend.say("trusted", "a")
    clock.advance(5.0)
    assert passed(trusted_filter, NAMES, {"trust:asset_tag:zone": "us-1"}) == []
    assert passed(trusted_filter, NAMES) == ["a"]


def test_an_untrusted_flavor_gets_hosts_known_to_be_that(make_filter, backend, log):
    backend.say("trusted", "a")
    backend.say("untrusted", "b")
    backend.say("unknown", "c")
    assert passed(make_filter(), (*NAMES, "d"), {"trust:trusted_host": "untrusted"}) == ["b"]
    assert "deprecated" in log.text


def test_each_request_has_a_summary_and_each_refusal_a_reason(make_filter, backend, log):
    backend.say("trusted", "a")
    backend.say("untrusted", "b", reason="pcr-mismatch")
    passed(make_filter(), NAMES)
    title = f"server {SERVER} of flavor m1.trusted"
    assert lines(log, "INFO") == [
        f"{title}: 1 of 3 hosts pass; 1 unknown (not-enrolled), 1 untrusted (pcr-mismatch)"
    ]
    assert [line for line in lines(log, "DEBUG") if line.startswith(title)] == [
        f"{title}: host b refused: untrusted (pcr-mismatch)",
        f"{title}: host c refused: unknown (not-enrolled)",
    ]


def test_without_verdicts_the_summary_says_why(make_filter, backend, log):
    backend.fault = status(503)
    assert passed(make_filter(), NAMES) == []
    assert (
        f"server {SERVER} of flavor m1.trusted: 0 of 3 hosts pass, there are no valid verdicts: "
        "http-503: the backend answered with an error (HTTP 503)"
    ) in lines(log, "WARNING")
    assert f"server {SERVER} of flavor m1.trusted: host a refused: unknown (no-verdicts)" in lines(
        log, "DEBUG"
    )


def test_no_word_of_the_backend_forges_a_line_of_the_log(make_filter, backend, log):
    backend.say("untrusted", "a", reason="x\nINFO all is well")
    passed(make_filter(), ["a", "b\nINFO all is well"])
    assert all("\n" not in record.getMessage() for record in log.records)


def test_no_secret_gets_into_the_log(make_filter, backend, log):
    backend.token = "secret-token"
    passed(make_filter(), NAMES)
    passed(make_filter(token_file=None, username="nova", password="secret-password"), NAMES)
    passed(make_filter(token_file=None, username=None, attestation_auth_blob="secret-blob"), NAMES)
    assert "secret" not in log.text


class TestRebuild:
    """A refusal turns the server to ERROR, so what is refused is the operator's choice."""

    def outcomes(self, trusted_filter, extra_specs=TRUSTED):
        return [
            bool(passed(trusted_filter, [name], extra_specs, rebuild=True))
            for name in ("good", "bad", "silent", "stranger")
        ]

    @pytest.fixture
    def enrolled(self, backend):
        backend.say("trusted", "good")
        backend.say("untrusted", "bad")
        backend.say("unknown", "silent")

    @pytest.mark.parametrize(
        ("check_rebuild", "allowed"),
        [
            ("off", [True, True, True, True]),
            ("untrusted", [True, False, True, True]),
            ("strict", [True, False, False, False]),
        ],
    )
    def test_with_verdicts(self, make_filter, enrolled, check_rebuild, allowed):
        assert self.outcomes(make_filter(check_rebuild=check_rebuild)) == allowed

    @pytest.mark.parametrize(
        ("check_rebuild", "allowed"), [("off", True), ("untrusted", True), ("strict", False)]
    )
    def test_without_verdicts(self, make_filter, backend, check_rebuild, allowed):
        backend.fault = cut
        assert self.outcomes(make_filter(check_rebuild=check_rebuild)) == [allowed] * 4

    def test_off_asks_nobody(self, make_filter, backend):
        self.outcomes(make_filter(check_rebuild="off"))
        assert backend.connections == 0

    @pytest.mark.parametrize(
        ("check_rebuild", "allowed"), [("off", True), ("untrusted", False), ("strict", False)]
    )
    def test_E6_with_a_value_nobody_understands(
        self, make_filter, enrolled, check_rebuild, allowed
    ):
        trusted_filter = make_filter(check_rebuild=check_rebuild)
        assert self.outcomes(trusted_filter, {"trust:trusted_host": "yes"}) == [allowed] * 4

    def test_strict_holds_for_untrusted_flavors_too(self, make_filter, enrolled):
        flavor = {"trust:trusted_host": "untrusted"}
        assert self.outcomes(make_filter(check_rebuild="strict"), flavor) == [
            False,
            True,
            False,
            False,
        ]


class TestObserve:
    """Nothing is refused, and the log says what would be."""

    def test_with_verdicts(self, make_filter, backend, log):
        backend.say("trusted", "a")
        assert passed(make_filter(enforcement="observe"), NAMES) == ["a", "b", "c"]
        assert "enforcement = observe" in lines(log, "WARNING")[0]
        assert lines(log, "INFO")[-1].endswith(
            "1 of 3 hosts pass; 2 unknown (not-enrolled); nothing is refused, as enforcement = "
            "observe"
        )
        assert any(line.endswith("host b would be refused: unknown (not-enrolled)")
                   for line in lines(log, "DEBUG"))  # fmt: skip

    def test_without_a_backend(self, make_filter, backend, log):
        backend.stop()
        assert passed(make_filter(enforcement="observe"), NAMES) == ["a", "b", "c"]
        assert "0 of 3 hosts pass, there are no valid verdicts" in log.text

    def test_with_a_value_nobody_understands(self, make_filter, log):
        found = passed(make_filter(enforcement="observe"), NAMES, {"trust:trusted_host": "TRUSTED"})
        assert found == ["a", "b", "c"]
        assert "no host would pass" in log.text

    def test_with_nothing_configured(self, make_filter):
        assert passed(make_filter(enforcement="observe", endpoint=None), NAMES) == ["a", "b", "c"]


class TestMistakes:
    """nova-scheduler starts all the same; plain flavors go on, trusted ones find no host."""

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"endpoint": None}, "neither endpoint nor attestation_server is set"),
            ({"endpoint": "attest.example.org"}, "is no URL like https://HOST:PORT"),
            ({"attestation_server_ca_file": "/none/ca.pem"}, "/none/ca.pem cannot be read"),
            ({"token_file": "/none/token"}, "the token file /none/token cannot be read"),
        ],
    )
    def test_a_mistake_is_said_at_the_start_and_with_each_request(
        self, make_filter, log, options, words
    ):
        trusted_filter = make_filter(**options)
        (said,) = lines(log, "ERROR")
        assert words in said
        assert said.startswith("[trusted_computing] cannot be used yet: ")
        assert passed(trusted_filter, NAMES) == []
        assert passed(trusted_filter, NAMES, {}) == list(NAMES)
        assert any(words in line and "0 of 3 hosts pass" in line for line in lines(log, "WARNING"))
        assert "Traceback" not in log.text

    def test_a_missing_ca_file_may_be_put_there_later(self, make_filter, backend, clock, tmp_path):
        backend.say("trusted", "a")
        path = tmp_path / "late.pem"
        trusted_filter = make_filter(attestation_server_ca_file=str(path))
        assert passed(trusted_filter, NAMES) == []
        path.write_bytes(Path(backend.cacert).read_bytes())
        clock.advance(1.0)
        assert passed(trusted_filter, NAMES) == ["a"]

    def test_a_value_that_cannot_be_is_said(self, make_filter, log, monkeypatch):
        def broken(conf):
            raise cfg.ConfigFileValueError("Value for option deadline is not valid:\n  long")

        monkeypatch.setattr(Settings, "from_conf", broken)
        trusted_filter = make_filter()
        (said,) = lines(log, "ERROR")
        assert "Value for option deadline is not valid: long" in said
        assert passed(trusted_filter, NAMES) == []
        assert passed(trusted_filter, NAMES, {}) == list(NAMES)
        assert "the filter is not set up: Value for option deadline" in log.text
        assert "Traceback" not in log.text

    def test_a_defect_at_the_start_does_not_end_the_scheduler(self, make_filter, log, monkeypatch):
        monkeypatch.setattr(Settings, "from_conf", lambda conf: 1 / 0)
        trusted_filter = make_filter()
        assert passed(trusted_filter, NAMES) == []
        assert passed(trusted_filter, NAMES, {}) == list(NAMES)
        assert "ZeroDivisionError" in log.text

    def test_E1_a_defect_in_a_pass_is_a_refusal(self, make_filter, backend, log, monkeypatch):
        backend.say("trusted", *NAMES)
        trusted_filter = make_filter()
        monkeypatch.setattr(
            "oat_trusted_filter.scheduler.trusted_filter.decide", lambda *args, **kwargs: 1 / 0
        )
        assert passed(trusted_filter, NAMES) == []
        assert "Traceback" in log.text

    def test_what_is_dangerous_is_warned_of(self, make_filter, log):
        make_filter(attestation_insecure_ssl=True)
        assert any("certificate" in line for line in lines(log, "WARNING"))
