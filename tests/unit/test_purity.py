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
"""The formats and the appraisal are pure: they see nothing but what they are given."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import oat_trusted_filter

PACKAGE = Path(oat_trusted_filter.__file__).parent
TCG, APPRAISAL = "oat_trusted_filter.tcg", "oat_trusted_filter.backend.appraisal"
#: How tags and traits are written, which all parts agree on.
TRAITS = "oat_trusted_filter.traits"
#: The modules of each room, and what they may import of ours.
ROOMS = {
    TCG: ((PACKAGE / "tcg").glob("*.py"), {TCG}),
    APPRAISAL: ((PACKAGE / "backend" / "appraisal").glob("*.py"), {TCG, APPRAISAL, TRAITS}),
    TRAITS: ([PACKAGE / "traits.py"], set()),
}
#: Modules that compute, of the standard library and others; logging is for faults (E1).
COMPUTING = {
    "collections", "cryptography", "dataclasses", "datetime", "functools", "hashlib", "hmac",
    "itertools", "json", "logging", "operator", "re", "re2", "struct", "types", "typing", "uuid",
}  # fmt: skip
#: What asks the machine something, or the clock.
ASKING = {"open", "input", "print", "now", "utcnow", "today", "uuid1", "uuid4", "exec", "eval"}
MODULES = [(room, path) for room, (paths, _) in ROOMS.items() for path in paths]


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield node.module


@pytest.mark.parametrize(
    ("room", "path"), MODULES, ids=lambda value: value.stem if isinstance(value, Path) else ""
)
def test_a_module_imports_and_asks_nothing_else(room, path):
    tree = ast.parse(path.read_text())
    known = ROOMS[room][1]
    for name in imported(tree):
        ours = any(name == room or name.startswith(f"{room}.") for room in known)
        assert ours or name.partition(".")[0] in COMPUTING, name
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else None
            called = node.func.id if isinstance(node.func, ast.Name) else called
            assert called not in ASKING, f"{called} at line {node.lineno}"


def test_importing_them_brings_no_other_part_along():
    names = [
        room if room == TRAITS else f"{room}.{path.stem}"
        for room, path in MODULES
        if path.stem != "__init__"
    ]
    program = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(*sorted(sys.modules))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    found = set(ran.stdout.split())
    assert set(names) <= found
    others = {
        name for name in found
        if name.startswith("oat_trusted_filter.")
        and not name.startswith((TCG, APPRAISAL, TRAITS))
        and name != "oat_trusted_filter.backend"
    }
    assert others == set()
    assert found.isdisjoint(
        {"sqlalchemy", "falcon", "msgspec", "oslo_config", "requests", "tpm2_pytss", "sqlite3"}
    )
