"""`python -m poster_jax.demo [RUN] [--port=N] [--no-browser]`: a page on this machine where a poster is dropped and judged.

The genres of a poster appear as bars beside their base rates, with the Grad-CAM of each. RUN is a finished run or
`released:NAME`. Only this machine can reach the page, one request is answered at a time, and nothing is kept. Exit codes: 0
ended by Ctrl-C, 2 a mistake in what was asked.
"""

import base64
import dataclasses
import http.server
import io
import json
import pathlib
import sys
import webbrowser
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from poster_jax import cli, errors, predict
from poster_jax.data import images
from poster_jax.models import grad_cam
from poster_jax.report.figures import overlay
from poster_jax.runtime import storage
from poster_jax.workdir import run_files

PAGE = pathlib.Path(__file__).with_name("demo.html")
HOST, PORT = "127.0.0.1", 8008
MAX_BYTES = 10_000_000
NUM_MAPS = 6  # genres of a picture that get a Grad-CAM, the most probable first
MAP_SIDE_PX = 240
WAIT_SECS = 20  # for the bytes of a request


@dataclasses.dataclass(frozen=True)
class Judge:
    """A network with what the page says about it; `rates` are the shares of the K genres in its test part."""

    network: predict.Predictor
    maps: Callable[..., Any]
    rates: dict[str, float]
    about: str

    def answer(self, encoded: bytes) -> list[dict[str, Any]]:
        """One entry a genre, the most probable first; raises `images.BadImage` for a picture that cannot be used."""
        network, checked = self.network, images.check(encoded)
        pixels = images.decode(checked.encoded, network.image_size)
        scores = np.asarray(network.score(network.variables, pixels[None]))[0]
        order = np.argsort(-scores, kind="stable")
        top = np.resize(order, NUM_MAPS).astype(np.int32)  # one shape, so one compiled program
        heat = np.asarray(self.maps(network.variables, np.repeat(pixels[None], NUM_MAPS, axis=0), top))
        decided = set(predict.decide(network, scores))
        return [
            {
                "genre": network.genres[k],
                "probability": float(scores[k]),
                "rate": self.rates[network.genres[k]],
                "decided": network.genres[k] in decided,
                "map": _png(overlay.blend(pixels, heat[place])) if place < NUM_MAPS else "",
            }
            for place, k in enumerate(order)
        ]


def load(run: str) -> Judge:
    """Raises UserError as `predict.load_network` does."""
    workdir = storage.as_path(run)
    network = predict.load_network(workdir)
    _, results, genres = run_files.read_run(workdir)
    test = results["splits"]["test"]
    ranked = test["metrics"]["mean_average_precision"]
    value = "mAP not defined" if ranked["value"] is None else f"mAP {ranked['value']:.3f}, floor {ranked['best_floor']:.3f}"
    rates = {genre: test["per_genre"][genre]["count"] / test["num_rows"] for genre in genres}
    about = f"{results['title']}, trained on {results['data']['name']}; {value} on {test['num_rows']:,} test rows."
    return Judge(network, grad_cam.make_grad_cam(network.model), rates, about)


def _png(pixels: np.ndarray) -> str:
    """A picture of at most MAP_SIDE_PX as an address that a page can show."""
    picture, buffer = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((MAP_SIDE_PX, MAP_SIDE_PX))
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


class _Server(http.server.HTTPServer):
    """A server of this machine alone, one request at a time."""

    def __init__(self, judge: Judge, port: int) -> None:
        super().__init__((HOST, port), _Handler)
        self.judge = judge


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = WAIT_SECS
    server: "_Server"

    def do_GET(self) -> None:
        if not self._is_ours():
            return
        known = self.path == "/"
        page = (
            PAGE.read_text(encoding="utf-8").replace("ABOUT", _escape(self.server.judge.about))
            if known
            else "There is only one page: /"
        )
        self._send(200 if known else 404, page, "text/html" if known else "text/plain")

    def do_POST(self) -> None:
        if not self._is_ours():
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/predict" or not length.isdigit() or not 0 < int(length) <= MAX_BYTES:
            self.close_connection = True  # what was sent is not read
            return self._fail(413 if length.isdigit() else 400, f"send one picture of at most {MAX_BYTES // 10**6} MB.")
        try:
            answer = self.server.judge.answer(self.rfile.read(int(length)))
        except images.BadImage as error:
            return self._fail(400, f"this cannot be read: {error.reason.replace('_', ' ')} ({error.detail}).")
        self._send(200, json.dumps({"genres": answer}), "application/json")

    def _is_ours(self) -> bool:
        """Whether the request is of our own page: another site's script could name this address, too."""
        ours = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        origin = self.headers.get("Origin", "")
        good = self.headers.get("Host", "") in ours and (not origin or origin.removeprefix("http://") in ours)
        if not good:
            self.close_connection = True
            self._fail(403, "only the page of this address may ask.")
        return good

    def _fail(self, code: int, sentence: str) -> None:
        self._send(code, json.dumps({"error": sentence}), "application/json")

    def _send(self, code: int, text: str, kind: str) -> None:
        content = text.encode()
        self.send_response(code)
        policy = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        for name, value in {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(content)),
            "Content-Security-Policy": policy + "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def make_server(judge: Judge, port: int) -> http.server.HTTPServer:
    """A server of this machine alone; port 0 takes any that is free. Raises UserError for one that is in use."""
    try:
        return _Server(judge, port)
    except (OSError, OverflowError) as error:
        raise errors.UserError(f"port {port} of {HOST} cannot be opened ({error}): give another with --port.") from error


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    return cli.run_command(_run, argv)


def _run(argv: list[str]) -> int:
    parser = cli.Parser("python -m poster_jax.demo", __doc__)
    parser.add_argument(
        "run", nargs="?", default=predict.DEFAULT_RUN, metavar="RUN", help=f"{predict.DEFAULT_RUN} if not given"
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"{PORT} if not given; 0 takes a free one")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    flags = parser.parse_args(argv)
    with make_server(load(flags.run), flags.port) as server:
        address = f"http://{HOST}:{server.server_port}/"
        print(f"{address}   (Ctrl-C ends it)", flush=True)
        if not flags.no_browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
