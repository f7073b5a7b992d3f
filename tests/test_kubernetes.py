"""examples/kubernetes: its resources agree with one another, with other examples and with the settings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.stack import EXAMPLES, ROOT
from sidecar.gateways import GATEWAYS
from sidecar.settings import Settings, parse, warnings
from tests.e2e.harness import OVERRIDES

FOLDER = EXAMPLES / "kubernetes"
ADDRESS = "sidecar.auth.svc.cluster.local:9000"
IDENTITY = list(Settings().identity_headers)
PAGES = ["/login", "/logout", "/static", "/.well-known/jwks.json"]

Resource = dict[str, Any]


def resources(file: str) -> list[Resource]:
    """Every resource of a file."""
    return list(yaml.safe_load_all((FOLDER / file).read_text()))


def the(file: str, kind: str, name: str = "sidecar") -> Resource:
    """The one of this kind and name."""
    (found,) = (each for each in resources(file) if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def container() -> Resource:
    (found,) = the("sidecar.yaml", "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def settings() -> Settings:
    text: str = the("sidecar.yaml", "ConfigMap")["data"]["sidecar.toml"]
    return parse(tomllib.loads(text))


@pytest.mark.parametrize("file", sorted(each.name for each in FOLDER.glob("*.yaml")))
def test_every_resource_says_what_it_is(file: str) -> None:
    for each in resources(file):
        assert {"apiVersion", "kind", "metadata"} <= set(each)


def test_the_settings_are_good_and_nothing_surprises() -> None:
    assert list(warnings(settings())) == []


def test_the_ports_are_those_of_the_settings() -> None:
    ports = {each["name"]: each["containerPort"] for each in container()["ports"]}
    server = settings().server
    assert (server.listen, server.admin_listen) == (f"0.0.0.0:{ports['check']}", f"0.0.0.0:{ports['admin']}")
    (served,) = the("sidecar.yaml", "Service")["spec"]["ports"]
    assert (served["port"], served["targetPort"]) == (9000, "check")


def test_the_pod_is_what_the_image_is_made_for() -> None:
    pod = the("sidecar.yaml", "Deployment")["spec"]["template"]["spec"]
    image = (ROOT / "Dockerfile").read_text()
    security = pod["securityContext"]
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}" in image
    mounts = {each["name"]: each["mountPath"] for each in container()["volumeMounts"]}
    assert f"SIDECAR_CONFIG={mounts['settings']}/sidecar.toml" in image
    assert f"VOLUME {mounts['data']}" in image
    assert pod["terminationGracePeriodSeconds"] > settings().server.drain


def test_the_probes_ask_the_admin_listener() -> None:
    probes = {name: container()[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")}
    assert probes == {
        "livenessProbe": {"path": "/healthz", "port": "admin"},
        "readinessProbe": {"path": "/readyz", "port": "admin"},
    }


def test_traefik_asks_and_hands_on_as_its_own_example_does() -> None:
    asks = the("traefik.yaml", "Middleware")["spec"]["forwardAuth"]
    removed = the("traefik.yaml", "Middleware", "no-identity")["spec"]["headers"]["customRequestHeaders"]
    own_settings = yaml.safe_load((EXAMPLES / "traefik/dynamic.yml").read_text())["http"]
    own = own_settings["middlewares"]
    assert asks["address"] == f"http://{ADDRESS}/check/traefik"
    for key in ("trustForwardHeader", "authRequestHeaders", "authResponseHeaders"):
        assert asks[key] == own["sidecar"]["forwardAuth"][key]
    assert removed == own["no-identity"]["headers"]["customRequestHeaders"]
    assert asks["addAuthCookiesToResponse"] == [settings().session.cookie]
    (route,) = the("traefik.yaml", "IngressRoute", "app")["spec"]["routes"]
    assert route["match"] == own_settings["routers"]["app"]["rule"]


def test_ingress_nginx_hands_on_every_identity_header() -> None:
    for name in ("app", "app-api"):
        annotations = the("ingress-nginx.yaml", "Ingress", name)["metadata"]["annotations"]
        by_key = {key.rpartition("/")[2]: value for key, value in annotations.items()}
        assert by_key["auth-url"] == f"http://{ADDRESS}/check/nginx"
        assert by_key["auth-response-headers"].split(",") == IDENTITY
        assert ("auth-signin" in by_key) is (name == "app")


def test_envoy_gateway_asks_and_hands_on_as_envoys_own_example_does() -> None:
    asks = the("envoy-gateway.yaml", "SecurityPolicy", "app")["spec"]["extAuth"]
    own = (EXAMPLES / "envoy/envoy.yaml").read_text()
    listed = own.partition("allowed_headers:")[2].partition("http_service:")[0]
    assert asks["failOpen"] is False
    assert set(asks["headersToExtAuth"]) == set(re.findall(r"exact: ([\w-]+)", listed))
    assert asks["http"]["headersToBackend"] == [name.lower() for name in IDENTITY]
    assert asks["http"]["path"] == "/check/envoy"
    (backend,) = asks["http"]["backendRefs"]
    assert f"{backend['name']}.{backend['namespace']}.svc.cluster.local:{backend['port']}" == ADDRESS


def test_nothing_that_a_client_made_up_passes_envoy_gateway() -> None:
    """As far as the resource lets: Gateway API allows 16 names."""
    headers = the("envoy-gateway.yaml", "ClientTrafficPolicy")["spec"]["headers"]["earlyRequestHeaders"]
    removed = headers["remove"]
    assert removed[:8] == [name.lower() for name in IDENTITY]
    assert set(removed[8:]) <= {name.lower() for name in OVERRIDES}
    assert len(removed) == 16
    assert [each["name"] for each in headers["set"]] == ["x-forwarded-host"]


def test_no_header_passes_ingress_nginx_that_says_that_something_else_was_asked() -> None:
    emptied = the("ingress-nginx.yaml", "ConfigMap", "no-override")["data"]
    assert set(emptied.values()) == {""}
    assert set(OVERRIDES) - set(emptied) == {"X-Forwarded-Port", "X-Forwarded-Scheme", "X-Real-IP"}


@pytest.mark.parametrize("file", ["traefik.yaml", "ingress-nginx.yaml", "envoy-gateway.yaml"])
def test_nothing_is_published_but_the_sign_in_pages(file: str) -> None:
    (route,) = (each for each in resources(file) if each["metadata"]["name"] == "sign-in")
    paths = re.findall(r"/[\w./-]+", str(route["spec"]).replace("/*", ""))
    assert [path.rstrip("/") for path in paths] == PAGES


def test_every_gateway_that_is_asked_by_exists() -> None:
    asked = re.findall(r"/check/(\w+)", "".join(path.read_text() for path in FOLDER.glob("*.yaml")))
    assert set(asked) == {"traefik", "nginx", "envoy"}
    assert set(asked) <= set(GATEWAYS)


def test_the_readme_names_every_file() -> None:
    named = set(re.findall(r"^\| `([\w.-]+)`", (FOLDER / "README.md").read_text(), re.MULTILINE))
    assert named == {each.name for each in Path(FOLDER).glob("*.yaml")}
