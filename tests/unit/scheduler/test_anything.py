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
"""Nothing the filter meets gets out of it: whatever is answered, whatever becomes of the log."""

import json
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.scheduler.conftest import hosts, spec

TRUSTED = {"trust:trusted_host": "trusted"}
#: Parts of answers that are nearly right, so that more than the first check is reached.
bodies = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    ),
    st.fixed_dictionaries(
        {
            "epoch": st.sampled_from(["e", "", 1, None]),
            "cursor": st.sampled_from([1, -1, 2**80, "1", None]),
            "lease": st.sampled_from([30.0, -1, 1e400, "30", None]),
            "full": st.sampled_from([True, False, 1, None]),
            "hosts": st.sampled_from(
                [[], [7], [{}], [{"region": "", "host": "b", "level": "trusted"}], {}, None]
            ),
            "deleted": st.sampled_from([[], [None], [{"host": 1}], None]),
            "lapsing": st.sampled_from([[], [{"region": "", "host": "b"}], None]),
        }
    ),
)
headers = st.dictionaries(
    st.sampled_from(["OAT-Lease", "ETag", "Content-Encoding", "Location", "X-Odd"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30),
    max_size=3,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(status=st.integers(200, 599), body=bodies, more=headers)
def test_E3_any_answer_is_a_refusal_and_never_an_exception(
    make_filter, backend, status, body, more
):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def fault(handler):
        handler.send_response(status)
        for name, value in more.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
        handler.close_connection = True

    backend.fault = fault
    trusted_filter = make_filter(deadline=5.0)
    assert trusted_filter.filter_all(hosts("a"), spec(TRUSTED)) == []


@pytest.fixture
def full_disk(capsys):
    """The log goes to a disk that is full."""
    logger = logging.getLogger("oat_trusted_filter")
    handler = logging.FileHandler("/dev/full")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    yield
    logger.removeHandler(handler)
    logger.setLevel(level)
    handler.stream = None


def test_E3_a_full_disk_under_the_log_stops_no_pass(make_filter, backend, full_disk):
    backend.say("trusted", "a")
    found = make_filter(refresh_interval=0.0).filter_all(hosts("a", "b"), spec(TRUSTED))
    assert [host.nodename for host in found] == ["a"]


class Broken:
    """A request none of whose parts can be read."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    def __contains__(self, name):
        raise RuntimeError(name)


def test_a_request_that_cannot_be_read_finds_no_host(make_filter, log):
    assert make_filter().filter_all(hosts("a"), Broken()) == []
    assert "TrustedFilter failed" in log.text


def test_hosts_that_cannot_be_read_do_not_pass(make_filter, backend, log):
    backend.say("trusted", "a")
    assert make_filter().filter_all([Broken()], spec(TRUSTED)) == []
    assert "TrustedFilter failed" in log.text
