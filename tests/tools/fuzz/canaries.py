"""Documents whose environment variables' values are canaries: words that nothing else is like.

A canary's letters and digits alternate, and its letters are rare ones. So any four characters of one can be told from
every other text, however much of the canary was damaged, and one pattern finds all of them.
"""

from __future__ import annotations

import json
import random
import re
from types import MappingProxyType

__all__ = ["KEY", "find_canaries", "make_bases"]

KEY = "jupyterhub-singleuser-profiles.yaml"

_LETTERS = "QXZJ"
# A username may be lower-cased on its way. Whatever is of four characters holds a letter between digits.
_BETWEEN_DIGITS = re.compile(r"\d[QXZJqxzj]\d")
_CANARY = re.compile(r"[QXZJqxzj]?\d[QXZJqxzj]\d(?:[QXZJqxzj]\d)*[QXZJqxzj]?")
_SHORTEST = 4

# Each § is a canary.
_PLACE = "§"
_TEMPLATES = MappingProxyType(
    {
        "mapping": """\
profiles:
- name: globals
  env:
    DB_PASSWORD: §
    TOKEN: §
  resources: {mem_limit: 1Gi, cpu_limit: 500m}
- users: [ada]
  env: {TOKEN: §}
""",
        "flow": """\
{profiles: [{name: a, env: {P: §, "Q": "§", R: '§'}, users: [ada]}, {env: {S: §}}]}
""",
        "list": """\
profiles:
- groups: [forecasters]
  env:
  - name: DB_PASSWORD
    value: §
  - {name: TOKEN, value: "§"}
  - {name: KEY, valueFrom: {secretKeyRef: {name: s3, key: k}}}
""",
        "flow-list": """\
profiles: [{env: [{name: A, value: §}, {value: '§', name: B}], images: ["nb:1"]}]
""",
        "value-from": """\
profiles:
- env:
    A: §
    B:
      valueFrom:
        secretKeyRef:
          name: tokens
          key: token
          optional: true
    C: {valueFrom: {configMapKeyRef: {name: c, key: k}}}
    D: {valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    E: §
""",
        "literal": """\
profiles:
- name: literal
  env:
    CONFIG: |
      password: §
      - user: §
      [section]
      §: yes
    AFTER: §
""",
        "folded": """\
profiles:
- env:
    NOTE: >-
      first §
      name: § and

      more: §
    AFTER: x§
  users: ["*"]
""",
        "quoted": """\
profiles:
- env:
    A: "say \\"§\\" and \\\\ §\\n§"
    B: 'it''s §, {§}: [§] # §'
    C: §, § # a remark
    D: "§
      § é ‘§’"
""",
        "special": """\
profiles:
- env:
    URL: https://user:§@example.org/§?a=§&b=§
    JSON: '{"password": "§", "list": ["§"]}'
    PAIR: "§: §"
    BRACES: a{§}b
    OPTION: --password=§
    EQUALS: §=§==
    SHELL: ${§:-§} $(§)
""",
        "merge": """\
profiles:
- name: first
  env: &shared
    A: §
    B: &value §
- env: *shared
- env: {<<: *shared, C: §}
- env: {D: *value}
  labels: {team: blue}
""",
        "sizes": """\
profiles: []
sizes:
- name: Large
  description: For training
  groups: [forecasters]
  env: {MODE: §}
  resources: {mem_limit: 8Gi, cpu_limit: 4}
- name: Small
  env:
  - {name: MODE, value: §}
""",
        "sections": """\
profiles:
- name: all
  images: ['quay.io/example/nb:*']
  users: [ada]
  groups: [forecasters]
  env: {A: §, B: §}
  env_from: [{secretRef: {name: s}}]
  resources: {limits: {memory: 2Gi}, requests: {cpu: 1}}
  gpu: 1
  node_selector: {disk: ssd}
  node_tolerations: [{key: k, operator: Exists}]
  labels: {team: x}
  annotations: {note: y}
  volumes:
  - {name: v, mountPath: /v, persistentVolumeClaim: {claimName: c}}
""",
        "affinity": """\
profiles:
- env: {A: §}
  node_affinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
      - matchExpressions: [{key: disk, operator: In, values: [ssd]}]
  node_selector: {zone: a}
- env:
  - {name: B, value: §}
  labels: {team: x}
""",
        "short": """\
profiles:
- env: {A: Q7Z3, B: 4X9J, C: "1Z5Q", D: "J0J0 8Q2X"}
- env: [{name: A, value: Z6X1}]
  resources:
    mem_limit: 512Mi
""",
        "legacy": """\
ui: {imagePicker: true}
profiles:
- name: Old
  env:
    A: §
  node_tolerations: []
  resources:
    requests: {memory: 1Gi}
    limits: {memory: 2Gi}
""",
        "invalid": """\
profiles:
- nmae: x
  env:
    A: §
    A: §
    JUPYTERHUB_USER: §
    B: [§]
    C: {§: §}
    1D: §
    ÜBER: §
- enviroment: {E: §}
- env: [{name: F, valeu: §}, {nam: G, value: §}, [§]]
- env: §
- env: {H: &h §, I: {valueFrom: §}}
  resources: {mem_limit: *h}
""",
        "manifest": """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: jupyter-singleuser-profiles
data:
  jupyterhub-singleuser-profiles.yaml: |
    profiles:
    - name: a
      env:
        A: §
        B: "§"
    - env: [{name: C, value: §}]
""",
    }
)


def find_canaries(text: str) -> set[str]:
    """The parts of canaries that a text holds, each as long as it goes, in capitals."""
    if not _BETWEEN_DIGITS.search(text):
        return set()
    return {found.upper() for found in _CANARY.findall(text) if len(found) >= _SHORTEST}


def make_bases(seed: int) -> dict[str, str]:
    """The documents by name, the same for a seed."""
    randomness = random.Random(seed)
    known: set[str] = set()
    bases = {
        name: "".join(_canary(randomness, known) if each == _PLACE else each for each in template)
        for name, template in _TEMPLATES.items()
    }
    return {**bases, **_in_manifests(bases)}


def _canary(randomness: random.Random, known: set[str]) -> str:
    while True:
        pairs = [randomness.choice(_LETTERS) + randomness.choice("0123456789") for _ in range(4)]
        canary = "".join(pairs)
        # One that begins with a digit is no name of anything.
        canary = randomness.choice([canary, canary[1:] + canary[0]])
        if canary not in known:
            known.add(canary)
            return canary


def _in_manifests(bases: dict[str, str]) -> dict[str, str]:
    """The same as a ConfigMap holds them where the document's lines are no lines of the file."""
    head = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "p"}}
    in_json = json.dumps({**head, "data": {KEY: bases["list"]}})
    in_quotes = f"apiVersion: v1\nkind: ConfigMap\ndata:\n  {KEY}: {json.dumps(bases['mapping'])}\n"
    return {"manifest-in-json": in_json, "manifest-in-quotes": in_quotes}
