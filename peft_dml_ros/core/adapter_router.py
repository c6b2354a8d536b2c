# SPDX-License-Identifier: Apache-2.0
"""Chooses the adapter whose domain is most like what the sensors see; changes its mind slowly."""

import math
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from peft_dml_ros.core.adapter_domain import DOMAIN, AdapterDomain, read_domain
from peft_dml_ros.core.adapter_mix import DEFAULT
from peft_dml_ros.core.adapter_store import BASE_DIGITS, stored_adapters
from peft_dml_ros.core.bundle import Bundle, load_adapters, own_adapters
from peft_dml_ros.core.classes import Modality
from peft_dml_ros.core.errors import PeftDmlError
from peft_dml_ros.core.params import RouterParams

#: Mean log-likelihood, relative to a domain's own mean frame, below which a frame is like none of its frames
LEAST_FIT: Final = -4.0


class AdapterChoice(NamedTuple):
    """What the router says of one look."""

    adapter: str  #: The adapter to use
    reason: str  #: Why, for people
    fits: Mapping[str, float]  #: Smoothed log-likelihood by adapter that could be used


class AdapterRouter:
    """Weighs what was seen in the last seconds, and changes when another adapter has led by a margin for a while."""

    def __init__(self, domains: Mapping[str, AdapterDomain], params: RouterParams, adapter: str) -> None:
        self._domains, self.params, self.adapter = dict(domains), params, adapter
        self._fits: dict[str, float] = {}
        self._last_s = math.nan
        self._leader, self._since_s = adapter, math.nan

    def exclude(self, adapter: str) -> None:
        """Choose an adapter no more, e.g. because it cannot be loaded."""
        self._domains.pop(adapter, None)
        self._fits.pop(adapter, None)

    def look(self, figures: Mapping[str, float], present: Collection[Modality], time_s: float) -> AdapterChoice:
        """Take one look into account."""
        usable = _usable(self._domains, present)
        self._smooth({name: self._domains[name].fit(figures) for name in usable}, time_s)
        if not self._fits:
            return AdapterChoice(self.adapter, "nothing seen that an adapter's domain knows", {})
        leader, why = self._lead(present)
        if leader != self._leader:
            self._leader, self._since_s = leader, time_s
        if leader == self.adapter:
            return AdapterChoice(self.adapter, why, dict(self._fits))
        if (held_s := time_s - self._since_s) < self.params.hold_s:
            wait = f"'{leader}' leads for {held_s:.0f} of {self.params.hold_s:g} s: {why}"
            return AdapterChoice(self.adapter, wait, dict(self._fits))
        before, self.adapter = self.adapter, leader
        return AdapterChoice(leader, f"{why}; it follows '{before}'", dict(self._fits))

    def _smooth(self, fits: Mapping[str, float], time_s: float) -> None:
        """Update the exponential mean over the window; adapters that cannot be used now are forgotten."""
        step_s = time_s - self._last_s
        share = 1.0 if math.isnan(step_s) else 1.0 - math.exp(-max(step_s, 0.0) / self.params.window_s)
        known = {name: fit for name, fit in fits.items() if not math.isnan(fit)}
        before = self._fits
        self._fits = {n: fit + (1 - share) * (before.get(n, fit) - fit) for n, fit in known.items()}
        self._last_s = time_s

    def _lead(self, present: Collection[Modality]) -> tuple[str, str]:
        """Return the adapter that leads, and why; the one in use where none leads by the margin."""
        best = max(self._fits, key=lambda name: self._fits[name])
        domain, fit = self._domains[best], self._fits[best]
        usual = domain.fit({name: spread.mean for name, spread in domain.figures.items()})
        if fit - usual < LEAST_FIT and DEFAULT in self._fits:
            return DEFAULT, f"the scene is like no adapter's domain, least unlike that of '{best}'"
        missing = [m for m in domain.absent if m not in present]
        why = f"it is made for use without {' and '.join(missing)}" if missing else "the scene is most like its domain"
        if best == self.adapter or self.adapter not in self._fits:
            return best, why
        if (lead := fit - self._fits[self.adapter]) < self.params.margin:
            return self.adapter, f"'{best}' fits little better, by {lead:.2f}, less than {self.params.margin:g}"
        return best, f"{why}, by {lead:.2f} more than that of '{self.adapter}'"


def domains_of(bundle: Bundle, trusted_key: str = "") -> tuple[dict[str, AdapterDomain], dict[str, str]]:
    """Return the domain of each adapter of a bundle's base, and why others are left out."""
    digits = str(bundle.manifest.base.get("sha256", ""))[:BASE_DIGITS]
    domains, refused = dict[str, AdapterDomain](), dict[str, str]()
    for name in sorted({*own_adapters(bundle), *(s.name for s in stored_adapters() if s.base == digits)}):
        try:
            ((adapter, _),) = load_adapters(bundle, name, trusted_key).parts
            domain = read_domain(adapter.path)
        except PeftDmlError as error:
            refused[name] = str(error)
            continue
        if domain is None:
            refused[name] = f"{adapter.path} has no {DOMAIN}; train it again with peft-dml-train adapt or export"
        else:
            domains[name] = domain
    return domains, refused


def _usable(domains: Mapping[str, AdapterDomain], present: Collection[Modality]) -> list[str]:
    """Return the adapters made for use without the sensors that are missing, else those for all sensors."""
    fitting = {n: len(d.absent) for n, d in domains.items() if not set(d.absent) & set(present)}
    most = max(fitting.values(), default=0)
    return [name for name, count in fitting.items() if count == most]
