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
"""What callers may do: a rule of oslo.policy for each route.

The rules below are the defaults. An operator overrides them in the file of ``[oslo_policy]
policy_file``; ``etc/oat/policy.yaml.sample`` lists them all.
"""

from collections.abc import Iterable

from oslo_config import cfg
from oslo_policy import opts, policy

from oat_trusted_filter.backend.api.oat_compat.routes import OAT_ROUTES
from oat_trusted_filter.backend.api.problems import Problem
from oat_trusted_filter.backend.api.route import Route
from oat_trusted_filter.backend.api.routes import ROUTES
from oat_trusted_filter.backend.settings import StartError
from oat_trusted_filter.backend.store.credentials import ADMIN, READER, SERVICE, Holder

#: A role and those that include it, as keystone has them: ``service`` is for services alone. In
#: keystone whoever is a member of a project is a reader of it, so of all readers only those of the
#: whole cloud count.
_BASE = (
    policy.RuleDefault(ADMIN, "role:admin", "Changes things."),
    policy.RuleDefault(
        READER, "rule:admin or (role:reader and system_scope:all)", "Sees everything."
    ),
    policy.RuleDefault(SERVICE, "role:service or rule:reader", "Other programs of the cloud."),
)

_POLICY_FILE = "policy.yaml"


class Access:
    """The rules in force, as their files were when this was made. Thread-safe.

    :param conf: with the file of the operator; None: the defaults.
    :raises StartError: ``policy-file-invalid``.
    """

    def __init__(self, routes: Iterable[Route], conf: cfg.ConfigOpts | None = None) -> None:
        if conf is None:
            conf = cfg.ConfigOpts()
            conf([], default_config_files=[], default_config_dirs=[])
        opts.set_defaults(conf, policy_file=_POLICY_FILE)
        name = conf.oslo_policy.policy_file
        if name != _POLICY_FILE and conf.find_file(name) is None:
            raise StartError(
                "policy-file-invalid", f"[oslo_policy] policy_file {name} is not there"
            )
        self._enforcer = policy.Enforcer(conf)
        self._enforcer.suppress_default_change_warnings = True
        self._enforcer.register_defaults(defaults(routes))
        try:
            self._enforcer.load_rules()
            if not self._enforcer.check_rules():
                raise ValueError("a rule refers to itself or to one that is not there")
        except Exception as error:
            raise StartError(
                "policy-file-invalid",
                f"[oslo_policy] policy_file {name}: {' '.join(str(error).split())}",
            ) from error
        # From now on as they are: to look for the files takes longer than to apply the rules, and
        # one that is half written would turn everybody away. A reload reads and checks them anew.
        self._enforcer.use_conf = False

    def check(self, holder: Holder, route: Route) -> None:
        """Check that a caller may use a route.

        :raises Problem: ``role-insufficient`` or ``region-insufficient``.
        """
        # Credentials of our own are for the whole cloud, or for a region as is checked below.
        known = holder.values or {"system_scope": "all"}
        values = {**known, "user_id": holder.name, "roles": sorted(holder.roles)}
        if not self._enforcer.enforce(rule_name(route), {}, values):
            roles = ", ".join(values["roles"]) or "no role"
            raise Problem(
                "role-insufficient",
                f"{holder.name} has the role {roles}, and this takes the role {route.role} "
                f"(rule {rule_name(route)})",
            )
        if holder.region is not None and not route.regional:
            raise Problem(
                "region-insufficient",
                f"the credential of {holder.name} is for region {holder.region or '(none)'} only, "
                "and this is about all regions",
            )


def rule_name(route: Route) -> str:
    """The rule of a route."""
    return f"oat:{route.name}"


def defaults(routes: Iterable[Route]) -> list[policy.RuleDefault]:
    """The rules of these routes."""
    rules = [
        policy.DocumentedRuleDefault(
            rule_name(route),
            f"rule:{route.role}",
            route.summary,
            [{"path": route.path, "method": route.method}],
        )
        for route in routes
        if route.role is not None
    ]
    return [*_BASE, *rules]


def list_rules() -> list[policy.RuleDefault]:
    """All rules, for the sample generator."""
    return defaults((*ROUTES, *OAT_ROUTES))
