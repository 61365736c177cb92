"""The metrics page as Prometheus' own client library reads it, and what is made for its readers."""

import json
import unittest
import urllib.request

import yaml
from harness import REPOSITORY, Server
from prometheus_client.parser import text_string_to_metric_families

TUNING = REPOSITORY / "tuning"


def page(server):
    with urllib.request.urlopen(f"http://{server.admin_address}/metrics") as response:
        kind = response.headers["content-type"]
        return kind, list(text_string_to_metric_families(response.read().decode()))


class Metrics(unittest.TestCase):
    """The page is in the text format, and every metric has a type and a help text."""

    def test_the_page_is_understood(self):
        with Server() as server:
            kind, families = page(server)
        self.assertTrue(kind.startswith("text/plain; version=0.0.4"), kind)
        self.assertGreater(len(families), 30)
        seen = set()
        for family in families:
            self.assertTrue(family.name.startswith("ringmesh_"), family.name)
            self.assertIn(family.type, ("counter", "gauge", "summary"), family.name)
            self.assertTrue(family.documentation.endswith("."), family.documentation)
            for sample in family.samples:
                key = (sample.name, *sorted(sample.labels.items()))
                self.assertNotIn(key, seen)
                seen.add(key)

    def test_counters_never_go_back(self):
        with Server() as server:
            before = {}
            for _ in range(3):
                _, families = page(server)
                for family in families:
                    if family.type != "counter":
                        continue
                    for sample in family.samples:
                        key = (sample.name, *sorted(sample.labels.items()))
                        self.assertGreaterEqual(sample.value, before.get(key, 0), key)
                        before[key] = sample.value
        self.assertGreater(len(before), 60)


class ForItsReaders(unittest.TestCase):
    """Dashboard and alert rules are whole; that their metrics exist is tested elsewhere."""

    def test_every_alert_says_what_is_wrong(self):
        rules = yaml.safe_load((TUNING / "prometheus-alerts.yml").read_text())
        names = set()
        for group in rules["groups"]:
            for rule in group["rules"]:
                self.assertNotIn(rule["alert"], names)
                names.add(rule["alert"])
                self.assertIn("ringmesh", rule["expr"])
                self.assertIn(rule["labels"]["severity"], ("page", "ticket"))
                self.assertTrue(rule["annotations"]["summary"].strip())
                self.assertTrue(rule["annotations"]["description"].strip())
        self.assertGreater(len(names), 10)

    def test_a_target_that_is_down_is_told_alone(self):
        """`absent` would wait until the last of them is."""
        rules = yaml.safe_load((TUNING / "prometheus-alerts.yml").read_text())
        expressions = {
            rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]
        }
        self.assertEqual(expressions["RingmeshDown"], 'up{job="ringmesh"} == 0')

    def test_every_panel_asks_for_something_and_none_overlap(self):
        dashboard = json.loads((TUNING / "grafana-dashboard.json").read_text())
        taken, identities = set(), set()
        for panel in dashboard["panels"]:
            self.assertNotIn(panel["id"], identities)
            identities.add(panel["id"])
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24, panel["title"])
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertNotIn((x, y), taken, panel["title"])
                    taken.add((x, y))
            if panel["type"] != "row":
                self.assertTrue(panel["targets"], panel["title"])
            for target in panel.get("targets", []):
                self.assertIn('instance="$instance"', target["expr"])
        self.assertGreater(len(identities), 25)


if __name__ == "__main__":
    unittest.main()
