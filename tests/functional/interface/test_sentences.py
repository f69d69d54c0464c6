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
"""Runs the sentences of the folder gabbits, and looks that there is one for every outcome."""

import re
import unittest
from pathlib import Path

import pytest
import yaml
from gabbi import driver

from oat_trusted_filter.backend.api.routes import ROUTES
from tests.functional.interface import cloud

GABBITS = Path(__file__).with_name("gabbits")
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}

#: Outcomes no single request shows, and which test does.
ELSEWHERE = {
    "service-busy": "unit/backend/test_operation.py",
    "verifier-error": "unit/backend/test_evidence.py",
    "tpm-cleared": "unit/backend/test_evidence.py",
    "ima-offset": "unit/backend/test_ima.py",
    "ek-software-tpm": "functional/backend/test_enrolment.py",
    "ek-certificate-missing": "unit/backend/test_enrolments.py",
    "banks-changed": "functional/backend/test_enrolment.py",
    "policy-ambiguous": "unit/backend/test_bindings.py",
    "authority-unknown": "unit/backend/test_operation.py",
    "clock-behind": "unit/backend/test_operation.py",
    "report-without-evidence": "unit/backend/test_history.py",
    "too-many-enforcers": "unit/backend/test_enforcers.py",
}


FILES = sorted(GABBITS.glob("*.yaml"))


@pytest.fixture(scope="module")
def suites():
    """A suite for each file."""
    return list(
        driver.build_tests(
            str(GABBITS), unittest.TestLoader(), intercept=cloud.application,
            fixture_module=cloud, test_loader_name="sentences",
        )
    )  # fmt: skip


@pytest.mark.parametrize("number", range(len(FILES)), ids=[path.stem for path in FILES])
def test_sentences(suites, number):
    result = unittest.TestResult()
    name = re.compile(re.sub(r"\W", ".", FILES[number].stem) + "_")
    (suite,) = (one for one in suites if name.match(type(one._tests[0]).__name__))
    suite.run(result)
    assert result.testsRun
    wrong = [*result.failures, *result.errors]
    assert not wrong, "\n".join(f"{test}\n{text}" for test, text in wrong)


def sentences():
    """Method, path, status and code of each."""
    for path in FILES:
        for test in yaml.safe_load(path.read_text())["tests"]:
            method = next(key for key in test if key in METHODS)
            code = test.get("response_json_paths", {}).get("$.code")
            yield method, test[method].partition("?")[0], int(test.get("status", 200)), code


def matches(route, path):
    pattern = re.sub(r"\{\w+\}", "[^/]+", route.path)
    return re.fullmatch(pattern, path) is not None


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_there_is_a_sentence_for_every_outcome(route):
    said = [
        (status, code)
        for method, path, status, code in sentences()
        if method == route.method and matches(route, path)
    ]
    assert route.status in [status for status, _ in said], "nobody says what it is for"
    missing = set(route.problems) - {code for _, code in said} - ELSEWHERE.keys()
    assert not missing, f"nobody says when it answers {missing}"


def test_what_is_shown_elsewhere_is():
    tests = Path(__file__).parents[2]
    for code, name in ELSEWHERE.items():
        assert code in (tests / name).read_text(), f"{name} does not speak of {code}"
