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
"""``oat audit``: the commands find what was done to a trail, and say so."""

import json

import pytest

from oat_trusted_filter import trail
from oat_trusted_filter.backend.manage.signing_key import rotate
from oat_trusted_filter.backend.signing import Signing
from tests.unit.test_trail import chain


def document(row):
    return {**row._asdict(), "details": json.loads(row.details)}


@pytest.fixture
def backend(api, tmp_path):
    """A backend with a trail of nine rows: ``backend(rows, head_of=...)``."""
    rotate(tmp_path / "signing.key")
    signing = Signing(tmp_path / "signing.key")

    def sign(rows):
        said = {"sequence": rows[-1].sequence, "digest": rows[-1].digest, "iat": 1}
        return signing.sign(said, trail.HEAD_TYPE)

    def serve(rows, head_of=None):
        head = sign(head_of or rows)
        api("GET", "/.well-known/jwks.json", json=signing.jwks())
        api("GET", "/v1/audit/head", json={"sequence": 0, "digest": "", "head": head})
        page = {"rows": list(map(document, rows)), "marker": None, "head": head}
        api("GET", "/v1/audit", json=page)

    serve.sign = sign
    return serve


def test_a_list(oat, backend):
    backend(chain(2))
    ran = oat("audit", "list", "--host", "h1", "-f", "json")
    assert [row["sequence"] for row in json.loads(ran.out)] == [1, 2]
    assert "thing.do" in oat("audit", "list").out


def test_a_whole_trail(oat, backend):
    backend(chain(9))
    ran = oat("audit", "verify")
    assert (ran.status, ran.out) == (0, "9 rows, 1 heads: whole\n")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*chain(9)[:3], *chain(9)[4:]], "row-removed: rows 4 to 4 are missing"),
        ([*chain(9)[:3], chain(9)[3]._replace(actor="bob"), *chain(9)[4:]],
         "row-changed: row 4 is not what was written"),
        (chain(9)[:7], "cut-off: rows 8 to 9 are missing"),
    ],
)  # fmt: skip
def test_what_was_done_to_a_trail_is_said(oat, backend, rows, said):
    backend(rows, head_of=chain(9))
    ran = oat("audit", "verify")
    assert ran.status == 1
    assert said in ran.out
    assert "audit-trail-broken" in ran.err or "faults" in ran.err


def test_an_export_tells_what_was_cut_off_with_its_count(oat, backend, tmp_path):
    backend(chain(9))
    export = tmp_path / "export.jsonl"
    export.write_text(oat("audit", "export").out)
    assert oat("audit", "verify", "--file", str(export)).status == 0
    backend(chain(7))
    assert oat("audit", "verify").status == 0
    ran = oat("audit", "verify", "--against", str(export))
    assert ran.status == 1
    assert "cut-off: rows 8 to 9 are missing" in ran.out


def test_heads_of_strangers(oat, backend, tmp_path):
    backend(chain(2))
    rotate(tmp_path / "other.key")
    said = {"sequence": 2, "digest": "0" * 64, "iat": 1}
    for token in (Signing(tmp_path / "other.key").sign(said, trail.HEAD_TYPE), "nonsense"):
        (tmp_path / "heads").write_text(json.dumps({"head": token}))
        ran = oat("audit", "verify", "--against", str(tmp_path / "heads"))
        assert ran.status == 1
        assert "not signed by this backend" in ran.err


@pytest.mark.parametrize("text", [None, "nonsense", "{}", "[1]"])
def test_files_that_are_no_exports(oat, backend, tmp_path, text):
    backend(chain(2))
    path = tmp_path / "file"
    if text is not None:
        path.write_text(text)
    ran = oat("audit", "verify", "--file", str(path))
    assert ran.status == 2
    assert "Traceback" not in ran.err
