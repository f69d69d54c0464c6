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
"""The fake backend as other people use it: a fixture in a test case of their own."""

from pathlib import Path

import fixtures

from oat_trusted_filter.client.http import AttestationClient
from oat_trusted_filter.fixture import FakeBackend


class Theirs(fixtures.TestWithFixtures):
    """A test case somewhere else."""

    def runTest(self):
        backend = self.useFixture(FakeBackend())
        backend.say("trusted", "compute-1", tags={"zone": "eu-1"})
        backend.say("untrusted", "compute-2", reason="pcr-mismatch")
        client = AttestationClient(
            backend.options["endpoint"],
            token=Path(backend.options["token_file"]).read_text(),
            cacert=backend.options["attestation_server_ca_file"],
        )
        first = client.get_verdicts()
        self.assertEqual(
            [(one.host, one.level, one.reason) for one in first.hosts],
            [("compute-1", "trusted", ""), ("compute-2", "untrusted", "pcr-mismatch")],
        )
        self.assertTrue(client.get_verdicts(first.since, first.etag).not_modified)
        backend.forget("compute-1")
        self.assertEqual(client.get_verdicts(first.since).deleted, (("", "compute-1"),))
        client.close()


def test_it_works_in_a_test_case_of_others():
    outcome = Theirs().run()
    assert outcome.wasSuccessful(), outcome.failures + outcome.errors
