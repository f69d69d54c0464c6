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
"""Configuration of Sphinx for the documentation."""

import sys
from pathlib import Path

extensions = [
    "openstackdocstheme",
    "reno.sphinxext",
    "oslo_config.sphinxext",
    "cliff.sphinxext",
    "sphinxarg.ext",
]
# For programs.py.
sys.path.insert(0, str(Path(__file__).parent))

project = "oat-trusted-filter"
copyright = "oat-trusted-filter developers"  # noqa: A001 - Sphinx wants this name
html_theme = "openstackdocs"
pygments_style = "native"

# The versions come from pbr, nothing here has to be kept in step with a release.
openstackdocs_auto_name = False
openstackdocs_auto_version = True
openstackdocs_bug_project = ""
openstackdocs_pdf_link = False

# The option reference and the command reference are generated from the code; this is how the
# commands are called.
autoprogram_cliff_application = "oat"
autoprogram_cliff_app_dist_name = "oat-trusted-filter"

# The pages about programs are their manual pages as well.
man_pages = [
    ("reference/cli", "oat", "manage trusted compute pools", [project], 1),
    *(
        (f"reference/{name}", name, text, [project], 8)
        for name, text in (
            ("oat-agent", "attest this host to the attestation backend"),
            ("oat-attestation-api", "serve the attestation backend"),
            ("oat-enforcer", "keep traits in placement as verdicts say"),
            ("oat-manage", "set up the attestation backend"),
            ("oat-status", "check the attestation backend before an upgrade"),
        )
    ),
]
