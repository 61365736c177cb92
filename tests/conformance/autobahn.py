"""Autobahn's fuzzing client against ringmesh's codec, connection loop and TLS.

Starts the echo of bench (`cargo build -p ringmesh-bench --bin echo`: a debug build, which checks
the bounds of a connection with each input), runs all cases of the sections below over plain TCP
and over TLS side by side, and compares each verdict with autobahn.json beside this file. Verdicts
that are neither OK nor explained there, in "explained", fail even if they are expected. With
--write the verdicts become the expected ones.

Autobahn's suite runs on Python 2.7 only. It is looked for on the PATH and among pyenv's versions;
without one nothing is run, and the last line says so.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
EXPECTED = HERE / "autobahn.json"
REQUIREMENTS = HERE / "requirements-python2.txt"
WORK = ROOT / "target" / "ci" / "autobahn"
ECHO = ROOT / "target" / "debug" / "echo"
# The last one that makes environments of Python 2.7.
VIRTUALENV = "virtualenv==20.21.1"
# 12 and 13 are about compression, which ringmesh never agrees to.
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"]
AGENT = "ringmesh"
# Of all cases of one run; a busy machine needs a quarter of it.
TIMEOUT_SEC = 1800


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="make the verdicts the expected ones")
    parser.add_argument("--cases", nargs="+", default=CASES, help="which, as Autobahn names them")
    arguments = parser.parse_args()
    python = python2()
    if python is None:
        print("autobahn: 0 passed, 0 failed: skipped, no python2.7")
        return 0
    wstest = suite(python)
    seen = run(wstest, arguments.cases)
    if arguments.write:
        write(seen)
    return compare(seen, is_whole=arguments.cases == CASES)


def python2():
    """Python 2.7, or None."""
    candidates = [shutil.which("python2.7"), shutil.which("python2")]
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True).stdout.strip()
        candidates += sorted(Path(root).glob("versions/2.7*/bin/python2.7"))
    for candidate in filter(None, candidates):
        # A shim of pyenv is there for versions that are not switched on, and fails.
        ask = [str(candidate), "-c", "import sys; print(sys.version_info[:2] == (2, 7))"]
        asked = subprocess.run(ask, capture_output=True, text=True)
        if asked.stdout.strip() == "True":
            return str(candidate)
    return None


def suite(python):
    """The suite's program, in an environment of its own."""
    wstest = WORK / "venv" / "bin" / "wstest"
    ready = WORK / "ready"
    wanted = REQUIREMENTS.read_text()
    if ready.is_file() and ready.read_text() == wanted:
        return wstest
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    maker = WORK / "maker"
    subprocess.run([sys.executable, "-m", "venv", maker], check=True)
    subprocess.run([maker / "bin" / "pip", "install", "-q", VIRTUALENV], check=True)
    make = [maker / "bin" / "virtualenv", "-q", "-p", python, WORK / "venv"]
    subprocess.run(make, check=True)
    pip = WORK / "venv" / "bin" / "pip"
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run([pip, "install", "-q", "-r", REQUIREMENTS], check=True, env=quiet)
    ready.write_text(wanted)
    return wstest


def run(wstest, cases):
    """Runs the cases both ways at once. Returns the verdicts of each: case to (behavior, close)."""
    echo = subprocess.Popen([ECHO], stdout=subprocess.PIPE, text=True)
    clients = {}
    try:
        plain, tls = echo.stdout.readline().split()
        for way, url in [("plain", f"ws://{plain}"), ("tls", f"wss://{tls}")]:
            clients[way] = start(wstest, way, f"{url}/v1?key=pk_live_bench", cases)
        deadline = time.monotonic() + TIMEOUT_SEC
        for way, client in clients.items():
            if client.wait(timeout=deadline - time.monotonic()) != 0:
                sys.exit(f"autobahn: the client failed over {way}; see {WORK / way / 'log'}")
        if echo.poll() is not None:
            sys.exit(f"autobahn: the echo ended by itself, with {echo.returncode}")
    finally:
        for process in [*clients.values(), echo]:
            process.kill()
            process.wait()
    return {way: verdicts(way) for way in clients}


def start(wstest, way, url, cases):
    directory = WORK / way
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    spec = {
        "outdir": str(directory / "reports"),
        "servers": [{"agent": AGENT, "url": url, "options": {"version": 18}}],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (directory / "spec.json").write_text(json.dumps(spec))
    log = (directory / "log").open("w")
    command = [wstest, "-m", "fuzzingclient", "-s", directory / "spec.json"]
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, env=quiet)


def verdicts(way):
    index = json.loads((WORK / way / "reports" / "index.json").read_text())
    return {
        case: [seen["behavior"], seen["behaviorClose"]] for case, seen in index[AGENT].items()
    }


def in_order(case):
    return [int(part) for part in case.split(".")]


def write(seen):
    """Keeps the explanations that there are."""
    known = json.loads(EXPECTED.read_text()) if EXPECTED.is_file() else {"explained": {}}
    cases = {case: seen["plain"][case] for case in sorted(seen["plain"], key=in_order)}
    lines = ",\n".join(f"    {json.dumps(case)}: {json.dumps(it)}" for case, it in cases.items())
    explained = json.dumps(known["explained"], indent=2, ensure_ascii=False).replace("\n", "\n  ")
    EXPECTED.write_text(f'{{\n  "explained": {explained},\n  "cases": {{\n{lines}\n  }}\n}}\n')


def compare(seen, is_whole):
    """Says where verdicts differ from the expected ones. Returns the program's exit code."""
    expected = json.loads(EXPECTED.read_text())
    passed = failed = 0
    for way, found in seen.items():
        cases = found.keys() | (expected["cases"].keys() if is_whole else set())
        for case in sorted(cases, key=in_order):
            fault = judge(case, found.get(case), expected)
            passed, failed = passed + (fault is None), failed + (fault is not None)
            if fault:
                print(f"{way} {case}: {fault}")
    whole = len(expected["cases"])
    counts = ", ".join(f"{way} {len(found)} of {whole}" for way, found in seen.items())
    print(f"autobahn: {passed} passed, {failed} failed: {counts} cases")
    return 1 if failed else 0


def judge(case, found, expected):
    """What is wrong with a verdict, or None."""
    wanted = expected["cases"].get(case)
    if found != wanted:
        return f"{found}, expected {wanted}"
    is_explained = any(case in entry["cases"] for entry in expected["explained"].values())
    if found != ["OK", "OK"] and not is_explained:
        return f"{found} is explained nowhere"
    if "FAILED" in found or "UNCLEAN" in found:
        return f"{found} is a failure"
    return None


if __name__ == "__main__":
    sys.exit(main())
