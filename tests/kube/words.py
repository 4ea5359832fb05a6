"""Prints the keys of all that is in a pod's spec, as Python's client of Kubernetes has them, each with the API's own."""

import json
import re

from kubernetes_asyncio.client import models

words = {}
seen = set()
waiting = ["V1PodSpec"]
while waiting:
    name = waiting.pop()
    kind = getattr(models, name, None)
    if name not in seen and kind:
        seen.add(name)
        words.update(kind.attribute_map)
        waiting += re.findall(r"V1\w+", " ".join(kind.openapi_types.values()))
print(json.dumps(words))
