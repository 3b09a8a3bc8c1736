"""Serves browsers the files of `web/`, with and without a version, and the bundled widget.

`/web/NAME` is a source file, which browsers revalidate on each use. `/web/VERSION/NAME` never
changes: the version is a hash of all of `web/`, and no other version is served. `/widget.js` and
`/web/VERSION/widget.js` contain the widget and all code that it needs at first. `/push-worker.js`
is for the service workers of sites. Our own pages refer to versioned names.

`python -m server.http.static` prints two ways to embed the widget: with and without an integrity
value.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import mimetypes
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from .bundle import pack

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

WEB: Final = Path(__file__).parents[2] / "web"
DOCS: Final = Path(__file__).parents[2] / "docs"
DOCUMENT: Final = "{name:[A-Za-z/-]+}"
PAGES: Final = {
    "/": "index.html",
    "/review": "review.html",
    "/console": "console.html",
    f"/docs/{DOCUMENT}": "docs.html",
}
FIRST_DOCUMENT: Final = "protocol"
# Matches an image link in the Markdown documents.
IMAGE: Final = re.compile(r"\(images/([a-z-]+\.(?:png|svg))\)")
ENTRY: Final = "define.js"
# The script that the service worker of a site imports.
PUSH_WORKER: Final = "push-worker.js"
# LATER lists the modules that the widget loads on demand, and LATEST the modules that those modules
# load. Each module is packed with its imports. A packed file contains the integrity values of the
# files that it loads.
LATER: Final = ("turns.js", "live.js", "words/ar.js", "words/de.js")
LATEST: Final = (
    "typeset.js",
    "attachments.js",
    "call.js",
    "conversation-list.js",
    "feedback-outbox.js",
)
# Matches the files of the highlighter. They are not bundled: `turns.js` loads each of them
# individually.
HIGHLIGHT: Final = re.compile(r"vendor/highlight/.*\.js")
# A constant of place.js as written in a packed file, where its value is filled in.
INTEGRITY: Final = "const INTEGRITY={};"
# The JavaScript expression for the URL of the sources. It is relative to the packed file's own URL,
# so it works under any path prefix.
HOME: Final = (
    'new URL("./web/{version}/x.js", '
    'import.meta.url.replace(/web\\/[0-9a-f]{{16}}\\/widget\\.js$/, "widget.js")).href'
)

# Parameters of zlib. GZIP (`wbits`) selects the gzip format. A lower `memLevel` gives shorter
# blocks, which compress code better.
GZIP: Final = 31
MEM_LEVEL: Final = 6
# Matches a stylesheet in a packed file. A compression block ends after each stylesheet, because the
# letter frequencies of styles and code differ.
SHEET: Final = re.compile(rb"\.replaceSync\(.*\n")

FOR_EVER: Final = "public, max-age=31536000, immutable"
ASK_AGAIN: Final = "no-cache"
TYPES: Final = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".html": "text/html",
    ".md": "text/markdown",
    ".png": "image/png",
}
WORTH_PACKING: Final = frozenset({"text/javascript", "text/css", "text/html", "text/markdown"})
# Any site may load the code, which is public. The module `origins` decides which sites may use the
# API.
ANYONE: Final = {
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


@dataclass(frozen=True)
class Asset:
    """A served file: its content and its media type."""

    content: bytes
    type: str

    @functools.cached_property
    def packed(self) -> bytes:
        """The gzipped content, at the highest level because it is compressed only once."""
        packer = zlib.compressobj(9, zlib.DEFLATED, GZIP, MEM_LEVEL)
        packed, begin = b"", 0
        for sheet in SHEET.finditer(self.content):
            packed += packer.compress(self.content[begin : sheet.end()])
            packed += packer.flush(zlib.Z_BLOCK)
            begin = sheet.end()
        return packed + packer.compress(self.content[begin:]) + packer.flush()

    @functools.cached_property
    def etag(self) -> str:
        """The file's entity tag, which is a hash of its content."""
        return hashlib.sha256(self.content).hexdigest()[:32]

    def answer(self, request: web.Request, cache: str) -> web.Response:
        """Returns the file, or status 304 if the client already has this version."""
        headers = {**ANYONE, "Cache-Control": cache, "Vary": "Accept-Encoding"}
        known = request.if_none_match
        if known is not None and any(tag.value == self.etag for tag in known):
            response = web.Response(status=304, headers=headers)
        elif self.type in WORTH_PACKING and "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            response = web.Response(body=self.packed, headers=headers)
        else:
            response = web.Response(body=self.content, headers=headers)
        if response.status == 200:
            response.content_type = self.type
            if self.type.startswith("text/"):
                response.charset = "utf-8"
        response.etag = self.etag
        return response


class Pages:
    """The files of one folder, which are read once, and their routes."""

    def __init__(self, folder: Path = WEB, docs: Path = DOCS) -> None:
        self._sources = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        digest = hashlib.sha256()
        for name, content in self._sources.items():
            digest.update(f"{name} {len(content)}\n".encode() + content)
        self.version = digest.hexdigest()[:16]
        self._docs = {
            path.relative_to(docs).with_suffix("").as_posix(): _asset(path.name, path.read_bytes())
            for path in docs.rglob("*.md")
        }
        self._images = {
            name: _asset(name, (docs / "images" / name).read_bytes())
            for document in self._docs.values()
            for name in IMAGE.findall(document.content.decode())
        }

    @functools.cached_property
    def packed(self) -> dict[str, Asset]:
        """The packed widget and the packed modules that it loads later, by file name."""
        found: dict[str, Asset] = {}
        values: dict[str, str] = {}
        for names in (LATEST, LATER):
            stage = {name: self._pack(name, "import.meta.url", values) for name in names}
            found |= stage
            if names is LATEST:
                stage |= {n: a for n, a in self._assets.items() if HIGHLIGHT.fullmatch(n)}
            values = {name: integrity(asset.content, "sha256") for name, asset in stage.items()}
        widget = self._pack(ENTRY, HOME.format(version=self.version), values)
        return {**found, "widget.js": widget}

    def _pack(self, entry: str, home: str, values: dict[str, str]) -> Asset:
        code = pack(lambda name: self._sources[name].decode(), entry, home)
        filled = f"const INTEGRITY={json.dumps(values, separators=(',', ':'))};"
        return Asset(code.replace(INTEGRITY, filled).encode(), TYPES[".js"])

    @property
    def widget(self) -> Asset:
        """The packed widget, with all code that is needed to display it."""
        return self.packed["widget.js"]

    @property
    def integrity(self) -> str:
        """The Subresource Integrity value for pages that pin this version of the widget."""
        return integrity(self.widget.content)

    @functools.cached_property
    def _assets(self) -> dict[str, Asset]:
        return {name: _asset(name, content) for name, content in self._sources.items()}

    def page(self, name: str, depth: int = 0) -> Asset:
        """Returns a page in which the references to `web/` are versioned and relative.

        `depth` is the number of folders in the page's URL. References are relative because a proxy
        may serve the pages under a path prefix that the server does not know.
        """
        filled = self._sources[name].decode().replace('="/web/', f'="/web/{self.version}/')
        filled = filled.replace('="/', f'="{"../" * depth or "./"}')
        for mark, value in (("{{version}}", self.version), ("{{integrity}}", self.integrity)):
            filled = filled.replace(mark, value)
        return Asset(filled.encode(), TYPES[".html"])

    def add_to(self, app: web.Application) -> None:
        """Adds the routes of the pages, documents and files."""
        get = functools.partial(app.router.add_get)
        for route, name in PAGES.items():
            if name in self._sources:
                get(route, self._serves(name))
        get("/docs", self._first_document)
        get(f"/docs/{DOCUMENT}.md", self._doc)
        get("/docs/images/{name}", self._image)
        get("/widget.js", self._widget)
        get(f"/{PUSH_WORKER}", self._push_worker)
        get(f"/web/{self.version}/{{name:.+}}", self._versioned)
        get("/web/{name:.+}", self._source)

    def _serves(self, name: str) -> Handler:
        # The pages are built at start-up, because packing the widget blocks the event loop for half
        # a second.
        deepest = 1 + max((document.count("/") for document in self._docs), default=0)
        pages = [self.page(name, depth) for depth in range(deepest + 1)]

        async def serve(request: web.Request) -> web.StreamResponse:
            document = request.match_info.get("name")
            if document is not None:
                _found(self._docs.get(document))
            return pages[request.path.count("/") - 1].answer(request, ASK_AGAIN)

        return serve

    async def _first_document(self, request: web.Request) -> web.StreamResponse:
        del request
        # The redirect's location is relative, so that it also works under a proxy's path prefix.
        return web.Response(status=302, headers={"Location": f"docs/{FIRST_DOCUMENT}"})

    async def _doc(self, request: web.Request) -> web.StreamResponse:
        return _found(self._docs.get(request.match_info["name"])).answer(request, ASK_AGAIN)

    async def _image(self, request: web.Request) -> web.StreamResponse:
        return _found(self._images.get(request.match_info["name"])).answer(request, ASK_AGAIN)

    async def _widget(self, request: web.Request) -> web.StreamResponse:
        return self.widget.answer(request, ASK_AGAIN)

    async def _push_worker(self, request: web.Request) -> web.StreamResponse:
        return self._assets[PUSH_WORKER].answer(request, ASK_AGAIN)

    async def _versioned(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        asset = self.packed.get(name) or self._assets.get(name)
        return _found(asset).answer(request, FOR_EVER)

    async def _source(self, request: web.Request) -> web.StreamResponse:
        return _found(self._assets.get(request.match_info["name"])).answer(request, ASK_AGAIN)


@functools.cache
def pages() -> Pages:
    """Returns the pages of this installation, which are read from disk once per process."""
    return Pages()


def integrity(content: bytes, algorithm: str = "sha384") -> str:
    """Returns the Subresource Integrity value of a file."""
    digest = hashlib.new(algorithm, content).digest()
    return f"{algorithm}-{base64.b64encode(digest).decode()}"


def _asset(name: str, content: bytes) -> Asset:
    suffix = Path(name).suffix
    return Asset(content, TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "text/plain")


def _found(asset: Asset | None) -> Asset:
    if asset is None:
        raise web.HTTPNotFound
    return asset


def main() -> None:
    """Prints how to embed the widget."""
    found = pages()
    print(f"""To load the newest version:
  <script type="module" src="https://HOST/widget.js"></script>
  <holdline-chat></holdline-chat>

To pin this version ({len(found.widget.packed)} bytes compressed):
  <script type="module" crossorigin
          src="https://HOST/web/{found.version}/widget.js"
          integrity="{found.integrity}"></script>
  <holdline-chat></holdline-chat>""")  # noqa: T201 - a terminal is its output


if __name__ == "__main__":
    main()
