"""What the Debian package is made of. Making one takes cargo-deb: `tuning/debian/build`."""

import re
import shutil
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

from harness import REPOSITORY

DEBIAN = REPOSITORY / "tuning/debian"


class Package(unittest.TestCase):
    def setUp(self):
        manifest = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())
        self.package = manifest["package"]["metadata"]["deb"]
        self.assets = {source: target for source, target, _ in self.package["assets"]}

    def test_every_file_is_there_or_made_by_the_build(self):
        build = (DEBIAN / "build").read_text()
        for source in self.assets:
            if source == "target/release/ringmesh":
                continue
            if source.startswith("target/package/"):
                self.assertIn("made=target/package", build)
                continue
            self.assertTrue((REPOSITORY / source).exists(), source)

    def test_the_tuner_is_whole_and_its_scripts_can_be_run(self):
        modes = {source: mode for source, _, mode in self.package["assets"]}
        for name in ("apply", "revert", "show"):
            self.assertEqual(modes[f"tuning/{name}"], "755")
        for name in ("lib.sh", "settings"):
            self.assertEqual(modes[f"tuning/{name}"], "644")
        targets = {self.assets[it] for it in modes if it.startswith("tuning/lib.sh")}
        self.assertEqual(targets, {"usr/share/ringmesh/tuning/"})
        self.assertIn("/usr/share/ringmesh/tuning/revert", (DEBIAN / "prerm").read_text())

    def test_the_configuration_is_the_operators(self):
        self.assertEqual(self.package["conf-files"], ["/etc/ringmesh/ringmesh.toml"])
        self.assertEqual(self.assets["tuning/debian/ringmesh.toml"], "etc/ringmesh/ringmesh.toml")
        text = (DEBIAN / "ringmesh.toml").read_text()
        self.assertEqual(tomllib.loads(text), {})
        # What it proposes are settings that there are.
        proposed = tomllib.loads(re.sub(r"^# ?(?=\[|\w+ = )", "", text, flags=re.MULTILINE))
        example = (REPOSITORY / "src/config/example.toml").read_text()
        self.assertEqual(set(proposed), {"server", "tls"})
        for section in proposed.values():
            for key in section:
                self.assertRegex(example, rf"(?m)^(# ?)?{key} = ")

    def test_maintainer_scripts_take_what_cargo_deb_adds(self):
        for name in ("postinst", "prerm", "postrm"):
            self.assertTrue((DEBIAN / name).read_text().endswith("\n#DEBHELPER#\n"), name)

    @unittest.skipUnless(shutil.which("shellcheck"), "no shellcheck here")
    def test_shellcheck_finds_nothing(self):
        names = ("build", "test", "walk", "container.sh", "postinst", "prerm", "postrm")
        scripts = [DEBIAN / name for name in names] + [DEBIAN.parent / "tarball"]
        outcome = subprocess.run(
            ["shellcheck", "-x", *scripts], cwd=REPOSITORY, capture_output=True, text=True
        )
        self.assertEqual(outcome.stdout, "")

    def test_the_tarball_has_what_the_package_has_of_this_directory(self):
        script = (DEBIAN.parent / "tarball").read_text()
        copies = "".join(re.findall(r"(?ms)^cp (.*?[^\\]$)", script))
        copied = set(re.findall(r"(?<!/)\btuning/[\w./-]+", copies)) - {"tuning/activation"}
        packed = {source for source in self.assets if source.startswith("tuning/")}
        packed -= {"tuning/debian/ringmesh.toml"}
        self.assertEqual(copied, packed | {"tuning/ringmesh.service", "tuning/seccomp.json"})


FAILS = "#!/bin/bash\necho \"$1 cannot be had\" >&2\nexit 1\n"
# Makes the directory that it is given last but one.
DEBOOTSTRAP = '#!/bin/bash\nmkdir -p "${@: -1}"\n'


class Skips(unittest.TestCase):
    """A machine that cannot have the container says why, builds nothing, and fails nothing."""

    def run_with(self, **programs):
        """Runs the test where nothing but these programs and the plainest tools can be found."""
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            shutil.copytree(DEBIAN, root / "tuning/debian")
            tools = root / "bin"
            tools.mkdir()
            for name in "bash cat cp cut dirname grep mkdir rm sleep tail touch".split():
                (tools / name).symlink_to(shutil.which(name))
            for name, text in programs.items():
                tool = tools / name.replace("_", "-")
                tool.write_text(text)
                tool.chmod(0o755)
            outcome = subprocess.run(
                [shutil.which("bash"), root / "tuning/debian/test"],
                capture_output=True, text=True, env={"PATH": str(tools)},
            )
        self.assertEqual((outcome.returncode, outcome.stderr), (0, ""), outcome)
        reason, count = outcome.stdout.splitlines()
        self.assertEqual(count, "package: 0 passed, 0 failed, 1 skipped")
        return reason

    def test_each_reason_is_told(self):
        programs = {
            "id": "#!/bin/bash\necho 0\n",
            "cargo_deb": FAILS,
            "debootstrap": DEBOOTSTRAP,
            "systemd_nspawn": FAILS,
            "nsenter": FAILS,
        }
        for missing in ("cargo_deb", "debootstrap", "systemd_nspawn", "nsenter"):
            left = {name: text for name, text in programs.items() if name != missing}
            name = missing.replace("_", "-")
            self.assertEqual(self.run_with(**left), f"skipped: {name} is missing")
        reason = self.run_with(**{**programs, "id": "#!/bin/bash\necho 1000\n"})
        self.assertEqual(reason, "skipped: it needs root")
        reason = self.run_with(**{**programs, "debootstrap": FAILS})
        self.assertEqual(
            reason, "skipped: no Debian could be had: --variant=minbase cannot be had"
        )
        reason = self.run_with(**programs)
        self.assertRegex(
            reason, "^skipped: no container with systemd here: --directory=.* cannot be had$"
        )


if __name__ == "__main__":
    unittest.main()
