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
"""Requests made up from the description of the interface: what it answers is what it says."""

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from oat_trusted_filter.backend.api.routes import ROUTES
from oat_trusted_filter.backend.store.credentials import ADMIN
from tests.functional.interface.cloud import Cloud

#: Bodies hold structures of a TPM in base64 and documents with rules of their own: no schema says
#: which of them are good, so what fits the schema may still be refused.
LEFT_OUT = ("positive_data_acceptance",)
EXAMPLES = 4

load_all_checks()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    made = Cloud(tmp_path_factory.mktemp("cloud"))
    made.populate()
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def description(cloud):
    def from_this_machine(environ, start_response):
        """An address without a limit on wrong passwords, of which a good many are tried here."""
        return cloud.application({**environ, "REMOTE_ADDR": "127.0.0.1"}, start_response)

    return schemathesis.openapi.from_wsgi("/v1/openapi.json", from_this_machine)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_it_answers_as_it_says(description, cloud, route, mode):
    operation = description[route.path][route.method]
    if mode is GenerationMode.NEGATIVE and not (operation.body or len(operation.query)):
        return  # there is nothing that could be wrong
    left_out = [CHECKS.get_one(name) for name in LEFT_OUT]

    @hypothesis.settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )  # fmt: skip
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def answers(case):
        headers = {} if route.role is None else {"Authorization": f"Bearer {cloud.tokens[ADMIN]}"}
        case.call_and_validate(headers=headers, excluded_checks=left_out)

    answers()
