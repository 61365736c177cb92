"""The metrics page as Prometheus' own client library reads it, and what is made for its readers."""

import json
import re
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

    def test_every_alert_leads_to_a_section_of_the_runbook(self):
        text = (TUNING / "README.md").read_text()
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        sections = {re.sub(r"[^\w -]", "", it).lower().replace(" ", "-") for it in headings}
        rules = yaml.safe_load((TUNING / "prometheus-alerts.yml").read_text())
        named = set()
        for group in rules["groups"]:
            for rule in group["rules"]:
                file, section = rule["annotations"]["runbook"].split("#")
                self.assertEqual(file, "README.md")
                self.assertIn(section, sections, rule["alert"])
                named.add(rule["alert"])
        # And the runbook speaks of no other.
        self.assertEqual(set(re.findall(r"`(Ringmesh\w+)`", text)) - named, set())

    def test_every_incident_says_what_to_do(self):
        text = (TUNING / "README.md").read_text().split("## Incidents")[1].split("\n## ")[0]
        incidents = text.split("\n### ")[1:]
        self.assertGreaterEqual(len(incidents), 10)
        for incident in incidents:
            words = re.findall(r"^- \*\*(\w+)\*\*", incident, re.MULTILINE)
            self.assertEqual(words, ["Symptom", "Cause", "Command", "Remedy", "Seen"], incident)
            seen = incident.split("- **Seen** ")[1]
            files = re.findall(r"`((?:tests|src)/[\w/.]+)`", seen)
            self.assertTrue(files or "By hand" in seen or "abuse" in seen, incident)
            for file in files:
                self.assertTrue((REPOSITORY / file).is_file(), file)

    def test_a_target_that_is_down_is_told_alone(self):
        """`absent` would wait until the last of them is."""
        rules = yaml.safe_load((TUNING / "prometheus-alerts.yml").read_text())
        expressions = {
            rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]
        }
        self.assertEqual(expressions["RingmeshDown"], 'up{job="ringmesh"} == 0')

    def test_what_channels_keep_is_watched(self):
        """Memory against its ceiling, what gives way, who missed something, and the disk."""
        rules = yaml.safe_load((TUNING / "prometheus-alerts.yml").read_text())
        alerts = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
        dashboard = json.loads((TUNING / "grafana-dashboard.json").read_text())
        panels = [
            " ".join(target["expr"] for target in panel.get("targets", []))
            for panel in dashboard["panels"]
        ]
        for names in (
            ["bytes", "ceiling_bytes"],
            ["evicted_total"],
            ["recovered_total", "not_recovered_total"],
            ["sync_seconds_total", "syncs_total"],
            ["errors_total"],
        ):
            for place, expressions in (("alert", alerts), ("panel", panels)):
                found = [
                    it for it in expressions
                    if all(re.search(rf"ringmesh_history_{name}\b", it) for name in names)
                ]
                self.assertEqual(len(found), 1, (place, names))
        self.assertTrue(any("ringmesh_history_failing" in it for it in alerts))

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
