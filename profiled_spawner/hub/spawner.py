"""`ProfiledKubeSpawner`: a KubeSpawner that reads profiles from a ConfigMap at every start.

The docstring of each overridden method says what the host expects of it, in jupyterhub 5.0 to 6.1 and kubespawner 7.0
to 7.1. A spawn leaves nothing for the next one: no trait of the spawner is ever set.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from inspect import isawaitable
from pathlib import Path
from typing import Any

from kubernetes_asyncio.client import ApiException, V1Pod
from tornado import web
from traitlets import Bool, Enum, Instance, Unicode, default

from .. import metrics
from ..decide.choices import OPTIONS_KEY, Choice, Offer, choose, describe_default, describe_resources, find_offer
from ..decide.matching import Subject, match_profiles
from ..decide.merging import EffectiveProfile, check_merge_input, merge_profiles
from ..decide.quotas import Amounts, Server, Shortage, describe_amount, find_quotas, find_shortage, measure_size
from ..document.limits import MAX_IMAGE
from ..document.model import Document, Profile, Quota
from ..errors import ChoiceError, DocumentError, PodError, ProfiledSpawnerError, QuotaError, SourceError
from ..pod.amounts import measure_pod
from ..pod.patch import (
    OBSERVED,
    QUOTAS,
    Injection,
    annotate,
    expand_together,
    find_image,
    format_applied,
    format_names,
    format_quotas,
    inject_profile,
    parse_quantities,
    set_image,
)
from ..pod.redaction import MaskedPod, describe_refusal, withhold_response_bodies
from ..sources.cache import EscapingLog, Purpose, Snapshot
from ..sources.configmap import ConfigMapSource, SelectedConfigMapsSource
from ..sources.file import FileSource
from ..sources.last_good import get_last_good_file
from ..sources.several import read_documents
from ..sources.source import Source
from .kubespawner import HostSpawner, SpawnException, find_hub_namespace, leave_failure_count
from .reservations import Reservations, from_state, get_reservations, to_state
from .spawn_form import FIELDS, format_form

__all__ = ["ProfiledKubeSpawner", "ProfilesUnavailableError"]

_NOT_READ = "its settings could not be read"
_NOT_TOGETHER = "its settings do not go together"
_NOT_TAKEN = "Kubernetes refuses it with its settings"
# The key of the state under which JupyterHub keeps what a running server counts.
_STATE_KEY = "profiled_spawner"
_MOST_LISTED = 20
_GIVEN_UP = "JupyterHub has given up this start"
# The API server's answers when it refuses a pod: the pod is invalid, or a quota or a policy forbids it. Other answers
# have nothing to do with the pod.
_REFUSES_A_POD = frozenset({400, 403, 413, 422})

withhold_response_bodies()


class StartRefusedError(ProfiledSpawnerError, SpawnException or web.HTTPError):  # type: ignore[misc]
    """A server was not started.

    Its text is one sentence for the server's owner. JupyterHub shows `str()` of it on the form, `jupyterhub_message` on
    the progress and pending pages, and tornado's ``log_message`` in the REST API's answer.
    """

    # The setter does nothing: JupyterHub 5 sets "error" when a spawn fails, and would show its own sentence for that.
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
    """A server was not started because its profiles could not be read, or not be put into its pod.

    The hub's log has the details.
    """

    def __init__(self, what: str = _NOT_READ) -> None:
        super().__init__(
            f"Your server was not started because {what}; please ask the administrators of this JupyterHub.",
            status_code=503,
        )


class ProfiledKubeSpawner(HostSpawner):
    """A KubeSpawner that gives each server the environment variables and resources of its matching profiles.

    To use it, set ``c.JupyterHub.spawner_class = "profiled-kubespawner"``. All settings of KubeSpawner still apply.
    """

    configmap_name = Unicode(
        "jupyter-singleuser-profiles",
        config=True,
        help="""
        Name of the ConfigMap that holds the profiles.

        It is read every time a server starts, so edits take effect at the next start. The hub's service account must
        be allowed to `get` it.
        """,
    )

    configmap_namespace = Unicode(
        config=True,
        help="""
        Namespace of the ConfigMap that holds the profiles.

        The default is the namespace of the hub's own pod, even if servers run in other namespaces (`namespace`,
        `enable_user_namespaces`). Outside a cluster it is `default`.
        """,
    )

    configmap_key = Unicode(
        "jupyterhub-singleuser-profiles.yaml",
        config=True,
        help="""
        Key of the ConfigMap's `data` that holds the profile document.

        If `profiles_file` is a ConfigMap manifest, its `data` must have the same key.
        """,
    )

    configmap_label_selector = Unicode(
        "",
        config=True,
        help="""
        Label selector of ConfigMaps with profiles beside the main one, such as `jupyterhub=singleuser-profiles`.

        All ConfigMaps in `configmap_namespace` that it selects are read at every start too, under the same key. Their
        profiles come after those of the main ConfigMap, in order of the ConfigMaps' names. A broken ConfigMap does not
        prevent a start: its last good version is used, or it is left out.

        The hub's service account must be allowed to `list` ConfigMaps. If empty (the default), only the main
        ConfigMap is read.
        """,
    )

    profiles_file = Unicode(
        "",
        config=True,
        help="""
        A file to read the profiles from instead of the ConfigMap: the document itself, or a ConfigMap manifest.

        It is also read every time a server starts. If empty (the default), the ConfigMap is read.

        If a ConfigMap is mounted into the hub's pod, edits arrive there with a delay of up to some minutes. With
        `subPath` they never arrive.
        """,
    )

    merge_order: Any = Enum(
        ["specificity", "document"],
        "specificity",
        config=True,
        help="""
        Which profile wins if several matching profiles set the same variable or resource.

        `specificity`: the more specific one. A profile with filters for both who (`users`, `groups`) and what
        (`images`) wins over a profile with only one of them, and that wins over a profile with neither. Among equals,
        the later one in the document wins.

        `document`: the later one in the document.
        """,
    )

    failure_policy: Any = Enum(
        ["last-good", "fail", "ignore"],
        "last-good",
        config=True,
        help="""
        What to do if the profiles cannot be read, or are not valid.

        `last-good`: start servers with the last valid profiles that this hub or an earlier one (`last_good_path`) has
        read. If there are none, start no servers.

        `fail`: start no servers.

        `ignore`: start servers without profiles, and so without their restrictions.
        """,
    )

    last_good_path = Unicode(
        "jupyterhub_last_good_profiles.json",
        config=True,
        help="""
        A file in which the hub keeps the last valid profiles over a restart.

        A relative path starts at the hub's working directory, which must be persistent. The file contains the document,
        and those of the selected ConfigMaps, with all values, so it is not used if others may read it. It is written
        when a document has changed. It is read only if the hub has just started and finds no valid profiles, and
        `failure_policy` is `last-good`.

        If empty, there is no file. Then after a restart of the hub, no server starts until the profiles are valid.
        """,
    )

    observe_only = Bool(
        False,
        config=True,
        help="""
        Whether to report only. Every start reads the profiles, and reports in the log and in the annotation
        `profiled-spawner/observed` what they would do. Then the server starts as with KubeSpawner alone.

        Nothing is offered, refused or changed, whatever the document and `failure_policy` say. Reading delays a start
        by at most `k8s_api_request_timeout`. Use it for the first days on a hub that people use.
        """,
    )

    @default("configmap_namespace")
    def _configmap_namespace_default(self) -> str:
        return find_hub_namespace(self)

    # Of the current spawn: when it began, its snapshot, what was chosen, and what is reserved for it. Nothing of it is
    # kept for the next.
    _began: float | None = None
    snapshot: Snapshot | None = None
    _choice: Choice = Choice()
    _reserved: Server | None = None
    # The spawn's outcome as the metrics name it, and whether the pod has profiles or a size in it.
    _outcome = "current"
    _has_profiles = False
    # The start that runs, and whether JupyterHub has cleaned up after it meanwhile.
    _starting: asyncio.Future[Any] | None = None
    _is_abandoned = False
    # What was applied, for the spawn page; None until the pod is made. The event is set when it is known, or when the
    # start has failed.
    summary: str | None = None
    _summary_ready: Any = Instance(asyncio.Event, ())

    def start(self) -> asyncio.Future[Any]:
        """Begins to start the server: reads the profiles, then does what KubeSpawner does.

        It has KubeSpawner's contract. It is no coroutine function: the start runs from this call on, whether or not
        anybody awaits the result. `_start_future`, which ends `progress`, is set when it returns. Reading is a part of
        that future (`load_user_options` does it), so cancelling it cancels the reading too.

        JupyterHub calls this after group overrides and hooks, and before anything exists in the cluster. It commits to
        its database before it awaits the future, and may ask for `progress` since before this call. It waits for
        `start_timeout`; after that, 6.x cancels the future and 5.x does not: it cleans up, and forgets the server while
        the start still runs.

        Returns:
            A future of the server's URL. It raises what `load_user_options`, `get_pod_manifest`, `create_pod` and
            KubeSpawner raise.
        """
        self._forget_start()
        self._is_abandoned = False
        self.summary = None
        self._summary_ready.clear()
        self._began = time.time()
        # A class between KubeSpawner and this one may have a coroutine.
        self._starting = asyncio.ensure_future(super().start())
        # In place of a `finally` in the future itself, which is not reached if that is cancelled before it has begun.
        self._starting.add_done_callback(self._end_start)
        return self._starting

    def _end_start(self, ended: asyncio.Future[Any]) -> None:
        # Somebody who saw the end first may have begun the next start.
        if ended is not self._starting:
            return
        self._forget_start()
        self._starting = None
        if self._is_abandoned:
            self.reservations.release(self)
        self._summary_ready.set()

    def _forget_start(self) -> None:
        self.snapshot = self._began = self._reserved = None
        self._choice = Choice()

    async def get_options_form(self) -> str:
        """Returns the form of KubeSpawner, or of the hub's configuration, followed by the images and sizes.

        JupyterHub calls this for the spawn page, and again if a start from that page failed. If the form is empty,
        JupyterHub shows no page and starts the server with the options that were stored last.
        """
        form = await super().get_options_form() or ""
        if self.observe_only:
            return form
        try:
            # A short timeout, since nobody should wait long for a page. The start reads again with a longer one, and
            # logs what is wrong.
            snapshot = await self._read(self.k8s_api_request_timeout, "page")
        except (SourceError, DocumentError):
            return form
        subject = self._subject()
        document = snapshot.document
        offer = find_offer(document, subject)
        options = self._find_options(snapshot)
        # Whatever else the form asks may change what a server gets.
        default = "" if form else self._describe_default(document, offer, subject)
        full = self._find_full(document, offer, subject)
        zone, at = document.timezone, subject.at
        return form + format_form(offer, options, zone, at, default=default, full=full, is_alone=not form)

    async def run_options_from_form(self, form_data: Mapping[str, list[Any]]) -> dict[str, Any]:
        """Returns the options that KubeSpawner, or the hub's configuration, makes of a form, with our choice."""
        return await self._add_choice(form_data, super().run_options_from_form)

    async def options_from_query(self, query_data: Mapping[str, list[Any]]) -> dict[str, Any]:
        """Returns the same for the query parameters of the spawn page's URL, which JupyterHub treats like a form."""
        return await self._add_choice(query_data, super().options_from_query)

    async def load_user_options(self) -> None:
        """Reads the profiles, chooses image and size after KubeSpawner has loaded its own options, and reserves room.

        KubeSpawner calls this first in its `start`, before it creates anything. The options may come from a form, from
        the REST API, or from an earlier start. Hooks may call it too, before the start.

        Raises:
            ProfilesUnavailableError: There are no profiles, or they conflict with each other, or with the pod. Without
                quotas, only `get_pod_manifest` finds such a conflict, when KubeSpawner has created the namespace and
                the volume claim.
            StartRefusedError: What was chosen is not offered, or the server does not fit into a quota.
        """
        snapshot = None if self.observe_only else await self._get_snapshot()
        image_before = self.image
        await super().load_user_options()
        if snapshot is None:
            return
        try:
            self._choice = self._choose(snapshot)
        except ChoiceError as error:
            what = f"Your server was not started because {error}."
            raise self._refuse(StartRefusedError(what, status_code=400, reason="choice"), "refused") from None
        image = self._choice.image_name
        if image and self.image not in (image_before, image):
            line = "%s runs %s, which the document offers, instead of %s, which profile_list gave it"
            self._our_log.info(line, self.shown_name, image, self.image)
        if self._find_quotas(snapshot.document):
            # The pod is made once more later, because KubeSpawner may still choose another volume claim.
            try:
                _, _, injection = await self._make_pod(snapshot)
                await self.reservations.measure_pods()
                self._reserve(injection.pod, snapshot)
            except PodError as error:
                raise self._refuse_pod(error) from None

    async def get_pod_manifest(self) -> V1Pod:
        """Returns KubeSpawner's pod with the matching profiles.

        KubeSpawner calls this once per spawn, after user options have set the image. It passes the result to
        `modify_pod_hook`, which may change anything. The pod is masked: the hook, or an error log, may print it.

        Raises:
            ProfilesUnavailableError: The profiles conflict with each other, or with the pod.
            StartRefusedError: The server does not fit into a quota.
        """
        if self.observe_only:
            pod = await super().get_pod_manifest()
            self._outcome, self._has_profiles = "observed", False
            observed = await self._observe(pod)
            self.reservations.put(self, self.describe_server(measure_pod(pod)))
            return MaskedPod.of(annotate(pod, OBSERVED, observed))
        snapshot = await self._get_snapshot()
        try:
            pod, effective, injection = await self._make_pod(snapshot)
            # What the pod needs is usually what is reserved already.
            covering = self._reserve(injection.pod, snapshot)
        except PodError as error:
            raise self._refuse_pod(error) from None
        self._has_profiles = bool(effective.applied)
        self._outcome = "current" if snapshot.fault is None else "last_good" if snapshot.source else "ignored"
        resources = describe_resources(injection.resources)
        self._log_outcome(pod, effective, injection, snapshot, resources)
        self.summary = _summarize(effective, resources)
        self._summary_ready.set()
        made = annotate(injection.pod, QUOTAS, format_quotas(covering)) if covering else injection.pod
        return MaskedPod.of(made)

    async def progress(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yields what was applied for the spawn page, then KubeSpawner's events of the pod.

        JupyterHub iterates over this while the spawn is pending, and stops when it ends, so waiting here is safe. No
        event is missed: KubeSpawner yields all events since the spawn began, and there are none before the pod exists.
        With `events_enabled` off, KubeSpawner yields none.
        """
        if not self.observe_only:
            await self._summary_ready.wait()
            if self.summary is None:
                return  # the start has failed
            yield {"progress": 10, "message": self.summary}
        async with aclosing(super().progress()) as events:
            async for event in events:
                yield event

    async def create_pod(self, pod: V1Pod, request_timeout: int) -> bool:
        """Creates the pod. Keeps its values out of logs and tracebacks if that fails.

        If the API server refuses the pod, KubeSpawner logs both and re-raises the refusal. The pod is masked here,
        because `modify_pod_hook` may have replaced it. JupyterHub would count the refusal as a failure of its own, and
        exit after some of them. So if the pod has profiles, the start is refused instead.

        A start that has been cancelled or given up leaves no pod behind that no quota counts.
        """
        try:
            created = await self._create_pod(MaskedPod.of(pod), request_timeout)
        except ApiException as refusal:
            if self._has_profiles and refusal.status in _REFUSES_A_POD:
                raise self._refuse_pod(PodError(describe_refusal(refusal)), _NOT_TAKEN) from None
            raise refusal.with_traceback(None) from None
        except Exception as error:  # noqa: BLE001  it is re-raised
            # The client's frames hold the request as text, and some tools record local variables.
            raise error.with_traceback(None) from None
        if created:
            metrics.SPAWNS.labels(self._outcome).inc()
        return created

    async def _create_pod(self, pod: V1Pod, request_timeout: int) -> bool:
        if self._is_abandoned:
            raise TimeoutError(_GIVEN_UP)
        creating = asyncio.ensure_future(super().create_pod(pod, request_timeout))
        try:
            created = await asyncio.shield(creating)
        except asyncio.CancelledError:
            # The API server may have created it. JupyterHub then looks for the pod, and deletes what it sees.
            with suppress(Exception):
                if await creating:
                    await self.wait_for_pod()
            raise
        if created and self._is_abandoned:
            await self.stop(now=True)
            raise TimeoutError(_GIVEN_UP)
        return created

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on counting a server that was started before the hub was.

        JupyterHub calls this for every new spawner object, with the state that `get_state` returned last. If the server
        is running, the spawner has its address already.
        """
        super().load_state(state)
        if self.server is None:
            return
        server = from_state(state.get(_STATE_KEY), self.shown_name, self.user.name)
        if server is None:
            self.reservations.put_unmeasured(self)
        else:
            self.reservations.put(self, server)

    def get_state(self) -> dict[str, Any]:
        """Returns KubeSpawner's state, with what the server counts towards quotas.

        JupyterHub stores it as JSON when a start has succeeded, and after a stop.
        """
        state: dict[str, Any] = super().get_state()
        server = self.reservations.find(self)
        return state if server is None else {**state, _STATE_KEY: to_state(server)}

    def clear_state(self) -> None:
        """Stops counting the server.

        JupyterHub calls this before each start, and when a stop has ended, however it did; also after a start that has
        failed. If JupyterHub 5 has given up a start that still runs, counting stops when that ends.
        """
        super().clear_state()
        if self._starting:
            self._is_abandoned = True
        else:
            self.reservations.release(self)

    @property
    def reservations(self) -> Reservations:
        """The servers of this hub that count towards quotas."""
        return get_reservations(self.hub)

    @property
    def is_counted(self) -> bool:
        """Whether JupyterHub regards the server as starting, running or stopping, or a start of it still runs."""
        return self._starting is not None or bool(self.active)

    def describe_server(self, amounts: Amounts) -> Server:
        """Returns the server as it counts towards quotas, with its owner's groups of now."""
        return Server(self.shown_name, self.user.name, self._subject().groups, amounts)

    async def _get_snapshot(self) -> Snapshot:
        """Returns what the running start decides by, which is read once; outside a start, what is there now."""
        snapshot = self.snapshot or await self.read_profiles()
        if self._starting:
            self.snapshot = snapshot
        return snapshot

    async def read_profiles(self) -> Snapshot:
        try:
            return await self._read(min(self.k8s_api_request_retry_timeout, self.start_timeout / 2), "start")
        except (SourceError, DocumentError):
            # The reason has been logged.
            raise self._refuse(ProfilesUnavailableError()) from None

    async def _read(self, timeout_seconds: float, purpose: Purpose) -> Snapshot:
        snapshot = await read_documents(
            self.make_source(),
            self._selected_source(),
            policy=self.failure_policy,
            timeout_seconds=timeout_seconds,
            log=self._our_log,
            purpose=purpose,
            file=get_last_good_file(self.last_good_path),
        )
        # For the metrics.
        self.reservations.quotas = snapshot.document.quotas
        return snapshot

    def make_source(self) -> Source:
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

    async def _add_choice(
        self, data: Mapping[str, list[Any]], interpret: Callable[[dict[str, Any]], Any]
    ) -> dict[str, Any]:
        # Our fields are removed: KubeSpawner warns of unknown fields, and a custom `options_from_form` may store them.
        ours = {} if self.observe_only else FIELDS
        options = interpret({name: values for name, values in data.items() if name not in ours})
        if isawaitable(options):
            options = await options
        # In a form, browsers send every line break as two characters.
        chosen = {key: data[field][-1].replace("\r\n", "\n") for field, key in ours.items() if data.get(field)}
        return {**options, OPTIONS_KEY: chosen} if chosen else options

    def _choose(self, snapshot: Snapshot) -> Choice:
        """Returns what the server is started with.

        Raises:
            ChoiceError: It is not offered.
        """
        return choose(snapshot.document, self._subject(), self._find_options(snapshot))

    def _describe_default(self, document: Document, offer: Offer, subject: Subject) -> str:
        """Returns what a server without a size gets, in words; nothing if that depends on more than the document."""
        amounts = self.own_amounts
        if not offer.sizes or amounts is None:
            return ""
        images = {image.image or self.image for image in offer.images} or {self.image}
        limits, requests = map(parse_quantities, amounts)
        return describe_default(
            document, subject, self.merge_order, images=images, own_limits=limits, own_requests=requests
        )

    def _find_options(self, snapshot: Snapshot) -> object:
        """Returns what was chosen; nothing if `failure_policy` allows a start without a document."""
        return None if snapshot.source is None else self.user_options.get(OPTIONS_KEY)

    def _subject(self, image: str = "") -> Subject:
        at = time.time() if self._began is None else self._began
        return Subject(self.user.name, frozenset(group.name for group in self.user.groups), image, at)

    def _find_quotas(self, document: Document) -> tuple[Quota, ...]:
        """Returns the quotas that cover the server's owner now."""
        # Without any, it asks JupyterHub for no groups.
        return find_quotas(document, self._subject()) if document.quotas else ()

    def _find_full(self, document: Document, offer: Offer, subject: Subject) -> Mapping[str, str]:
        """Returns the sizes that do not fit into a quota now, whatever else a server needs, and why not."""
        covering = find_quotas(document, subject) if offer.sizes else ()
        if not covering:
            return {}
        used = self.reservations.add_up(document.quotas, covering, subject.user)
        shortages = {
            size.name or "": find_shortage(covering, used, measure_size(size), is_part=True) for size in offer.sizes
        }
        return {name: str(shortage) for name, shortage in shortages.items() if shortage is not None}

    async def _make_pod(self, snapshot: Snapshot) -> tuple[V1Pod, EffectiveProfile, Injection]:
        """Returns KubeSpawner's pod with the chosen image, the server's merged profiles, and the pod with both.

        Raises:
            PodError: The profiles conflict with each other, or with the pod.
        """
        with self.running(self._choice.image):
            pod = await super().get_pod_manifest()
        # Also over an `extra_container_config` that somebody chose with a profile of profile_list.
        pod = set_image(pod, self._choice.image_name)
        return pod, *await self._decide(pod, snapshot, self._choice)

    def _reserve(self, pod: V1Pod, snapshot: Snapshot) -> tuple[Quota, ...]:
        """Counts the server from now on, if it fits into the quotas that cover its owner, and returns these.

        Raises:
            QuotaError: It does not fit.
        """
        server, document = self.describe_server(measure_pod(pod)), snapshot.document
        covering = self._find_quotas(document)
        if not covering:
            self.reservations.put(self, server)
            return ()
        shortage = self.reservations.reserve(self, server, document.quotas, covering, reserved=self._reserved)
        if shortage is not None:
            raise self._explain_shortage(shortage)
        self._reserved = server
        return covering

    def _observe_quotas(self, pod: V1Pod, snapshot: Snapshot) -> None:
        """Says whether the server would fit, and reserves nothing.

        Raises:
            QuotaError: It would not fit.
        """
        server, document = self.describe_server(measure_pod(pod)), snapshot.document
        covering = self._find_quotas(document)
        shortage = self.reservations.find_shortage(server, document.quotas, covering)
        if shortage is not None:
            raise self._explain_shortage(shortage)

    def _explain_shortage(self, shortage: Shortage) -> QuotaError:
        """Logs who uses a quota, and returns the error for the server's owner, which names nobody else."""
        quota, name = shortage.quota, shortage.name
        servers = self.reservations.list_servers(quota, self.user.name)
        using = [each for each in servers if each.amounts.get(name)]
        shown = [f"{each.name} {describe_amount(name, each.amounts[name])}" for each in using[:_MOST_LISTED]]
        self._our_log.warning(
            "%s does not fit into the quota %s: %s of %s used; %s",
            self.shown_name,
            quota.shown_name,
            describe_amount(name, shortage.used),
            describe_amount(name, shortage.hard),
            ", ".join([*shown, *(["…"] if using[_MOST_LISTED:] else [])]) or "nobody uses any",
        )
        is_chosen = self._choice.size is not None and name in measure_size(self._choice.size)
        if shortage.is_hopeless:
            advice = "Choose another size" if is_chosen else "Please ask the administrators of this JupyterHub"
        else:
            has_own = any(each.user == self.user.name for each in using)
            advice = "Stop a server" if has_own else "Try again when a server has stopped"
            if is_chosen:
                advice += ", or choose another size"
        return QuotaError(f"{shortage}. {advice}.")

    async def _decide(self, pod: V1Pod, snapshot: Snapshot, choice: Choice) -> tuple[EffectiveProfile, Injection]:
        """Returns the server's matching profiles, merged, and its pod with them.

        Raises:
            PodError: The profiles conflict with each other, or with the pod.
        """
        # The event loop runs other tasks between the steps, because each may take some milliseconds. In a burst, all
        # starts make their pods in one turn of the loop, which must take no longer than with KubeSpawner alone.
        await asyncio.sleep(0)
        subject = self._subject(find_image(pod))
        applied: tuple[Profile, ...] = match_profiles(snapshot.document, subject, self.merge_order)
        applied = (*applied, choice.size) if choice.size else applied
        await asyncio.sleep(0)
        check_merge_input(applied)
        effective = merge_profiles(applied)
        await asyncio.sleep(0)
        expand = expand_together(effective, self.expand_fields)
        await asyncio.sleep(0)
        return effective, inject_profile(pod, effective, snapshot.origin, expand)

    async def _observe(self, pod: V1Pod) -> str:
        """Decides as for a start, logs what would happen, and returns that as the text of an annotation.

        Never raises, so the server always starts, even if this package has a defect.
        """
        timeout_seconds = self.k8s_api_request_timeout
        try:
            async with asyncio.timeout(timeout_seconds):
                # A little less, so that reading times out first, and logs what is wrong.
                snapshot = await self._read(0.8 * timeout_seconds, "observation")
            choice = self._choose(snapshot)
            pod = set_image(pod, choice.image_name)
            effective, injection = await self._decide(pod, snapshot, choice)
            self._observe_quotas(injection.pod, snapshot)
            self._log_outcome(pod, effective, injection, snapshot, describe_resources(injection.resources))
            return f'{{"applied": {format_applied(effective)}, "source": {json.dumps(snapshot.origin)}}}'
        except (SourceError, DocumentError):
            # The reason has been logged.
            refused = _NOT_READ
        except ChoiceError as error:
            refused = "what was chosen is not offered"
            self._our_log.warning("Would not start %s, because %s", self.shown_name, error)
        except QuotaError as error:
            refused = "it does not fit into a quota"
            self._our_log.warning("Would not start %s, because %s", self.shown_name, error)
        except PodError as error:
            refused = _NOT_TOGETHER
            self._our_log.warning("Would not start %s, because %s", self.shown_name, error)
        except TimeoutError:
            refused = _NOT_READ
            why = f"the profiles could not be read within {timeout_seconds:g} s"
            self._our_log.warning("Would not start %s, because %s", self.shown_name, why)
        except (Exception, asyncio.CancelledError) as error:
            # If another start's shared request fails by a defect, this start gets a CancelledError without being
            # cancelled itself.
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            # Only the type, because the text may quote a value.
            refused = f"a defect of profiled-spawner ({type(error).__name__})"
            self._our_log.error("Would not start %s, because of %s; please report it", self.shown_name, refused)
        return json.dumps({"refused": refused})

    def _log_outcome(
        self, pod: V1Pod, effective: EffectiveProfile, injection: Injection, snapshot: Snapshot, resources: str
    ) -> None:
        """Logs what was applied, or would be, in one line with names but no values, and each conflict of resources."""
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
            resources,
            snapshot.origin or "none, as failure_policy says",
        )
        for conflict in injection.resources.conflicts:
            # A profile's limit below the hub's general guarantee is no mistake of the document, so it is no warning.
            level = logging.DEBUG if conflict.request.profile is None else logging.WARNING
            self._our_log.log(level, note, self.shown_name, conflict)

    @property
    def _our_log(self) -> EscapingLog:
        """The hub's log for our own lines, which quote names and documents and so must be escaped."""
        return EscapingLog(self.log)

    def _refuse(self, error: StartRefusedError, outcome: str = "failed") -> StartRefusedError:
        metrics.SPAWNS.labels(outcome).inc()
        if SpawnException is None:
            # JupyterHub 5 counts every failure, and exits at the limit of the spawner that failed. A document
            # must never restart the hub. The next attempt gets a new spawner, with the configured limit.
            self.consecutive_failure_limit = 0
            leave_failure_count()
        return error

    def _refuse_pod(self, error: PodError, what: str = _NOT_TOGETHER) -> ProfiledSpawnerError:
        """Logs why a pod is refused, and returns the error that ends its start."""
        if isinstance(error, QuotaError):
            # The log says already who uses the quota.
            sentence = f"Your server was not started because {error}"
            return self._refuse(StartRefusedError(sentence, status_code=429, reason="quota"), "refused")
        self._our_log.error("Not starting %s, because %s", self.shown_name, error)
        return self._refuse(ProfilesUnavailableError(what))


def _summarize(effective: EffectiveProfile, resources: str) -> str:
    """Returns what was applied, in two sentences for the spawn page."""
    names = ", ".join(profile.label for profile in effective.applied[:200]) or "none"
    shown = names if len(names) <= 200 else f"{names[:200]}…"
    return f"Profiles applied: {shown}. {resources[0].upper()}{resources[1:]}."
