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
"""What operators see of the service: health, figures, versions, and logs."""

import re

import pytest
from keystoneauth1 import discover, session
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families
from wsgi_intercept import add_wsgi_intercept, remove_wsgi_intercept, requests_intercept

from oat_trusted_filter.backend.api import evidence
from oat_trusted_filter.backend.api.measures import Measures
from oat_trusted_filter.backend.manage.credentials import create_token
from oat_trusted_filter.backend.store import figures as stored_figures
from oat_trusted_filter.backend.store.credentials import READER

ENFORCER = {"leader": True, "counts": {}}


def figures(text):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def metrics(place):
    answer = place.call("GET", "/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return figures(answer.text)


def test_figures_say_how_hosts_fare(place):
    trusted = place.approved_host("node-1")
    tampered = place.approved_host("node-2", "machine-a-loader")
    place.approved_host("node-3")
    trusted.attest()
    place.trust(trusted)
    place.clock.pass_by(10)
    tampered.attest()
    found = metrics(place)
    assert found["oat_verdicts", "trusted"] == 1
    assert found["oat_verdicts", "untrusted"] == 1
    assert found["oat_verdicts", "unknown"] == 1
    assert found["oat_hosts", "approved"] == 3
    assert found["oat_oldest_verdict_seconds",] == 10
    assert found["oat_request_seconds_count", "evidence:submit"] == 2
    place.clock.pass_by(1000)
    assert metrics(place)["oat_verdicts", "unknown"] == 3


def test_refusals_are_counted_by_code(place):
    for _ in range(3):
        place.call("GET", "/v1/hosts/nobody")
    place.call("GET", "/nowhere")
    found = metrics(place)
    assert found["oat_refusals_total", "host-unknown"] == 3
    assert found["oat_refusals_total", "route-unknown"] == 1


def test_figures_say_what_ends_and_who_is_silent(place):
    create_token(place.store, "x", READER, days=1)
    place.call("PUT", "/v1/enforcers/e-1", ENFORCER)
    assert metrics(place)["oat_enforcer_silent", "", "e-1"] == 0
    place.clock.pass_by(100)
    found = metrics(place)
    assert found["oat_enforcer_silent", "", "e-1"] == 1
    assert ("oat_expires_seconds", "token", "x") in found


def test_figures_say_when_reference_sets_and_tags_end(place):
    host = place.approved_host("node-1")
    host.attest()
    end = "2035-01-01T00:00:00Z"
    body = {"name": "good", "from_hosts": ["node-1"], "valid_until": end}
    assert place.call("POST", "/v1/reference-sets", body).status_code == 201
    assert place.call("POST", "/v1/tags", {"name": "rack", "values": ["7"]}).status_code == 201
    body = {"tags": {"rack": "7"}, "valid_until": end}
    assert place.call("PUT", "/v1/hosts/node-1/tags", body).status_code == 200
    found = metrics(place)
    seconds = found["oat_expires_seconds", "good", "reference-set"]
    assert found["oat_expires_seconds", "", "tags"] == seconds > 0


def test_workers_add_up_what_they_count(place, tmp_path, monkeypatch):
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    one, two = Measures(tmp_path), Measures(tmp_path)
    for measures in (one, two):
        values.ValueClass = values.MultiProcessValue(lambda m=measures: str(id(m)))
        measures.refusals.labels("x").inc()
    with place.store.read() as connection:
        text = one.written(stored_figures.read(connection), (), place.clock()).decode()
    assert figures(text)["oat_refusals_total", "x"] == 2


def test_health(place):
    ok = {"database": "ok", "clock": "ok", "enforcers": "ok"}
    assert place.get("/healthcheck") == {"status": "ok", "checks": ok}
    place.call("PUT", "/v1/enforcers/e-1", ENFORCER)
    assert place.get("/healthcheck")["status"] == "ok"
    place.clock.pass_by(100)
    assert place.get("/healthcheck") == {
        "status": "degraded", "checks": {**ok, "enforcers": "silent"},
    }  # fmt: skip


def test_a_clock_that_was_put_back_is_no_health(place):
    place.approved_host("node-1").attest()
    place.clock.pass_by(-1000)
    answer = place.call("GET", "/healthcheck")
    assert (answer.status_code, answer.json["code"]) == (503, "clock-behind")


def test_a_request_has_one_name_here_and_one_everywhere(place, caplog):
    came = "req-11111111-2222-3333-4444-555555555555"
    answer = place.call("GET", "/healthz", headers={"X-OpenStack-Request-ID": came})
    own = answer.headers["x-openstack-request-id"]
    assert re.fullmatch(r"req-[0-9a-f-]{36}", own)
    assert own != came
    for odd in ("req-1", "x" * 100, "req-" + "a" * 36 + "\t"):
        answer = place.call("GET", "/healthz", headers={"X-OpenStack-Request-ID": odd})
        assert answer.headers["x-openstack-request-id"] not in (odd, own)


@pytest.fixture
def reachable(place):
    """The service at http://attest.example.org."""
    requests_intercept.install()
    add_wsgi_intercept("attest.example.org", 80, lambda: place.client.app)
    yield "http://attest.example.org"
    remove_wsgi_intercept("attest.example.org", 80)
    requests_intercept.uninstall()


@pytest.mark.parametrize("path", ["/", "/v1/", ""])
def test_keystoneauth_discovers_the_interface(reachable, path):
    found = discover.Discover(session.Session(), f"{reachable}{path}")
    assert found.url_for("1") == f"{reachable}/v1/"
    assert found.version_data()[0]["status"] == "CURRENT"


def test_whoever_is_overtaken_again_and_again_is_told_so(place, monkeypatch):
    host = place.approved_host("node-1")
    monkeypatch.setattr(evidence, "_ATTEMPTS", 0)
    answer = host.submit()
    assert (answer.status_code, answer.json["code"]) == (503, "service-busy")


def test_a_service_with_a_certificate_from_elsewhere_has_no_authority(place):
    answer = place.call("GET", "/v1/authorities")
    assert (answer.status_code, answer.json["code"]) == (404, "authority-unknown")
