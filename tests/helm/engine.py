"""Asks the real Helm engine.

    engine.py < REQUESTS

Standard input is a JSON array of requests: objects with the name of a function below as `do`, and with its arguments.
Standard output is the array of the answers, {"ok": …} or {"error": "what Helm says"}. Values are a YAML text; if it has
several documents, they are merged as Helm merges several files of `--values`: later ones win.
"""

import json
import re
import sys

import helm_python as helm
import promql_parser


def documents(text):
    parsed = map(helm.values_from_yaml, re.split(r"^---.*$", text, flags=re.MULTILINE))
    return [document for document in parsed if document]


def merged(values):
    result = {}
    for document in documents(values):
        merge(result, document)
    return result


def merge(into, values):
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def lint(chart, values):
    report = helm.lint(chart, merged(values))
    return [f"{message['path']}: {message['error']}" for message in report["messages"] if message["severity"] >= 2]


def render(chart, values, name, namespace, kubeconfig=None):
    """The texts by file, and the objects. `lookup` finds what is in the cluster, if there is one."""
    values = merged(values)
    with helm.Chart.load(chart) as loaded:
        if kubeconfig:
            with cluster(kubeconfig, namespace) as config:
                files = config.render(loaded, values, name=name, namespace=namespace)
        else:
            files = loaded.render(values, name=name, namespace=namespace)
    manifests = [files[file] for file in sorted(files) if file.endswith(".yaml")]
    return {"files": files, "objects": [found for manifest in manifests for found in documents(manifest)]}


def install(chart, values, name, namespace, kubeconfig):
    """The objects of the release, but for those of hooks."""
    with cluster(kubeconfig, namespace) as config:
        return documents(config.install(chart, name, merged(values), namespace=namespace)["manifest"])


def upgrade(chart, values, name, namespace, kubeconfig):
    with cluster(kubeconfig, namespace) as config:
        return documents(config.upgrade(chart, name, merged(values), namespace=namespace)["manifest"])


def rollback(name, namespace, kubeconfig, revision):
    with cluster(kubeconfig, namespace) as config:
        return config.rollback(name, version=revision)


def uninstall(name, namespace, kubeconfig):
    with cluster(kubeconfig, namespace) as config:
        return config.uninstall(name)


def test(name, namespace, kubeconfig, seconds):
    with cluster(kubeconfig, namespace) as config:
        return config.test(name, timeout=seconds)


def package(chart, destination):
    return helm.package(chart, destination=destination)


def query(expression):
    """What a query of Prometheus asks for: its metrics, each with the labels that it is chosen by, and the labels that
    it is grouped by."""
    metrics, labels = [], []

    def visit(node):
        if isinstance(node, promql_parser.VectorSelector):
            metrics.append([node.name, [matcher.name for matcher in node.matchers.matchers]])
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            labels.extend(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return {"metrics": metrics, "labels": labels}


def cluster(kubeconfig, namespace):
    return helm.Config(kubeconfig_path=kubeconfig, namespace=namespace)


ACTIONS = {action.__name__: action for action in (lint, render, install, upgrade, rollback, uninstall, test, package, query)}


def answer(request):
    action = ACTIONS[request.pop("do")]
    try:
        return {"ok": action(**request)}
    except (helm.HelmError, ValueError) as error:
        return {"error": str(error)}


json.dump([answer(request) for request in json.load(sys.stdin)], sys.stdout)
