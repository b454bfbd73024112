"""Explains what a document gives to a subject, and which profile sets what, as text and as JSON.

It uses the same matching and merging as a spawn, but no hub: the hub's own settings are not included. Values of
environment variables are masked unless asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..decide.choices import Choice, Offer, describe_hard, find_offer, rank_resource
from ..decide.image_classes import ImageClass
from ..decide.matching import Match, MergeOrder, Subject, check_profile_count, explain_match, order_profiles
from ..decide.merging import (
    EffectiveProfile,
    Resources,
    Setting,
    check_merge_input,
    check_merge_result,
    combine_terms,
    merge_profiles,
    reconcile_resources,
)
from ..decide.quotas import find_quotas
from ..document.hard import PODS, split_name
from ..document.kubernetes import find_alternatives
from ..document.model import DEFAULT_SIZE, Document, EnvValue, EnvVarSource, Object, Profile, Quota, Size
from ..document.quantity import Quantity, parse_quantity
from ..errors import PodError
from .terminal import Style, align, printable

__all__ = [
    "Explanation",
    "describe_env_source",
    "describe_source",
    "describe_term",
    "describe_toleration",
    "describe_volume",
    "explain_document",
    "format_offer",
    "format_settings",
    "format_text",
    "to_json",
]

_MASK = "***"

# Adds a setting's origin to its JSON object: the index of the profile that set it.
_WithOrigin = Callable[[dict[str, Any], Setting[Any]], dict[str, Any]]
_Amounts = Mapping[str, Setting[Quantity | None]]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a document gives to one subject.

    Attributes:
        subject: The user, the image that the server runs, and the moment.
        order: The merge order.
        offer: The images and sizes that the user may choose.
        choice: The chosen ones.
        matches: For every profile of the document, in its order, whether it matches and why.
        effective: The merged settings of the profiles that match, and of the chosen size.
        resources: The limits and requests, if the hub's own settings have none.
        quotas: The quotas that a start counts towards.
        image_class: The images that this is true for; None if the subject's image is the only one.
    """

    subject: Subject
    order: MergeOrder
    offer: Offer
    choice: Choice
    matches: tuple[Match, ...]
    effective: EffectiveProfile
    resources: Resources
    quotas: tuple[Quota, ...] = ()
    image_class: ImageClass | None = None

    @property
    def shown_image(self) -> str:
        """What people call the image, or the images, such as ``any other image that matches lab/*``."""
        found, chosen = self.image_class, self.choice.image
        image = self.subject.image
        if found is not None and not found.is_one_image:
            *others, last = found.entries or ("",)
            which = f"{', '.join(others)} and {last}" if others else last
            image = f"any other image that matches {which}" if found.entries else "any other image"
        return f"{image} ({chosen.shown_name})" if chosen else image

    @property
    def limits(self) -> _Amounts:
        """Limits by resource. A value of None removes a limit, and so does a zero of a GPU."""
        return _with_removed(self.resources.limits, self.effective.limits)

    @property
    def requests(self) -> _Amounts:
        """Requests (guarantees) by resource. A value of None removes one, and so does a zero of a GPU."""
        return _with_removed(self.resources.requests, self.effective.requests)

    def overridden(self, section: str, name: str) -> tuple[Profile, ...]:
        """The profiles that set this variable, resource or label too, and whose value does not count."""
        return tuple([each for each in self.effective.applied if name in getattr(each, section)][:-1])

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each conflict, for variables that hide others, and for limits that a start would exceed."""
        warnings = [str(conflict) for conflict in self.resources.conflicts]
        for setting in self.effective.env_from:
            prefix = setting.value.get("prefix")
            hidden = [name for name in sorted(self.effective.env) if prefix and name.startswith(prefix)]
            if hidden:
                names = ", ".join(hidden[:3]) + (f" and {len(hidden) - 3} more" if hidden[3:] else "")
                warnings.append(f"{names}: set in env, which for Kubernetes overrides {describe_source(setting.value)}")
        if self.obstacle:
            warnings.append(f"no server can start: {self.obstacle}")
        return tuple(warnings)

    @property
    def obstacle(self) -> str:
        """The limit that a start would exceed, in words; empty if a server can start."""
        try:
            check_profile_count(len(self.effective.applied))
            check_merge_input(self.effective.applied)
            check_merge_result(self.effective)
            combine_terms(setting.value for setting in self.effective.node_requirements)
        except PodError as error:
            return str(error)
        return ""


def explain_document(
    document: Document,
    subject: Subject,
    order: MergeOrder = "specificity",
    choice: Choice = Choice(),  # noqa: B008  it is frozen
    image_class: ImageClass | None = None,
) -> Explanation:
    """Matches and merges the profiles of a document for a subject.

    Args:
        document: The document.
        subject: The user and the image.
        order: The merge order.
        choice: What was chosen. A size overrides every profile; an image is the subject's already.
        image_class: The images for which the subject's image is an example, if it is one.
    """
    matches = tuple(explain_match(profile, subject, document.timezone) for profile in document.profiles)
    applied = order_profiles((match.profile for match in matches if match.is_match), order)
    effective = merge_profiles((*applied, choice.size) if choice.size else applied)
    offer = find_offer(document, subject)
    resources = reconcile_resources(effective)
    quotas = find_quotas(document, subject)
    return Explanation(subject, order, offer, choice, matches, effective, resources, quotas, image_class)


def to_json(explanation: Explanation, *, show_values: bool = False) -> dict[str, Any]:
    """The explanation as a JSON object. It refers to a profile by its index among all profiles.

    The reference describes the object: it is a public format.

    Args:
        explanation: What to show.
        show_values: Show the values of environment variables; otherwise they are ``***``.
    """
    subject, effective = explanation.subject, explanation.effective
    offer, choice = explanation.offer, explanation.choice
    # `Profile.index` does not do: it counts within the profile's own ConfigMap.
    indices = {id(match.profile): index for index, match in enumerate(explanation.matches)}

    def with_origin(shown: dict[str, Any], setting: Setting[Any]) -> dict[str, Any]:
        # A size has no index: its settings get None.
        return {**shown, "profile": indices.get(id(setting.profile))}

    def with_overridden(section: str, name: str, shown: dict[str, Any]) -> dict[str, Any]:
        overridden = [indices[id(profile)] for profile in explanation.overridden(section, name)]
        return {**shown, "overrides": overridden} if overridden else shown

    return {
        "subject": {
            "user": subject.user,
            "groups": sorted(subject.groups),
            "image": subject.image,
            **({} if explanation.image_class is None else {"image_matches": list(explanation.image_class.entries)}),
        },
        "profiles": [
            {
                "index": index,
                "name": match.profile.name,
                **({} if match.profile.configmap is None else {"configmap": match.profile.configmap}),
                "matches": match.is_match,
                "reasons": list(match.reasons),
            }
            for index, match in enumerate(explanation.matches)
        ],
        "applied": [indices[id(profile)] for profile in effective.applied if not isinstance(profile, Size)],
        **({"image_choice": choice.image.name} if choice.image else {}),
        **({"size": choice.size.name} if choice.size else {}),
        **({"images": [image.name for image in offer.images]} if offer.images else {}),
        **({"sizes": [size.name for size in offer.sizes]} if offer.sizes else {}),
        "env": [
            with_overridden(
                "env", name, with_origin({"name": name, **_env_to_json(setting.value, show_values)}, setting)
            )
            for name, setting in sorted(effective.env.items())
        ],
        "resources": {
            kind: {
                resource: with_overridden(kind, resource, shown)
                for resource, shown in _amounts_to_json(amounts, with_origin).items()
            }
            for kind, amounts in (("limits", explanation.limits), ("requests", explanation.requests))
        },
        **{section: shown for section, shown in _sections_to_json(effective, with_origin) if shown},
        **({"quotas": [_quota_to_json(quota) for quota in explanation.quotas]} if explanation.quotas else {}),
        "warnings": list(explanation.warnings),
    }


def format_text(explanation: Explanation, style: Style, *, show_values: bool = False) -> str:
    """The explanation as text for people.

    Args:
        explanation: What to show.
        style: The colours.
        show_values: Show the values of environment variables; otherwise they are ``***``.
    """
    subject, offer = explanation.subject, format_offer(explanation.offer, style)
    lines = [
        f"{style.bold('User')}    {printable(subject.user)}",
        f"{style.bold('Groups')}  {printable(', '.join(sorted(subject.groups))) or 'none'}",
        f"{style.bold('Image')}   {printable(explanation.shown_image)}",
        *(["", *offer] if offer else []),
    ]
    settings = format_settings(explanation, style, show_values=show_values)
    return "\n".join([*lines, "", settings])


def format_offer(offer: Offer, style: Style) -> list[str]:
    """What may be chosen, as lines; none if there is nothing to choose."""
    lines = []
    if offer.images:
        lines.append(
            f"{style.bold('May choose images')}  {printable(', '.join(each.shown_name for each in offer.images))}"
        )
    if offer.sizes:
        names = [DEFAULT_SIZE, *(each.shown_name for each in offer.sizes)]
        lines.append(f"{style.bold('May choose sizes')}   {printable(', '.join(names))}")
    return lines


def format_settings(
    explanation: Explanation, style: Style, *, show_values: bool = False, show_reasons: bool = True
) -> str:
    """The part of the explanation that does not name the user and the image, as text.

    Args:
        explanation: What to show.
        style: The colours.
        show_values: As for `format_text`.
        show_reasons: Show for every profile why it matches or does not; otherwise only those that are applied.
    """
    sections = [
        _format_profiles(explanation, style, show_reasons),
        _format_env(explanation, style, show_values),
        *_format_env_from(explanation, style),
        _format_resources(explanation, style),
        *_format_nodes(explanation, style),
        *_format_volumes(explanation, style),
        *_format_texts(explanation, "labels", style),
        *_format_texts(explanation, "annotations", style),
        *_format_quotas(explanation, style),
    ]
    if explanation.warnings:
        warnings = (f"  {style.yellow('⚠')} {printable(text)}" for text in explanation.warnings)
        sections.append([style.bold("Warnings"), *warnings])
    return "\n\n".join("\n".join(lines) for lines in sections)


def _with_removed(reconciled: Mapping[str, Setting[Quantity]], merged: _Amounts) -> _Amounts:
    """The reconciled amounts, and those that the profiles remove: they are in `merged` only."""
    amounts = {name: setting for name, setting in merged.items() if not setting.value or not setting.value.amount}
    amounts |= {name: Setting(setting.value, setting.profile) for name, setting in reconciled.items()}
    return {name: amounts[name] for name in sorted(amounts, key=rank_resource)}


def _env_to_json(value: EnvValue, show_values: bool) -> dict[str, Any]:
    if isinstance(value, EnvVarSource):
        return {"valueFrom": value.to_kubernetes()}
    return {"value": value if show_values or value is None else _MASK}


def _amounts_to_json(amounts: _Amounts, with_origin: _WithOrigin) -> dict[str, Any]:
    return {
        resource: with_origin({"quantity": setting.value and setting.value.text}, setting)
        for resource, setting in amounts.items()
    }


def _sections_to_json(effective: EffectiveProfile, with_origin: _WithOrigin) -> Iterator[tuple[str, Any]]:
    def objects(settings: Iterable[Setting[Any]], name: str) -> list[dict[str, Any]]:
        return [with_origin({name: _to_plain(setting.value)}, setting) for setting in settings]

    def texts(settings: Mapping[str, Setting[str]]) -> dict[str, Any]:
        return {name: with_origin({"value": setting.value}, setting) for name, setting in sorted(settings.items())}

    yield "env_from", objects(effective.env_from, "source")
    yield "node_selector", texts(effective.node_selector)
    yield "node_tolerations", objects(effective.node_tolerations, "toleration")
    affinity = {
        "required": objects(effective.node_requirements, "terms"),
        "preferred": objects(effective.node_preferences, "term"),
    }
    yield "node_affinity", {kind: shown for kind, shown in affinity.items() if shown}
    yield "volumes", objects(effective.volumes, "volume")
    yield "labels", texts(effective.labels)
    yield "annotations", texts(effective.annotations)


def _quota_to_json(quota: Quota) -> dict[str, Any]:
    hard = {name: quantity.text for name, quantity in quota.hard.items()}
    return {"name": quota.name, "per": quota.per, "hard": hard}


def _to_plain(value: Any) -> Any:
    """An object of the document as JSON types."""
    if isinstance(value, Mapping):
        return {name: _to_plain(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_to_plain(each) for each in value]
    return value


def _format_profiles(explanation: Explanation, style: Style, show_reasons: bool) -> list[str]:
    matches = explanation.matches
    applied = explanation.effective.applied
    if not matches and not applied:
        return [style.bold("Profiles"), "  none; the document says 'profiles: []'"]
    lines = [style.bold(f"Profiles: {sum(match.is_match for match in matches)} of {len(matches)} match")]
    if not show_reasons:
        lines.append("  for different reasons; explain one user alone to see them")
        matches = ()
    rows = [[str(index), match.profile.label, "; ".join(match.reasons)] for index, match in enumerate(matches)]
    for match, cells in zip(matches, align(rows), strict=True):
        row = "  ".join(cells).rstrip()
        lines.append(f"  {style.green('✔')} {row}" if match.is_match else style.dim(f"  ✘ {row}"))
    if applied:
        order = "this order" if explanation.order == "specificity" else "the document's order"
        names = printable(", ".join(profile.label for profile in applied))
        lines += ["", f"{style.bold('Applied')} in {order}; later overrides earlier: {names}"]
    return lines


def _format_env(explanation: Explanation, style: Style, show_values: bool) -> list[str]:
    rows = [
        [name, _format_value(setting.value, show_values), _origin(setting, explanation.overridden("env", name))]
        for name, setting in sorted(explanation.effective.env.items())
    ]
    return [style.bold("Environment"), *(_table(rows, style) or ["  nothing from profiles"])]


def _format_value(value: EnvValue, show_values: bool) -> str:
    if isinstance(value, EnvVarSource):
        return describe_env_source(value)
    if value is None:
        return "(removed)"
    if not show_values:
        return _MASK
    return value or '""'


def describe_env_source(source: EnvVarSource) -> str:
    """Where a variable's value is taken from, in words, such as ``secret team-s3, key access-key``."""
    fields = source.fields
    if source.kind == "secretKeyRef":
        return f"secret {fields['name']}, key {fields['key']}"
    if source.kind == "configMapKeyRef":
        return f"configmap {fields['name']}, key {fields['key']}"
    return str(fields.get("fieldPath") or fields.get("resource"))


def _format_resources(explanation: Explanation, style: Style) -> list[str]:
    rows = [
        [resource if position == 0 else "", *row]
        for resource in sorted({*explanation.limits, *explanation.requests}, key=rank_resource)
        for position, row in enumerate(_describe_resource(explanation, resource))
    ]
    return [style.bold("Resources"), *(_table(rows, style) or ["  nothing from profiles"])]


def _format_env_from(explanation: Explanation, style: Style) -> Iterator[list[str]]:
    rows = [[describe_source(setting.value), _origin(setting)] for setting in explanation.effective.env_from]
    if rows:
        yield [style.bold("Environment from all keys of"), *_table(rows, style)]


def describe_source(source: Object) -> str:
    """An `env_from` source in words, such as ``secret team-s3, prefix S3_``."""
    kind = "secret" if "secretRef" in source else "configmap"
    reference = source.get("secretRef") or source.get("configMapRef") or {}
    text = f"{kind} {reference.get('name')}"
    if source.get("prefix"):
        text += f", prefix {source['prefix']}"
    return f"{text}, if there is one" if reference.get("optional") else text


def _format_nodes(explanation: Explanation, style: Style) -> Iterator[list[str]]:
    effective = explanation.effective
    rows = [
        *(
            ["selector", f"{name}={setting.value}", _origin(setting, explanation.overridden("node_selector", name))]
            for name, setting in sorted(effective.node_selector.items())
        ),
        *(
            ["required", " or ".join(describe_term(term) for term in setting.value), _origin(setting)]
            for setting in effective.node_requirements
        ),
        *(
            [
                "preferred",
                f"{describe_term(setting.value['preference'])} (weight {setting.value['weight']})",
                _origin(setting),
            ]
            for setting in effective.node_preferences
        ),
        *(
            ["tolerated", describe_toleration(setting.value), _origin(setting)]
            for setting in effective.node_tolerations
        ),
    ]
    if rows:
        yield [style.bold("Node"), *_table(rows, style)]


def describe_term(term: Object) -> str:
    """A NodeSelectorTerm in words, such as ``pool In (gpu, large)``."""
    expressions = [*term.get("matchExpressions", ()), *term.get("matchFields", ())]
    return " and ".join(
        " ".join(
            [expression["key"], expression["operator"]]
            + ([f"({', '.join(expression['values'])})"] if expression.get("values") else [])
        )
        for expression in expressions
    )


def describe_toleration(toleration: Object) -> str:
    """A toleration in words, such as ``nvidia.com/gpu:NoSchedule``."""
    taint = toleration.get("key") or "every taint"
    if toleration.get("value"):
        taint += f"={toleration['value']}"
    effect = f":{toleration['effect']}" if toleration.get("effect") else ""
    seconds = f" for {toleration['tolerationSeconds']} s" if "tolerationSeconds" in toleration else ""
    return f"{taint}{effect}{seconds}"


def _format_volumes(explanation: Explanation, style: Style) -> Iterator[list[str]]:
    rows = [
        [
            setting.value["mountPath"],
            describe_volume(setting.value),
            _origin(setting),
        ]
        for setting in explanation.effective.volumes
    ]
    if rows:
        yield [style.bold("Volumes"), *_table(rows, style)]


def describe_volume(volume: Object) -> str:
    """A volume in words, such as ``persistentVolumeClaim team-data, read-only``."""
    kind = next(name for name in find_alternatives("MountedVolume") if name in volume)
    source = volume[kind]
    names = [source[field] for field in ("claimName", "secretName", "name", "path", "driver") if field in source]
    text = " ".join([kind, *names[:1]])
    if volume.get("subPath"):
        text += f", {volume['subPath']} in it"
    return f"{text}, read-only" if volume.get("readOnly") else text


def _format_texts(explanation: Explanation, section: str, style: Style) -> Iterator[list[str]]:
    rows = [
        [name, setting.value or '""', _origin(setting, explanation.overridden(section, name))]
        for name, setting in sorted(getattr(explanation.effective, section).items())
    ]
    if rows:
        yield [style.bold(section.capitalize()), *_table(rows, style)]


def _format_quotas(explanation: Explanation, style: Style) -> Iterator[list[str]]:
    rows = [
        [
            quota.shown_name,
            f"{describe_hard(quota.hard)}, {'together' if quota.per == 'all' else 'each'}",
            f"this server needs {describe_hard(needs)}" if (needs := _find_needs(explanation, quota)) else "",
        ]
        for quota in explanation.quotas
    ]
    if rows:
        yield [style.bold("Quotas"), *_table(rows, style)]


def _find_needs(explanation: Explanation, quota: Quota) -> Mapping[str, Quantity]:
    """What a server needs of a quota; not what only the hub's settings can say."""
    limits, requests = explanation.resources.limits, explanation.resources.requests
    needs: dict[str, Quantity] = {}
    for name in quota.hard:
        kind, resource = split_name(name)
        # Where there is no guarantee, Kubernetes reserves the limit.
        setting = (requests.get(resource) if kind == "requests" else None) or limits.get(resource)
        if name == PODS:
            needs[name] = parse_quantity("1")
        elif setting is not None:
            needs[name] = setting.value
    return needs


def _describe_resource(explanation: Explanation, resource: str) -> Iterator[tuple[str, str, str]]:
    limit, request = explanation.limits.get(resource), explanation.requests.get(resource)
    for noun, section, setting in (("limit", "limits", limit), ("guarantee", "requests", request)):
        if setting is not None:
            yield noun, _format_amount(setting), _origin(setting, explanation.overridden(section, resource))
    if limit and limit.value and limit.value.amount and (request is None or request.value is None):
        unless = ", unless the hub sets one" if request is None else ""
        yield "guarantee", f"({limit.value})", f"no guarantee set: Kubernetes reserves the limit{unless}"


def _format_amount(setting: Setting[Quantity | None]) -> str:
    return "(removed)" if setting.value is None else setting.value.text


def _origin(setting: Setting[Any], overridden: Sequence[Profile] = ()) -> str:
    if setting.profile is None:
        return ""
    names = ", ".join(profile.label for profile in overridden)
    return f"from {setting.profile.label}{f', overrides {names}' if names else ''}"


def _table(rows: list[list[str]], style: Style) -> list[str]:
    return [f"  {'  '.join([*cells[:-1], style.dim(cells[-1].rstrip())])}".rstrip() for cells in align(rows)]
