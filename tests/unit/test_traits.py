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
"""Every tag has a trait of its own, or none."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oat_trusted_filter.traits import (
    LONGEST_TRAIT,
    TRUSTED,
    TraitError,
    check_tag,
    is_ours,
    tag_of,
    tag_trait,
)

#: What placement accepts, from its API reference.
PLACEMENT = re.compile(r"CUSTOM_[A-Z0-9_]{1,248}")

# Sixteen characters of a trait are the most one of these takes, so none has too long a trait.
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=7)
near = st.text("aAbB_-2D", min_size=1, max_size=6)  # where one could be taken for another


@pytest.mark.parametrize(
    ("name", "value", "trait"),
    [
        ("zone", "eu", "CUSTOM_OAT_TAG_ZONE_EU"),
        ("zone", "eu-1", "CUSTOM_OAT_TAG_ZONE_EU__2D1"),
        ("rack_row", "7", "CUSTOM_OAT_TAG_RACK__5FROW_7"),
        ("country", "DE", "CUSTOM_OAT_TAG_COUNTRY___44__45"),
        ("ort", "köln", "CUSTOM_OAT_TAG_ORT_K__C3__B6LN"),
        ("x", " ", "CUSTOM_OAT_TAG_X___20"),
    ],
)
def test_what_traits_look_like(name, value, trait):
    assert tag_trait(name, value) == trait
    assert tag_of(trait) == (name, value)
    assert is_ours(trait)


@given(st.one_of(texts, near), st.one_of(texts, near))
def test_the_tag_is_found_again_so_no_two_tags_share_a_trait(name, value):
    trait = tag_trait(name, value)
    assert PLACEMENT.fullmatch(trait)
    assert tag_of(trait) == (name, value)


@given(near, near, near, near)
def test_two_tags_two_traits(name, value, other_name, other_value):
    same = (name, value) == (other_name, other_value)
    assert (tag_trait(name, value) == tag_trait(other_name, other_value)) is same


@given(st.text("ABZ059_", max_size=12))
def test_only_what_a_tag_can_have_is_read_as_one(rest):
    trait = f"CUSTOM_OAT_TAG_{rest}"
    try:
        name, value = tag_of(trait)
    except TraitError as error:
        assert error.code == "trait-no-tag"
    else:
        assert tag_trait(name, value) == trait


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("", "eu", "tag-empty"),
        ("zone", "", "tag-empty"),
        ("zone", None, "tag-not-text"),
        (7, "eu", "tag-not-text"),
        ("zone", "\ud800", "tag-not-text"),
        ("zone", "a" * 236, "tag-too-long"),
        ("zone", "A" * 59, "tag-too-long"),
    ],
)
def test_what_has_no_trait_is_refused_with_a_reason(name, value, code):
    with pytest.raises(TraitError) as caught:
        tag_trait(name, value)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("zone", "eu-1"),
        ("Rack.row_2-b", "7"),
        ("a" * 63, "b"),
        ("site", "Hall 2 / row (7)"),
        ("x", "~!"),
    ],
)
def test_tags_that_may_be_made(name, value):
    check_tag(name, value)
    assert tag_of(tag_trait(name, value)) == (name, value)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("", "eu", "tag-name"),
        ("-zone", "eu", "tag-name"),
        ("zone:a", "eu", "tag-name"),
        ("zone\n", "eu", "tag-name"),
        ("z\u043ene", "eu", "tag-name"),
        ("a" * 64, "eu", "tag-name"),
        ("zone", "", "tag-value"),
        ("zone", "eu,us", "tag-value"),
        ("zone", " eu", "tag-value"),
        ("zone", "eu\n", "tag-value"),
        ("zone", "k\u00f6ln", "tag-value"),
        ("zone", "a" * 236, "tag-too-long"),
        ("ZONE", "A" * 56, "tag-too-long"),
    ],
)
def test_tags_nobody_could_ask_for_are_refused(name, value, code):
    with pytest.raises(TraitError) as caught:
        check_tag(name, value)
    assert caught.value.code == code


def test_the_longest_trait_is_as_long_as_placement_allows():
    assert len(tag_trait("zone", "a" * 235)) == LONGEST_TRAIT == 255


@pytest.mark.parametrize(
    "trait",
    [
        "CUSTOM_OAT_TRUSTED",
        "CUSTOM_OAT_TAG_",
        "CUSTOM_OAT_TAG_ZONE",
        "CUSTOM_OAT_TAG_ZONE_",
        "CUSTOM_OAT_TAG_ZONE__61",
        "CUSTOM_OAT_TAG_ZONE_A__61",  # the letter a, written as nobody writes it
        "CUSTOM_OAT_TAG_ZONE_A__FF",  # no UTF-8
        "CUSTOM_OAT_TAG_A_B_C",
        "HW_CPU_X86_AVX",
        "",
    ],
)
def test_what_is_the_trait_of_no_tag(trait):
    with pytest.raises(TraitError):
        tag_of(trait)


def test_what_is_ours():
    assert is_ours(TRUSTED)
    assert is_ours("CUSTOM_OAT_TAG_")
    assert not is_ours("CUSTOM_OAT_TRUSTED_TOO")
    assert not is_ours("CUSTOM_OAT")
    assert not is_ours("HW_CPU_X86_AVX")


def test_names_of_traits_need_no_library():
    """Backend and filter take them from here, and have neither tooz nor keystoneauth1 to spare."""
    code = (
        "import sys; import oat_trusted_filter.traits; "
        "print({n.split('.')[0] for n in sys.modules} & {'tooz', 'keystoneauth1', 'oslo_config'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
