"""Judges code with SandboxFusion (https://github.com/bytedance/SandboxFusion), for those who want a real sandbox.

    python3 examples/sandboxfusion_adapter.py 8000 http://127.0.0.1:8080

    [verifier.define.sandbox]
    kind = "http"
    url = "http://127.0.0.1:8000/"
    deadline_seconds = 60.0

The last fenced block of a response (without one, nothing is run and the response is wrong) runs once for each of the data's
tests, a column `tests` with a list of

    {"stdin": "2 3\\n", "stdout": "5\\n"}     the program's output must be this, white space at the ends of lines aside
    "assert add(2, 3) == 5"                 appended to the program, which must then exit with 0

A missing list is one test: the output must be the column `answer`. A column `language` names another than python.

A program that fails, or runs too long, is wrong. Whatever goes wrong with the sandbox is void, and never wrong.
"""

import json
import re
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECONDS = 10  # for one compilation, and for one run


def judge(item):
    try:
        verdict, reason = run_tests(item)
    except Exception as error:  # The sandbox's fault or ours, in any case not the model's.
        verdict, reason = "void", f"sandbox: {type(error).__name__}: {error}"
    return {"id": item["id"], "verdict": verdict, "reason": reason}


def run_tests(item):
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", item["response"], re.DOTALL | re.MULTILINE)
    if not blocks:
        return "incorrect", "no code block"
    info = item.get("info", {})
    tests = info.get("tests", [{"stdin": "", "stdout": item["answer"]}])
    if not tests:
        return "void", "the list of tests is empty"
    for number, test in enumerate(tests):
        verdict, reason = run_test(blocks[-1], info.get("language", "python"), test)
        if verdict != "correct":
            return verdict, f"test {number}: {reason}"
    return "correct", f"{len(tests)} tests"


def run_test(code, language, test):
    asserts = isinstance(test, str)
    reply = run_code(f"{code}\n{test}\n" if asserts else code, language, "" if asserts else test["stdin"])
    status, results = reply["status"], [reply.get("compile_result"), reply.get("run_result")]
    states = [result["status"] for result in results if result]
    if status not in ("Success", "Failed") or not states or "Error" in states:
        return "void", f"sandbox: {status}: {reply.get('message', '')}"
    if "TimeLimitExceeded" in states:
        return "incorrect", "too slow"
    if status == "Failed":
        failed = next(result for result in results if result and result["return_code"] != 0)
        return "incorrect", f"exit code {failed['return_code']}: {(failed.get('stderr') or '').strip()[-200:]}"
    if asserts or lines(results[1]["stdout"]) == lines(test["stdout"]):
        return "correct", ""
    return "incorrect", "wrong output"


def run_code(code, language, stdin):
    body = {"code": code, "language": language, "stdin": stdin, "compile_timeout": SECONDS, "run_timeout": SECONDS}
    body |= {"files": {}, "fetch_files": []}
    request = urllib.request.Request(SANDBOX + "/run_code", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with DIRECTLY.open(request, timeout=3 * SECONDS) as reply:
        return json.load(reply)


def lines(text):
    return [line.rstrip() for line in text.strip().splitlines()]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = json.dumps({"items": list(POOL.map(judge, request["items"]))}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_request(self, *_):
        pass


if __name__ == "__main__":
    SANDBOX = sys.argv[2].rstrip("/")
    DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # The sandbox is no affair of a proxy.
    POOL = ThreadPoolExecutor(16)  # Programs that run at once in the sandbox.
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
