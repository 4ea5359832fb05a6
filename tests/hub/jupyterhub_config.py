"""One JupyterHub whose servers are all started by Outpost: for the tests and for quickstart.

It listens on 127.0.0.1 only, keeps its files in one folder and takes everything else from the environment:

    HUB_DIR             folder for the database, the keys and the proxy's process id
    HUB_PORT            port of the proxy, which people and tests talk to
    HUB_API_PORT        port of the hub itself: the Outpost posts to http://127.0.0.1:HUB_API_PORT/hub/api
    HUB_PROXY_API_PORT  port on which the hub tells the proxy its routes
    HUB_PASSWORD        logs in any user name; eight characters or more
    OUTPOST_TEST_HUB    folder made by ensure_hub of tests/setup.sh; here the proxy comes from it
    OUTPOST_URL         the Outpost's http://host:port/services
    OUTPOST_USER        credential of this hub at the Outpost
    OUTPOST_PASSWORD

and, if set:

    HUB_OUTPOST_TOKEN   the Outpost may push flavors, list servers and announce restarts with this token
    HUB_TESTS_TOKEN     token of an administrator, the service "tests"; also lets user_options steer a start (below)
    HUB_POLL_SECONDS    how often a server is polled (2; at least 1)
    HUB_INTERNAL_SSL    1: TLS with client certificates between hub, proxy and servers
    HUB_API_URL         the hub's API as servers and the Outpost see it, if it is not the hub's own; with internal
                        TLS that one wants a client certificate, http://127.0.0.1:HUB_PORT/hub/api does not
    HUB_SSH_PORT        port of the Outpost's SSH server: servers are reached through tunnels of the plugin
    HUB_SSH_DIR         folder with the private key for it (key), for its host key and the shared connection's socket
    HUB_KEEP_SERVERS    1: servers go on when the hub ends, for tests of its restart
    HUB_DEBUG           1: a talkative log
    OUTPOST_START_ASYNC, OUTPOST_STOP_ASYNC    1: asynchronous, unless the user_options say otherwise
    OUTPOST_CA          file with the certificate authority of an https OUTPOST_URL

With HUB_TESTS_TOKEN one hub serves every test case, since these keys of a start's user_options are obeyed:

    start_async, stop_async   true or false
    misc                      object, sent as the request's misc; the plugin's own keys win
    outpost                   {"url", "user", "password"}: this server is started by another Outpost
    system                    the name under which the Outpost pushes its flavors ("outpost")
"""

import base64
import os
import random
import socket

c = get_config()  # noqa: F821, defined by JupyterHub

env = os.environ
folder = env["HUB_DIR"]
# The plugin's HTTP client would ask a proxy of the surroundings for 127.0.0.1.
env["no_proxy"] = "127.0.0.1,localhost"
testing = bool(env.get("HUB_TESTS_TOKEN"))
internal_ssl = env.get("HUB_INTERNAL_SSL") == "1"


def options(spawner):
    """What the start asked for; only tests may steer, since people could aim the hub's requests anywhere."""
    return (spawner.user_options or {}) if testing else {}


# --- the hub and its proxy -----------------------------------------------------------------------------------------

c.JupyterHub.bind_url = f"http://127.0.0.1:{env['HUB_PORT']}"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{env['HUB_API_PORT']}"
c.ConfigurableHTTPProxy.api_url = (
    f"{'https' if internal_ssl else 'http'}://127.0.0.1:{env['HUB_PROXY_API_PORT']}"
)
# The proxy has a session of its own: without this it would survive a hub that is killed.
c.ConfigurableHTTPProxy.command = [
    "setpriv",
    "--pdeathsig=TERM",
    os.path.join(env["OUTPOST_TEST_HUB"], "node_modules/.bin/configurable-http-proxy"),
]
c.ConfigurableHTTPProxy.pid_file = os.path.join(folder, "proxy.pid")

c.JupyterHub.db_url = "sqlite:///" + os.path.join(folder, "jupyterhub.sqlite")
c.JupyterHub.cookie_secret_file = os.path.join(folder, "cookie_secret")
c.JupyterHub.internal_ssl = internal_ssl
c.JupyterHub.internal_certs_location = os.path.join(folder, "internal-ssl")
c.JupyterHub.cleanup_servers = env.get("HUB_KEEP_SERVERS") != "1"
c.JupyterHub.log_level = "DEBUG" if env.get("HUB_DEBUG") == "1" else "INFO"

# JupyterHub's DummyAuthenticator without the password that is deprecated there.
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = env["HUB_PASSWORD"]
c.Authenticator.allow_all = True

c.JupyterHub.allow_named_servers = True
# A start is answered at once with 202, so that the progress stream shows all of it.
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
# Tests start many servers at once, and some of them fail on purpose: no limits.
c.JupyterHub.concurrent_spawn_limit = 0
c.JupyterHub.active_server_limit = 0
c.Spawner.consecutive_failure_limit = 0

# --- who may call the hub ------------------------------------------------------------------------------------------

# Needed by endpoints that the plugin adds; a hub has to define such scopes itself.
outpost_scopes = {
    "custom:outpostflavors:set": "Push the flavors of an Outpost",
    "custom:servers:list": "List the running servers",
    "custom:sshnode:restart": "Have the tunnels of a node made again",
}
c.JupyterHub.custom_scopes = {
    scope: {"description": text} for scope, text in outpost_scopes.items()
}

c.JupyterHub.services = []
c.JupyterHub.load_roles = []


def add_service(name, token, scopes):
    """A service that only holds a token."""
    c.JupyterHub.services.append({"name": name, "api_token": token})
    c.JupyterHub.load_roles.append(
        {"name": name, "scopes": scopes, "services": [name]}
    )


if env.get("HUB_OUTPOST_TOKEN"):
    add_service("outpost", env["HUB_OUTPOST_TOKEN"], list(outpost_scopes))
if testing:
    add_service(
        "tests",
        env["HUB_TESTS_TOKEN"],
        ["admin:users", "admin:servers", "access:servers", "tokens", "read:hub", "shutdown"]
        + list(outpost_scopes),
    )

# --- the servers ---------------------------------------------------------------------------------------------------

c.JupyterHub.spawner_class = "outpostspawner.OutpostSpawner"


def outpost(spawner):
    """The Outpost that starts this server, as url, user and password."""
    return options(spawner).get("outpost") or {
        "url": env["OUTPOST_URL"],
        "user": env["OUTPOST_USER"],
        "password": env["OUTPOST_PASSWORD"],
    }


def request_headers(spawner, user_options):
    """The credential; the plugin adds the content type."""
    login = "{user}:{password}".format(**outpost(spawner))
    return {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}


def custom_env(spawner, user_options, api_url):
    """Where the Outpost pushes its flavors to, and with which token."""
    if not env.get("HUB_OUTPOST_TOKEN"):
        return {}
    system = options(spawner).get("system", "outpost")
    return {
        "JUPYTERHUB_FLAVORS_UPDATE_URL": f"{api_url.rstrip('/')}/outpostflavors/{system}",
        "JUPYTERHUB_FLAVORS_UPDATE_TOKEN": env["HUB_OUTPOST_TOKEN"],
    }


def update_start_response(spawner, service):
    """An asynchronous start has no address yet, and on one host the server listens on the port it was told."""
    return service or f"127.0.0.1:{spawner.port}"


def switch(name):
    """A trait that is true or false by the start's user_options, else by the environment."""
    default = env.get("OUTPOST_" + name.upper()) == "1"
    return lambda spawner: bool(options(spawner).get(name, default))


given_ports = set()


def custom_port(spawner, user_options):
    """A free port for a server, outside of the range that this machine gives to its own connections.

    An asynchronous start has to get the port that the hub expects, and seconds pass before the server listens there.
    """
    while True:
        port = random.randint(23000, 31999)
        if port in given_ports:
            continue
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                given_ports.add(port)
                # Kept, as the plugin keeps a port of its own choice: it asks again and again.
                spawner.custom_port = port
                return port


c.OutpostSpawner.custom_port = custom_port
c.OutpostSpawner.request_url = lambda spawner, user_options: outpost(spawner)["url"]
c.OutpostSpawner.request_headers = request_headers
# A start that waits for its turn is not up for a while, and many at once take their time.
c.Spawner.http_timeout = 180
# Tornado's 20 seconds are short for a synchronous start on a machine that compiles at the same time.
c.OutpostSpawner.request_kwargs = {"connect_timeout": 10, "request_timeout": 60}
if env.get("OUTPOST_CA"):
    c.OutpostSpawner.request_kwargs["ca_certs"] = env["OUTPOST_CA"]
c.OutpostSpawner.start_async = switch("start_async")
c.OutpostSpawner.stop_async = switch("stop_async")
c.OutpostSpawner.custom_env = custom_env
# A copy: the plugin adds its own keys to what it gets.
c.OutpostSpawner.custom_misc = lambda spawner, user_options: dict(
    options(spawner).get("misc") or {}
)
c.OutpostSpawner.update_start_response = update_start_response
c.OutpostSpawner.collect_logs = True
c.OutpostSpawner.collect_logs_polling = True
c.OutpostSpawner.custom_poll_interval = int(
    1000 * float(env.get("HUB_POLL_SECONDS", "2"))
)
# There is no cluster to make a Kubernetes service in.
c.OutpostSpawner.svc_create = False

if env.get("HUB_SSH_PORT"):
    from outpostspawner import OutpostSpawner

    ssh_folder = env["HUB_SSH_DIR"]

    def stay_who_we_are(uid):
        raise PermissionError(f"nobody becomes user {uid} here")

    # The plugin runs ssh as the user of the hub's container image, who may not be known here.
    class PatientSpawner(OutpostSpawner):
        """Gives ssh five times as long as the plugin does: tests share few processors with a compiler."""

        async def subprocess_cmd(self, cmd, timeout=3):
            return await super().subprocess_cmd(cmd, timeout=5 * timeout)

    os.setuid = stay_who_we_are
    c.JupyterHub.spawner_class = PatientSpawner
    c.OutpostSpawner.ssh_during_startup = True
    c.OutpostSpawner.ssh_node = "127.0.0.1"
    c.OutpostSpawner.ssh_port = env["HUB_SSH_PORT"]
    c.OutpostSpawner.ssh_key = os.path.join(ssh_folder, "key")
    c.OutpostSpawner.ssh_forward_options = {
        "ControlPath": os.path.join(ssh_folder, "control"),
        "UserKnownHostsFile": os.path.join(ssh_folder, "known_hosts"),
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
    }
    # The tunnel's end, which a Kubernetes service leads to elsewhere.
    c.OutpostSpawner.svc_create = True
    c.OutpostSpawner.ssh_custom_svc = lambda spawner, info: ("127.0.0.1", spawner.port)
    c.OutpostSpawner.ssh_custom_svc_remove = lambda spawner, info: None

if env.get("HUB_API_URL"):
    c.OutpostSpawner.public_api_url = env["HUB_API_URL"]
# An Outpost may answer with the host's name instead of an address.
c.OutpostSpawner.ssl_alt_names = ["DNS:" + socket.gethostname()]
c.Spawner.start_timeout = 120
c.Spawner.http_timeout = 120
