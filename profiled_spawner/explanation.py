"""Document and subject to what `explain` tells: who is given what, and by which profile.

The same matching and merging as a spawn's, without a hub: what the hub's own settings give a server is not known
here. Values are only told to who asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .document import Document, EnvValue, EnvVarSource, Profile, Size
from .matching import Match, MergeOrder, Subject, explain_match, order_profiles
from .merging import EffectiveProfile, Resources, Setting, merge_profiles, settle_resources
from .quantity import Quantity
from .terminal import Style, align, printable

__all__ = ["Explanation", "explain_document", "format_text", "to_json"]

_MASK = "***"

_Amounts = Mapping[str, Setting[Quantity | None]]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a document gives to one subject.

    Attributes:
        subject: Whose server it is and what it runs.
        order: How the profiles that fit were put in order.
        matches: Every profile of the document, in its order, and whether it fits.
        effective: The profiles that fit, merged, and the size that was chosen.
        resources: Their resources, settled as if the hub's settings gave none.
    """

    subject: Subject
    order: MergeOrder
    matches: tuple[Match, ...]
    effective: EffectiveProfile
    resources: Resources

    @property
    def limits(self) -> _Amounts:
        """Limits by resource; one without a quantity is taken away."""
        return _with_removed(self.resources.limits, self.effective.limits)

    @property
    def requests(self) -> _Amounts:
        """Guarantees by resource; one without a quantity is taken away."""
        return _with_removed(self.resources.requests, self.effective.requests)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the profiles that fit disagree about."""
        return tuple(str(conflict) for conflict in self.resources.conflicts)


def explain_document(
    document: Document, subject: Subject, order: MergeOrder = "specificity", size: Size | None = None
) -> Explanation:
    """Finds what a document gives to a subject, with a size if one is chosen, and why."""
    matches = tuple(explain_match(profile, subject) for profile in document.profiles)
    applied = order_profiles((match.profile for match in matches if match.fits), order)
    effective = merge_profiles((*applied, size) if size else applied)
    return Explanation(subject, order, matches, effective, settle_resources(effective))


def to_json(explanation: Explanation, *, show_values: bool = False) -> dict[str, Any]:
    """An explanation as an object of JSON, in which profiles are known by their index.

    Args:
        explanation: What to tell.
        show_values: Whether values of environment variables are told.
    """
    subject, applied = explanation.subject, explanation.effective.applied
    size = next((each.name for each in applied if isinstance(each, Size)), None)
    return {
        "subject": {"user": subject.user, "groups": sorted(subject.groups), "image": subject.image},
        "profiles": [
            {
                "index": match.profile.index,
                "name": match.profile.name,
                "fits": match.fits,
                "reasons": list(match.reasons),
            }
            for match in explanation.matches
        ],
        "applied": [profile.index for profile in applied if not isinstance(profile, Size)],
        **({"size": size} if size else {}),
        "env": [
            {"name": name, **_env_to_json(setting.value, show_values), "profile": _index(setting.profile)}
            for name, setting in sorted(explanation.effective.env.items())
        ],
        "resources": {
            "limits": _amounts_to_json(explanation.limits),
            "requests": _amounts_to_json(explanation.requests),
        },
        "warnings": list(explanation.warnings),
    }


def format_text(explanation: Explanation, style: Style, *, show_values: bool = False) -> str:
    """An explanation as text for people.

    Args:
        explanation: What to tell.
        style: How to set things off.
        show_values: Whether values of environment variables are told.
    """
    sections = [
        _format_subject(explanation.subject, style),
        _format_profiles(explanation, style),
        _format_env(explanation, style, show_values),
        _format_resources(explanation, style),
    ]
    if explanation.warnings:
        sections.append([style.bold("Warnings"), *(f"  {style.yellow('⚠')} {text}" for text in explanation.warnings)])
    return "\n\n".join("\n".join(lines) for lines in sections)


def _with_removed(settled: Mapping[str, Setting[Quantity]], given: _Amounts) -> _Amounts:
    amounts = {name: setting for name, setting in given.items() if setting.value is None}
    amounts |= {name: Setting(setting.value, setting.profile) for name, setting in settled.items()}
    return {name: amounts[name] for name in sorted(amounts, key=_rank)}


def _rank(resource: str) -> tuple[bool, bool, str]:
    """Memory first, then the CPU, then the others by name."""
    return resource != "memory", resource != "cpu", resource


def _index(profile: Profile | None) -> int | None:
    return None if profile is None or isinstance(profile, Size) else profile.index


def _env_to_json(value: EnvValue, show_values: bool) -> dict[str, Any]:
    if isinstance(value, EnvVarSource):
        return {"valueFrom": value.to_kubernetes()}
    return {"value": value if show_values or value is None else _MASK}


def _amounts_to_json(amounts: _Amounts) -> dict[str, Any]:
    return {
        resource: {"quantity": setting.value and setting.value.text, "profile": _index(setting.profile)}
        for resource, setting in amounts.items()
    }


def _format_subject(subject: Subject, style: Style) -> list[str]:
    return [
        f"{style.bold('User')}    {printable(subject.user)}",
        f"{style.bold('Groups')}  {printable(', '.join(sorted(subject.groups))) or 'none'}",
        f"{style.bold('Image')}   {printable(subject.image)}",
    ]


def _format_profiles(explanation: Explanation, style: Style) -> list[str]:
    matches = explanation.matches
    applied = explanation.effective.applied
    if not matches and not applied:
        return [style.bold("Profiles"), "  none; the document says 'profiles: []'"]
    rows = [[str(match.profile.index), match.profile.label, printable("; ".join(match.reasons))] for match in matches]
    lines = [style.bold(f"Profiles: {sum(match.fits for match in matches)} of {len(matches)} fit")]
    for match, cells in zip(matches, align(rows), strict=True):
        row = "  ".join(cells).rstrip()
        lines.append(f"  {style.green('✔')} {row}" if match.fits else style.dim(f"  ✘ {row}"))
    if applied:
        how = "least specific first" if explanation.order == "specificity" else "in the document's order"
        names = ", ".join(profile.label for profile in applied)
        lines += ["", f"{style.bold('Applied')}, {how}, the later winning: {names}"]
    return lines


def _format_env(explanation: Explanation, style: Style, show_values: bool) -> list[str]:
    rows = [
        [name, _format_value(setting.value, show_values), _origin(setting)]
        for name, setting in sorted(explanation.effective.env.items())
    ]
    return [style.bold("Environment"), *(_table(rows, style) or ["  nothing from profiles"])]


def _format_value(value: EnvValue, show_values: bool) -> str:
    if isinstance(value, EnvVarSource):
        fields = value.fields
        if value.kind == "secretKeyRef":
            return f"secret {fields['name']}, key {fields['key']}"
        if value.kind == "configMapKeyRef":
            return f"configmap {fields['name']}, key {fields['key']}"
        return str(fields.get("fieldPath") or fields.get("resource"))
    if value is None:
        return "(removed)"
    if not show_values:
        return _MASK
    return printable(value) or '""'


def _format_resources(explanation: Explanation, style: Style) -> list[str]:
    limits, requests = explanation.limits, explanation.requests
    rows = [
        [resource if position == 0 else "", *row]
        for resource in sorted({*limits, *requests}, key=_rank)
        for position, row in enumerate(_describe_resource(limits.get(resource), requests.get(resource)))
    ]
    return [style.bold("Resources"), *(_table(rows, style) or ["  nothing from profiles"])]


def _describe_resource(
    limit: Setting[Quantity | None] | None, request: Setting[Quantity | None] | None
) -> Iterator[tuple[str, str, str]]:
    if limit is not None:
        yield "limit", _format_amount(limit), _origin(limit)
    if request is not None:
        yield "guarantee", _format_amount(request), _origin(request)
    if limit is not None and limit.value is not None and (request is None or request.value is None):
        unless = "; the hub's settings may give one" if request is None else ""
        yield "guarantee", f"({limit.value})", f"reserved by Kubernetes, for want of a guarantee{unless}"


def _format_amount(setting: Setting[Quantity | None]) -> str:
    return "(removed)" if setting.value is None else setting.value.text


def _origin(setting: Setting[Any]) -> str:
    return f"from {setting.profile.label}" if setting.profile else ""


def _table(rows: list[list[str]], style: Style) -> list[str]:
    return [f"  {'  '.join([*cells[:-1], style.dim(cells[-1].rstrip())])}" for cells in align(rows)]
