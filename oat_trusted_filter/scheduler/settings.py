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
"""What an operator has set for the filter, read once."""

from dataclasses import dataclass

from oslo_config import cfg

OFF = "off"
UNTRUSTED_ONLY = "untrusted"
STRICT = "strict"


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of the group ``[trusted_computing]``; times in seconds.

    Where the verdicts come from is the business of the driver.
    """

    driver: str
    max_age: float
    deadline: float
    refresh_interval: float
    region: str
    check_rebuild: str
    observe: bool
    request_filter: bool
    require_trait: bool
    api_url: str | None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should be told about what is set."""
        found = []
        if self.observe:
            found.append(
                "enforcement = observe: hosts that are not trusted are only named in the log, and "
                "flavors that ask for trust get them"
            )
        if self.require_trait and not self.request_filter:
            found.append("require_trait has no effect without request_filter")
        if self.api_url and self.driver == "oat":
            found.append("attestation_api_url has no effect with driver = oat")
        return tuple(found)

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> "Settings":
        """Read the options, which have to be registered.

        :raises cfg.Error: an option has a value it cannot have.
        """
        group = conf.trusted_computing
        return cls(
            driver=group.driver,
            max_age=float(group.attestation_auth_timeout),
            deadline=group.deadline,
            refresh_interval=group.refresh_interval,
            region=group.region,
            check_rebuild=group.check_rebuild,
            observe=group.enforcement == "observe",
            request_filter=group.request_filter,
            require_trait=group.require_trait,
            api_url=group.attestation_api_url,
        )
