"""Prints the Kubernetes objects that the real KubeSpawner makes, for the comparison with those of Outpost.

    parity.py parity.json

The file is an object of cases by name, each with

    user, server   names, as a hub knows them ("ada", "")
    options        the site's configuration, c.KubeSpawner
    misc           what a hub sends beside it, set as the Python service sets it: objects join those of the configuration
    user_options   what the user chose
    internal_ssl   true: with certificates

What is printed is an object by the same names, each with

    environment    the variables that a hub sends for this server
    certificates   the texts of the certificates, with internal_ssl
    pod, claim, service, secret, namespace     what KubeSpawner sends to Kubernetes; null where it makes none
    host           where the hub is told to reach the server; null for the pod's own IP

KubeSpawner is asked for the objects only: there is no cluster.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import kubespawner.spawner
from jupyterhub.spawner import Spawner
from kubernetes_asyncio.client import ApiClient
from kubespawner import KubeSpawner
from kubespawner.objects import make_namespace, make_owner_reference
from traitlets.config import Config

# No cluster is looked for.
kubespawner.spawner.load_config = lambda **_: None
kubespawner.spawner.shared_client = lambda _: None

CERTIFICATES = {"keyfile": "the key\n", "certfile": "the certificate\n", "cafile": "the servers' authority\n"}
HUB_CA = "the hub's authority\n"


class WithServer:
    """A spawner whose server has its place below the hub, without a database."""

    @property
    def server(self):
        return SimpleNamespace(base_url=self.user.server_url(self.name))

    public_url = ""
    public_hub_url = ""


class Hub(WithServer, Spawner):
    """What a hub knows of a server that Outpost starts for it."""

    start = stop = poll = None


class Kube(WithServer, KubeSpawner):
    """KubeSpawner itself."""


def user_named(name):
    escaped = quote(name, safe="@~")

    def server_url(server):
        return f"/user/{escaped}/" + (f"{quote(server)}/" if server else "")

    return SimpleNamespace(id=7, name=name, escaped_name=escaped, url=f"/user/{escaped}/", server_url=server_url)


def spawner(kind, case, **traits):
    made = kind(
        user=user_named(case.get("user", "ada")),
        orm_spawner=SimpleNamespace(name=case.get("server", ""), server=None, state={}),
        hub=SimpleNamespace(
            public_host="", url="http://hub:8081/hub/", base_url="/hub/", api_url="http://hub:8081/hub/api"
        ),
        internal_ssl=case.get("internal_ssl", False),
        **traits,
    )
    made.api_token = "the-token-of-this-server"
    made.oauth_client_id = "jupyterhub-user-ada"
    return made


def apply(made, misc):
    for key, value in misc.items():
        if isinstance(value, dict):
            value = {**getattr(made, key), **value}
        setattr(made, key, value)


async def objects(case, folder):
    hub = spawner(Hub, case, port=55713, ip="0.0.0.0")
    result = {"environment": hub.get_env(), "certificates": None}

    made = spawner(Kube, case, config=Config(KubeSpawner=case.get("options", {})))
    apply(made, case.get("misc", {}))
    made.user_options = case.get("user_options", {})
    await made.load_user_options()
    if made.internal_ssl:
        made.cert_paths = {}
        for name, text in CERTIFICATES.items():
            made.cert_paths[name] = str(folder / name)
            (folder / name).write_text(text)
        (folder / "hub-ca").write_text(HUB_CA)
        made.internal_trust_bundles = {"hub-ca": str(folder / "hub-ca")}
        result["certificates"] = {**CERTIFICATES, "hub-ca": HUB_CA}

    pod = await made.get_pod_manifest()
    owner = make_owner_reference(made.pod_name, "of-the-pod")
    service = made.services_enabled or made.internal_ssl
    namespace = make_namespace(
        made.namespace,
        labels=made._expand_all(made.user_namespace_labels),
        annotations=made._expand_all(made.user_namespace_annotations),
    )
    result |= {
        "pod": pod,
        "claim": made.get_pvc_manifest() if made.storage_pvc_ensure else None,
        "service": made.get_service_manifest(owner, made.port) if service else None,
        "secret": made.get_secret_manifest(owner) if made.internal_ssl else None,
        "namespace": namespace if made.enable_user_namespaces else None,
        "host": made.dns_name if service else None,
    }
    return result


async def main(path):
    cases = json.loads(Path(path).read_text())
    async with ApiClient() as client:
        with tempfile.TemporaryDirectory() as folder:
            made = {name: await objects(case, Path(folder)) for name, case in cases.items()}
        json.dump(client.sanitize_for_serialization(made), sys.stdout, indent=1)


asyncio.run(main(sys.argv[1]))
