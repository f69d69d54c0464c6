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
"""``oat filter``: what TrustedFilter would say, asked outside Nova with the filter's own code."""

import argparse
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from oat_trusted_filter.cli.arguments import add_region
from oat_trusted_filter.cli.backend import path
from oat_trusted_filter.cli.errors import Refused, Unreachable
from oat_trusted_filter.cli.output import Column, Record, RecordLister
from oat_trusted_filter.client.errors import BadReply
from oat_trusted_filter.client.verdicts import parse_reply
from oat_trusted_filter.scheduler.decision import Account, decide
from oat_trusted_filter.scheduler.extra_specs import Demand, DemandError, read_demand
from oat_trusted_filter.scheduler.snapshot import View, apply_reply

_LONGEST_USE = 3600.0


class _Node(NamedTuple):
    nodename: str


class ExplainFilter(RecordLister):
    """Say which hosts a flavor that asks for trust may use now, and why not the others.

    The flavor comes from Nova, found through OS_* of the environment or clouds.yaml, or its extra
    specs are given. With --flavor all hypervisors of Nova are looked at, else all hosts with a
    verdict; or those that are named. What nova-scheduler knows may be a refresh interval older.
    """

    columns = (
        Column("host"),
        Column("passes"),
        Column("level"),
        Column("reason"),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add what is asked about."""
        parser = super().get_parser(prog_name)
        asked = parser.add_mutually_exclusive_group(required=True)
        asked.add_argument("--flavor", metavar="FLAVOR", help="id or name of a flavor of Nova")
        asked.add_argument(
            "--property",
            metavar="KEY=VALUE",
            dest="properties",
            action="append",
            type=_property,
            help="an extra spec, trust:trusted_host=trusted for instance (may be repeated)",
        )
        parser.add_argument(
            "--host",
            metavar="HOST",
            dest="hosts",
            action="append",
            help="only this hypervisor host name (may be repeated)",
        )
        add_region(parser, "region of the Nova that is meant")
        return parser

    def records(self, parsed_args: argparse.Namespace) -> Iterable[Record]:
        """Each host with the answer of the filter."""
        nova = self.nova if parsed_args.flavor else None
        specs = nova.extra_specs(parsed_args.flavor) if nova else dict(parsed_args.properties)
        demand = _demand(specs)
        if demand is None:
            self._say("the flavor asks for no trust, so every host passes")
        view = self._view(parsed_args.region or "")
        names = parsed_args.hosts or (nova.hypervisors() if nova else view.names)
        nodes = [_Node(name) for name in sorted(set(names))]
        if demand is None:
            return [_record(node, view, None) for node in nodes]
        decision = decide(nodes, demand, view)
        self._say(str(Account.of(decision)))
        refused = {node.nodename: reason for node, reason in decision.reasons()}
        return [_record(node, view, refused) for node in nodes]

    def _view(self, region: str) -> View:
        sent_at = time.monotonic()
        try:
            reply = parse_reply(self.backend.get(path("verdicts")), {}, sent_at)
            snapshot = apply_reply(None, reply, region, _LONGEST_USE)
        except BadReply as error:
            raise Unreachable("bad-reply", str(error)) from error
        return View(snapshot, time.monotonic(), None)

    def _say(self, text: str) -> None:
        self.app.stderr.write(f"{text}\n")


def _demand(specs: Mapping[str, str]) -> Demand | None:
    try:
        return read_demand(specs)
    except DemandError as error:
        raise Refused(error.code, f"{error}; no host passes") from error


def _record(node: _Node, view: View, refused: Mapping[str, str] | None) -> Record:
    verdict = view.verdict_on(node.nodename)
    passes = refused is None or node.nodename not in refused
    reason = verdict.reason if refused is None or passes else refused[node.nodename]
    return {"host": node.nodename, "passes": passes, "level": verdict.level, "reason": reason}


def _property(text: str) -> Sequence[str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value
