"""`ProfiledKubeSpawner`: KubeSpawner, with profiles from a ConfigMap that is read at every start.

What the host demands of each method that is overridden here, in jupyterhub 5.0 to 6.1 and kubespawner 7.0 to 7.1,
stands with it. Nothing of a spawn is kept for the next: the spawner's own traits are never set.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from inspect import isawaitable
from pathlib import Path
from typing import Any

from kubernetes_asyncio.client import ApiException, V1Pod
from tornado import web
from traitlets import Bool, Enum, Instance, Unicode, default

from .. import metrics
from ..decide.choices import choose_size, describe_resources, find_sizes
from ..decide.matching import Subject, match_profiles
from ..decide.merging import EffectiveProfile, check_merge_input, merge_profiles
from ..document.limits import MAX_IMAGE
from ..document.model import DEFAULT_SIZE, Profile, Size
from ..errors import DocumentError, PodError, ProfiledSpawnerError, SizeError, SourceError
from ..pod.patch import (
    Injection,
    annotate_observation,
    expand_together,
    find_image,
    format_applied,
    format_names,
    inject_profile,
)
from ..pod.redaction import MaskedPod, describe_refusal, withhold_response_bodies
from ..sources.cache import EscapingLog, Purpose, Reading
from ..sources.last_good import find_file
from ..sources.several import read_documents
from ..sources.source import ConfigMapSource, FileSource, SelectedConfigMapsSource, Source
from .kubespawner import HostSpawner, SpawnException, find_hub_namespace, leave_failure_count
from .spawn_form import FIELD, format_form

__all__ = ["ProfiledKubeSpawner", "ProfilesUnavailableError"]

_NOT_READ = "its settings could not be read"
_NOT_TOGETHER = "its settings do not go together"
_NOT_TAKEN = "Kubernetes refuses it with its settings"
# What the API server answers to a pod that it does not take, be it for itself, for a quota or for a policy. Other
# answers say nothing of the pod.
_REFUSES_A_POD = frozenset({400, 403, 413, 422})

withhold_response_bodies()


class StartRefusedError(ProfiledSpawnerError, SpawnException or web.HTTPError):  # type: ignore[misc]
    """A server was not started.

    Holds one sentence for the person whose server it is. JupyterHub shows `str()` of it on the form,
    `jupyterhub_message` on the progress and pending pages, and tornado's ``log_message`` in the REST API's answer.
    """

    # JupyterHub 5 sets "error" when a spawn fails, and then shows its own sentence for that in place of ours.
    reason = property(lambda self: self._reason, lambda self, _: None)

    def __init__(self, message: str, *, status_code: int, reason: str = "profiles") -> None:
        self.jupyterhub_message = message
        self._reason = reason if SpawnException else None
        if SpawnException:
            super().__init__(message, reason=self._reason, status_code=status_code)  # type: ignore[call-arg]
        else:
            super().__init__(status_code, message)

    def __str__(self) -> str:
        return self.jupyterhub_message


class ProfilesUnavailableError(StartRefusedError):
    """A server was not started because its profiles could not be read, or put into its pod.

    What is wrong stands in the hub's log.
    """

    def __init__(self, what: str = _NOT_READ) -> None:
        super().__init__(
            f"Your server was not started because {what}; please ask the administrators of this JupyterHub.",
            status_code=503,
        )


class ProfiledKubeSpawner(HostSpawner):
    """A KubeSpawner that gives each server the environment and limits of the profiles that fit it."""

    configmap_name = Unicode(
        "jupyter-singleuser-profiles",
        config=True,
        help="""
        Name of the ConfigMap that holds the profiles.

        It is read at every start of a server, so an edit counts from the next start on. The hub's service account
        must be allowed to `get` it.
        """,
    )

    configmap_namespace = Unicode(
        config=True,
        help="""
        Namespace of the ConfigMap that holds the profiles.

        By default the namespace that the hub itself runs in, also where servers run in others
        (`namespace`, `enable_user_namespaces`); `default` outside a cluster.
        """,
    )

    configmap_key = Unicode(
        "jupyterhub-singleuser-profiles.yaml",
        config=True,
        help="""
        Key of the ConfigMap's `data` that holds the profile document.

        The same key is looked for where `profiles_file` is a ConfigMap manifest.
        """,
    )

    configmap_label_selector = Unicode(
        "",
        config=True,
        help="""
        Label selector of further ConfigMaps with profiles, such as `jupyterhub=singleuser-profiles`.

        All that it selects in `configmap_namespace` are read at every start too, under the same key. Their profiles
        stand behind those of the main one, in order of the ConfigMaps' names. One that is broken counts as it last
        was good, or not at all, and stops no server.

        The hub's service account must be allowed to `list` ConfigMaps. Empty, which is the default, means none.
        """,
    )

    profiles_file = Unicode(
        "",
        config=True,
        help="""
        A file to read the profiles from in place of the ConfigMap: the document itself, or a ConfigMap manifest.

        It is read at every start of a server too. Empty, which is the default, means the ConfigMap.

        A ConfigMap that is mounted into the hub's pod arrives there up to some minutes late, and never where it is
        mounted with `subPath`.
        """,
    )

    merge_order: Any = Enum(
        ["specificity", "document"],
        "specificity",
        config=True,
        help="""
        Which profile wins where several that fit a server say something of the same variable or resource.

        `specificity`: one that names both who (`users`, `groups`) and what (`images`) wins over one that names
        either, and that over one that names neither; among equals, the later in the document.

        `document`: the later in the document, whatever it names.
        """,
    )

    failure_policy: Any = Enum(
        ["last-good", "fail", "ignore"],
        "last-good",
        config=True,
        help="""
        What a server is started with when the profiles cannot be read, or are not valid.

        `last-good`: with the last valid profiles that this hub has read, or an earlier one (`last_good_path`); while
        there are none, not at all.

        `fail`: not at all.

        `ignore`: without profiles, which is without what they restrict as well.
        """,
    )

    last_good_path = Unicode(
        "jupyterhub_last_good_profiles.json",
        config=True,
        help="""
        A file in which the hub keeps the last valid profiles, so that they survive its restart.

        Relative to the hub's working directory, which must be persistent for that. The file holds the text of the
        document, and of each selected ConfigMap's, with all values; one that others may read is not used. It is
        written when a document has changed, and read only if a hub that has just started finds no valid profiles and
        `failure_policy` is `last-good`.

        Empty means no file: servers do not start then from when the hub was restarted until the profiles are valid.
        """,
    )

    observe_only = Bool(
        False,
        config=True,
        help="""
        Whether only to look: every start reads and decides, says in the log and in the annotation
        `profiled-spawner/observed` what would come of it, and then starts the server as KubeSpawner alone would.

        Nothing is offered, refused or changed, whatever the document and `failure_policy` say. Reading holds up a start
        for at most `k8s_api_request_timeout`. For the first days on a hub that people use.
        """,
    )

    @default("configmap_namespace")
    def _configmap_namespace_default(self) -> str:
        return find_hub_namespace(self)

    # What was read for the spawn under way, and the size that was chosen; None between spawns.
    _reading: Reading | None = None
    _size: Size | None = None
    # What the pod was given, as the metrics name it, and whether profiles or a size are in it.
    _given = "current"
    _has_profiles = False
    # Whether KubeSpawner's profile_list has an option of that name, whose value then stands in the same place.
    _size_is_an_option = False
    # What the spawn was given, for the spawn page; None until its manifest is made. The event is set when there is no
    # more to wait for.
    _summary: str | None = None
    _summed_up: Any = Instance(asyncio.Event, ())

    async def start(self) -> Any:
        """Reads the profiles, then starts the server.

        JupyterHub awaits this within `start_timeout` (6.x cancels it then, 5.x does not), after group overrides
        and hooks and before anything is made in the cluster. KubeSpawner's own `start` makes `_start_future`, by
        which `progress` knows when to end, and returns it: it is this start's before there is a summary.

        Raises:
            ProfilesUnavailableError: There are no profiles to go by, and nothing was created; or they do not go
                together with the pod, which is known when KubeSpawner has seen to the namespace and the claim.
            StartRefusedError: The size that was chosen is not to be had, and nothing was created.
        """
        if self.observe_only:
            return await super().start()
        self._summary = None
        self._summed_up.clear()
        try:
            self._reading = await self._read_profiles()
            return await super().start()
        finally:
            self._reading = self._size = None
            self._summed_up.set()

    async def get_options_form(self) -> str:
        """Puts the sizes below the form that KubeSpawner, or the hub's configuration, has.

        JupyterHub calls this for the page, and again where a start from that failed. Where it is empty, there is no
        page, and the server is started with the options that were stored last.
        """
        form = await super().get_options_form() or ""
        if self.observe_only:
            return form
        try:
            # Nobody should wait long for a page: the start reads again, with patience, and says what is wrong.
            reading = await self._read(self.k8s_api_request_timeout, "page")
        except (SourceError, DocumentError):
            return form
        if self._size_is_an_option:
            return form
        return form + format_form(find_sizes(reading.document, self._subject()), self._find_choice(reading))

    async def run_options_from_form(self, form_data: Mapping[str, list[Any]]) -> dict[str, Any]:
        """Adds the size to the options that KubeSpawner, or the hub's configuration, makes of a form."""
        return await self._add_size(form_data, super().run_options_from_form)

    async def options_from_query(self, query_data: Mapping[str, list[Any]]) -> dict[str, Any]:
        """Does the same for the parameters of the spawn page's URL, which JupyterHub takes for a form too."""
        return await self._add_size(query_data, super().options_from_query)

    async def load_user_options(self) -> None:
        """Sees to the size beside what KubeSpawner looks for, wherever JupyterHub has the options from.

        KubeSpawner calls this first of all when it starts a server, and has not created anything.
        """
        await super().load_user_options()
        if self.observe_only:
            return
        reading = self._reading or await self._read_profiles()
        try:
            self._size = self._choose_size(reading)
        except SizeError as error:
            what = f"Your server was not started because {error}."
            raise self._refuse(StartRefusedError(what, status_code=400, reason="size"), "refused") from None

    def note_profile_list(self, profiles: list[Any]) -> None:
        """Notes an option that is called as sizes are."""
        self._size_is_an_option = any("size" in profile.get("profile_options", {}) for profile in profiles)

    async def get_pod_manifest(self) -> V1Pod:
        """Adds the profiles that fit to the manifest that KubeSpawner makes.

        KubeSpawner calls this once per spawn, when user options have set the image, and hands the result to
        `modify_pod_hook`, which has the last word. The hook, and whoever tells of its failure, may print it.
        """
        pod = await super().get_pod_manifest()
        if self.observe_only:
            self._given, self._has_profiles = "observed", False
            return MaskedPod.of(annotate_observation(pod, await self._observe(pod)))
        reading = self._reading or await self._read_profiles()
        try:
            effective, injection = await self._decide(pod, reading, self._size)
        except PodError as error:
            raise self._refuse_pod(error) from None
        self._has_profiles = bool(effective.applied)
        self._given = "current" if reading.fault is None else "last_good" if reading.source else "ignored"
        self._tell(pod, effective, injection, reading)
        amounts = describe_resources(injection.resources)
        names = ", ".join(profile.label for profile in effective.applied[:200]) or "none"
        shown = names if len(names) <= 200 else f"{names[:200]}…"
        self._summary = f"Profiles applied: {shown}. {amounts[0].upper()}{amounts[1:]}."
        self._summed_up.set()
        return MaskedPod.of(injection.pod)

    async def progress(self) -> AsyncGenerator[dict[str, Any], None]:
        """Tells the spawn page what was applied, then what happens to the pod.

        JupyterHub iterates this while the spawn is pending and drops it when that ends, so waiting here is safe.
        Nothing of KubeSpawner's is missed: it starts from the events since the spawn began, and there are none of
        a pod that has not been made. With `events_enabled` off, it has none at all.
        """
        if not self.observe_only:
            await self._summed_up.wait()
            if self._summary is None:
                return  # the start has failed before
            yield {"progress": 10, "message": self._summary}
        async with aclosing(super().progress()) as events:
            async for event in events:
                yield event

    async def create_pod(self, pod: V1Pod, request_timeout: int) -> bool:
        """Creates the pod, and when that fails, keeps its values out of what is told of it.

        KubeSpawner logs the pod, which `modify_pod_hook` may have made anew, with the API server's refusal, and raises
        that on. The hub would count it as a failure of its own, and exit after some of them. A pod that has profiles in
        it is refused for these.
        """
        try:
            created = await super().create_pod(MaskedPod.of(pod), request_timeout)
        except ApiException as refusal:
            if self._has_profiles and refusal.status in _REFUSES_A_POD:
                raise self._refuse_pod(PodError(describe_refusal(refusal)), _NOT_TAKEN) from None
            raise refusal.with_traceback(None) from None
        except Exception as error:  # noqa: BLE001  whatever it is, it is raised on
            # The client's frames hold the request as text, for tools that record local variables.
            raise error.with_traceback(None) from None
        if created:
            metrics.SPAWNS.labels(self._given).inc()
        return created

    async def _observe(self, pod: V1Pod) -> str:
        """Decides as for a start, tells the log what would come of it, and gives that as the text of an annotation.

        It raises nothing, so the server always starts, also after a defect of ours.
        """
        timeout_seconds = self.k8s_api_request_timeout
        try:
            async with asyncio.timeout(timeout_seconds):
                # A little less, so that reading ends first, and says what is wrong.
                reading = await self._read(0.8 * timeout_seconds, "observation")
            effective, injection = await self._decide(pod, reading, self._choose_size(reading))
            self._tell(pod, effective, injection, reading)
            return f'{{"applied": {format_applied(effective)}, "source": {json.dumps(reading.origin)}}}'
        except (SourceError, DocumentError):
            # What is wrong has been logged.
            refused = _NOT_READ
        except SizeError as error:
            refused = "its size is not available"
            self._our_log.warning("Would not start %s, because %s", self.shown_name, error)
        except PodError as error:
            refused = _NOT_TOGETHER
            self._our_log.warning("Would not start %s, because %s", self.shown_name, error)
        except TimeoutError:
            refused = _NOT_READ
            why = f"the profiles could not be read within {timeout_seconds:g} s"
            self._our_log.warning("Would not start %s, because %s", self.shown_name, why)
        except (Exception, asyncio.CancelledError) as error:
            # Those who share a read see a defect of another's as a cancellation, though nobody has cancelled them.
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            # The type alone: the text may quote a value.
            refused = f"a defect of profiled-spawner ({type(error).__name__})"
            self._our_log.error("Would not start %s, because of %s; please report it", self.shown_name, refused)
        return json.dumps({"refused": refused})

    async def _decide(self, pod: V1Pod, reading: Reading, size: Size | None) -> tuple[EffectiveProfile, Injection]:
        """What fits the server, merged, and its pod with that in it.

        Raises:
            PodError: It does not go together, or not with the pod.
        """
        applied: tuple[Profile, ...] = match_profiles(
            reading.document, self._subject(find_image(pod)), self.merge_order
        )
        applied = (*applied, size) if size else applied
        # Others have their turn between the steps: with as much as a document may say, each takes some milliseconds.
        await asyncio.sleep(0)
        check_merge_input(applied)
        effective = merge_profiles(applied)
        await asyncio.sleep(0)
        expand = expand_together(effective, self.expand_fields)
        await asyncio.sleep(0)
        return effective, inject_profile(pod, effective, reading.origin, expand)

    async def _read_profiles(self) -> Reading:
        try:
            return await self._read(min(self.k8s_api_request_retry_timeout, self.start_timeout / 2), "start")
        except (SourceError, DocumentError):
            # What is wrong has been logged.
            raise self._refuse(ProfilesUnavailableError()) from None

    async def _read(self, timeout_seconds: float, purpose: Purpose) -> Reading:
        return await read_documents(
            self._source(),
            self._selected_source(),
            policy=self.failure_policy,
            timeout_seconds=timeout_seconds,
            log=self._our_log,
            purpose=purpose,
            file=find_file(self.last_good_path),
        )

    def _refuse(self, error: StartRefusedError, outcome: str = "failed") -> StartRefusedError:
        metrics.SPAWNS.labels(outcome).inc()
        if SpawnException is None:
            # JupyterHub 5 counts every failure and exits at this limit, as it reads it from the spawner that
            # failed. No document should restart the hub. The next try gets a new spawner.
            self.consecutive_failure_limit = 0
            leave_failure_count()
        return error

    def _refuse_pod(self, error: PodError, what: str = _NOT_TOGETHER) -> ProfiledSpawnerError:
        """Tells the hub's log what is wrong with a pod, and makes the error that ends its start."""
        self._our_log.error("Not starting %s, because %s", self.shown_name, error)
        return self._refuse(ProfilesUnavailableError(what))

    def _subject(self, image: str = "") -> Subject:
        return Subject(self.user.name, frozenset(group.name for group in self.user.groups), image)

    async def _add_size(
        self, data: Mapping[str, list[Any]], interpret: Callable[[dict[str, Any]], Any]
    ) -> dict[str, Any]:
        # KubeSpawner warns of fields that it does not know, and a function of the hub's own may keep them.
        ours = {} if self.observe_only else {FIELD: data.get(FIELD, [DEFAULT_SIZE])}
        options = interpret({name: values for name, values in data.items() if name not in ours})
        if isawaitable(options):
            options = await options
        size = ours.get(FIELD, [DEFAULT_SIZE])[-1]
        return options if size == DEFAULT_SIZE else {**options, "size": size}

    def _choose_size(self, reading: Reading) -> Size | None:
        """The size that was chosen for the server.

        Raises:
            SizeError: It is not available.
        """
        if self._size_is_an_option and reading.document.sizes:
            self._our_log.warning(
                "profile_list has an option 'size', so that no size can be chosen; call it something else"
            )
        return choose_size(reading.document, self._subject(), self._find_choice(reading))

    def _find_choice(self, reading: Reading) -> object:
        """What was chosen for a size; None where the option of that name is not known to be one.

        It may be KubeSpawner's, or of the hub's own making while the document has no sizes, or anything while
        `failure_policy` does without a document.
        """
        of_the_hub = not reading.document.sizes and self.has_own_form
        if self._size_is_an_option or of_the_hub or reading.source is None:
            return None
        return self.user_options.get("size")

    @property
    def _our_log(self) -> EscapingLog:
        """For our own lines, which quote people and documents."""
        return EscapingLog(self.log)

    def _source(self) -> Source:
        if self.profiles_file:
            return FileSource(Path(self.profiles_file), self.configmap_key)
        return ConfigMapSource(
            self.configmap_namespace,
            self.configmap_name,
            self.configmap_key,
            self.api,
            self.k8s_api_request_timeout,
        )

    def _selected_source(self) -> SelectedConfigMapsSource | None:
        if not self.configmap_label_selector:
            return None
        return SelectedConfigMapsSource(
            self.configmap_namespace,
            self.configmap_label_selector,
            self.configmap_key,
            None if self.profiles_file else self.configmap_name,
            self.api,
            self.k8s_api_request_timeout,
        )

    def _tell(self, pod: V1Pod, effective: EffectiveProfile, injection: Injection, reading: Reading) -> None:
        """Tells the log what was applied, or would be: one line, of names and never values, and what was overruled."""
        line, note = "Profiles for %s on %s: %s; env %s; %s; from %s", "For %s, %s"
        if self.observe_only:
            line, note = "Would apply to %s on %s: %s; env %s; %s; from %s", "If applied to %s, %s"
        image = find_image(pod)
        self._our_log.info(
            line,
            self.shown_name,
            image if len(image) <= MAX_IMAGE else f"{image[:100]}…",
            format_names((profile.label for profile in effective.applied), max_bytes=1000),
            format_names(sorted(effective.env), max_bytes=1000),
            describe_resources(injection.resources),
            reading.origin or "none, as failure_policy says",
        )
        for conflict in injection.resources.conflicts:
            # Nobody wrote a wrong document where a profile's limit is below the hub's general guarantee.
            level = logging.DEBUG if conflict.request.profile is None else logging.WARNING
            self._our_log.log(level, note, self.shown_name, conflict)
