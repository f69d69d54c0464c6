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
"""Patterns of operators cannot be made to take for ever by what hosts send."""

from dataclasses import replace

import pytest

from oat_trusted_filter.backend.appraisal import policy
from oat_trusted_filter.backend.appraisal.allow_list import make_allow_list
from oat_trusted_filter.backend.appraisal.document import DocumentError
from oat_trusted_filter.backend.appraisal.patterns import PatternError, Patterns
from oat_trusted_filter.backend.appraisal.rule_records import ImaPolicy
from tests.unit.appraisal.hosts import Host
from tests.unit.appraisal.test_facts import codes


def test_the_whole_text_has_to_match_one_of_them():
    patterns = Patterns(["root=.*", "quiet|ro"])
    assert patterns.match("root=/dev/vda")
    assert patterns.match("ro")
    assert not patterns.match("ro ")
    assert not patterns.match("root=a\nb")
    assert Patterns(["(ö|b)+"]).match("böb")


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a*)*b", ".*.*.*.*.*b"])
def test_C2_no_text_takes_longer_than_its_length_is_worth(pattern):
    """With backtracking each of these takes longer than the universe is old."""
    patterns = Patterns([pattern])
    assert not any(patterns.match("a" * length) for length in range(7_000, 8_192, 100))


@pytest.mark.parametrize("pattern", ["(", "(?=a)b", r"(a)\1", "a{1,100000}", "\ud800", "[z-a]"])
def test_what_the_engine_does_not_take_is_refused_with_a_reason(pattern):
    with pytest.raises(PatternError) as refused:
        Patterns([pattern])
    assert str(refused.value)
    document = {"name": "p", "kernel_command_line": pattern}
    with pytest.raises(DocumentError) as refused:
        policy.from_document(document)
    assert refused.value.field == "kernel_command_line"


def test_E8_a_pattern_an_earlier_release_took_costs_its_policy_and_no_other():
    document = {"name": "p", "kernel_command_line": "(?=r)root.*", "ima": {"exclude": ["(?=a)a"]}}
    stored = policy.from_document(document, stored=True)
    line = {"kernel_command_line": stored.kernel_command_line}
    assert codes(Host(), **line) == ["policy-pattern"]
    assert not make_allow_list(replace(ImaPolicy(), exclude=stored.ima.exclude), ()).excludes("a")
