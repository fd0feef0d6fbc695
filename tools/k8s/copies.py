"""`make k8s-files`: renews the copies in k8s/: kustomize reads nothing above its own folder."""

import sys
from pathlib import Path
from typing import Final

import yaml

from tools.stack.layout import ROOT

COPIES: Final = {
    "redis/redis.conf": "components/redis/files",
    "redis/users.acl": "components/redis/files",
    "redis/start.sh": "components/redis/files",
    "deploy/kafka/log4j2.properties": "components/kafka/files",
    "deploy/kafka/healthy.sh": "components/kafka/files",
    "deploy/flink/log4j-console.properties": "components/flink-session/files",
}
"""Original, and the folder of its copy below k8s/."""

POLICY: Final = ROOT / "k8s" / "base" / "policy.yaml"
RULES: Final = ROOT / "deploy" / "prometheus" / "rules"
PROMETHEUS_RULE: Final = ROOT / "k8s" / "components" / "monitoring" / "rules.yaml"


def main() -> int:
    """Writes the copies that differ, and says which."""
    for file, content in wanted().items():
        if not file.exists() or file.read_bytes() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            print(f"renewed {file.relative_to(ROOT)}")
    return 0


def wanted() -> dict[Path, bytes]:
    """Each copy, and what it should hold."""
    copies = {
        ROOT / "k8s" / folder / Path(it).name: (ROOT / it).read_bytes()
        for it, folder in COPIES.items()
    }
    policy = (ROOT / "policies" / "default.yaml").read_bytes()
    return {**copies, POLICY: policy, PROMETHEUS_RULE: prometheus_rule().encode()}


def prometheus_rule() -> str:
    """Prometheus' own rule files as one resource of its operator."""
    groups = [
        group
        for file in sorted(RULES.glob("*.yaml"))
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    ]
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "login-blocking"},
        "spec": {"groups": groups},
    }
    made = "# Made of deploy/prometheus/rules by `make k8s-files`.\n"
    return made + yaml.safe_dump(resource, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    sys.exit(main())
