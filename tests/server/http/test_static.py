"""Tests static files: sources, immutable versions, the bundled widget and the allowed sites."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re

import aiohttp
import pytest

from jobs.config.settings import ConfigError
from server.config import Config
from server.http.bundle import PackError, pack, squeeze, strip
from server.http.origins import Origins
from server.http.static import LATER, LATEST, Pages, pages
from tests.system import ROOT, Server, System
from tests.web.sizes import ours

HERE = "https://shop.example"


@pytest.fixture
async def server(system: System) -> Server:
    return await system.server()


def packed(**modules: str) -> str:
    named = {name.replace("_css", ".css"): code for name, code in modules.items()}
    return pack(
        lambda name: named[name.removesuffix(".js").removeprefix("vendor/")], "entry.js", '"home"'
    )


def test_modules_are_bundled_once_and_after_their_imports() -> None:
    code = packed(
        entry='import { a } from "./a.js";\nexport { b } from "./b.js";\nrun(a, b);\n',
        a='import { b } from "./b.js";\nexport const a = b + 1;\n',
        b="export const b = 1;\n",
    )
    assert 'const home = "home";\nconst b=1;const a=b+1;run(a,b);export { b };\n' == code


def test_the_names_of_a_vendored_module_stay_private() -> None:
    code = packed(
        entry='import { Lexer } from "./vendor/m.js";\nconst w = 1;\n',
        m="/* theirs */\nclass w {}\nexport{w as Lexer,w as lex};\n//# sourceMappingURL=m.map\n",
    )
    assert "const { Lexer } = (() => {\nclass w {}\n\nreturn { Lexer: w };\n})();" in code


def test_only_whole_comment_lines_of_a_vendored_module_are_removed() -> None:
    lines = '/**\n * gone **\n */\nlet a = "/* b */"; // kept\n  // gone\n\n  call(a); /* kept */\n'
    entry = 'import { a } from "./vendor/m.js";\nuse(a);\n'
    code = packed(entry=entry, m=f"{lines}export {{ a }};\n")
    assert '{\nlet a = "/* b */"; // kept\ncall(a); /* kept */\n\nreturn' in code
    minified = f"/* kept */{'a();' * 200}\n// kept\n"
    assert minified in packed(entry=entry, m=f"{minified}export {{ a }};\n")


def test_a_stylesheet_becomes_a_constructed_stylesheet() -> None:
    code = packed(
        entry='import sheet from "./a.css" with { type: "css" };\nuse(sheet);\n',
        a_css="a {\n  color: red; /* why */\n}\n",
    )
    assert 'sheet.replaceSync("a{color:red}");' in code


@pytest.mark.parametrize(
    "wrong",
    [
        "export default 1;",
        'import * as all from "./a.js";',
        'import { a as b } from "./a.js";\nexport { a };',
        'import { a } from "./a.js";\nconst a = 2;',
        "const a = `${b ? `: ${b}` : ``}`;",
        "const a = `b\nc`;",
    ],
)
def test_unsupported_module_syntax_is_refused(wrong: str) -> None:
    with pytest.raises(PackError):
        packed(entry=wrong, a="export const a = 1;\n")


@pytest.mark.parametrize(
    ("written", "packed"),
    [
        ('const a = "// not a  comment";', 'const a="// not a  comment";'),
        ("const a = '/* nor  this */';", "const a='/* nor  this */';"),
        (
            "const a = `https://${host}/ // ${ path }`;",
            "const a=`https://${host}/ // ${ path }`;",
        ),
        ("const a = /[/ ]\\/ = \\/x/u;", "const a=/[/ ]\\/ = \\/x/u;"),
        ("const a = b / c / d;", "const a=b / c / d;"),
        ("const a = b + +c - -d;", "const a=b + +c - -d;"),
        ("const a = b + c - (d * e) % f[0] - 1;", "const a=b+c-(d*e)%f[0]-1;"),
        ("a += b / /c /.exec(d).length;", "a+=b / /c /.exec(d).length;"),
        (
            'if (/^https?:\\/\\//.test(a)) b("\\"//  ");',
            'if(/^https?:\\/\\//.test(a))b("\\"//  ");',
        ),
        ("return [a, b].map((c) => ({ c }))", "return[a,b].map((c)=>({c}))"),
    ],
)
def test_minifying_removes_only_comments_and_insignificant_whitespace(
    written: str, packed: str
) -> None:
    assert f"{packed}\n" == strip(f"  {written} // gone\n/** gone\n * too */\n")


def test_private_names_are_shortened_and_strings_are_not() -> None:
    code = packed(
        entry="class A {\n  #first = 1;\n  get #other() { return this.#first; }\n"
        '  run() { return `${this.#other}#first` + "#other"; }\n}\n'
    )
    assert "#a=1;get #b(){return this.#a;}" in code
    assert 'return `${this.#b}#first` + "#other";' in code


def test_constants_and_classes_are_shortened_and_numbers_are_inlined() -> None:
    code = packed(
        entry='import { LONG, LIMIT } from "./a.js";\nexport class Entry {}\n'
        'const x = [...LONG, a.LONG, `LONG ${LIMIT}${LONG}`, "LIMIT"];\n',
        a="export const LIMIT = 10_000;\nexport const LONG = [LIMIT];\n",
    )
    assert "const $a=[10000];" in code
    assert 'const x=[...$a,a.LONG,`LONG ${10000}${$a}`,"LIMIT"];' in code
    assert code.endswith("export { Entry };\n")


def test_a_minified_stylesheet_is_equivalent() -> None:
    css = "@media (max-width: 3rem) {\n  a > b, c :hover { margin: calc(1px + 2px) -0.5em; }\n}\n"
    assert "@media (max-width:3rem){a>b,c :hover{margin:calc(1px + 2px) -.5em}}" == squeeze(css)
    css = '[a="word"] { b: "c" } [d="two words"] { }'
    assert '[a=word]{b:"c"}[d="two words"]{}' == squeeze(css)


def test_the_documented_sizes_are_current() -> None:
    """Allows a difference of one percent, because the version in a file changes a few bytes."""
    document = (ROOT / "docs" / "widget.md").read_text()
    told = re.findall(r"^\| Holdline: (.+) \| ([\d,]+) \|$", document, re.MULTILINE)
    sizes = ours()
    assert [name for name, _ in told] == list(sizes)
    assert [int(size.replace(",", "")) for _, size in told] == pytest.approx(
        list(sizes.values()), rel=0.01
    ), "python tests/web/sizes.py --ours prints the rows of docs/widget.md"


def test_the_version_changes_with_every_byte(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("web")
    (folder / "a.js").write_text("1")
    first = Pages(folder).version
    assert first == Pages(folder).version
    (folder / "a.js").write_text("2")
    assert first != Pages(folder).version


def test_pages_reference_versioned_names() -> None:
    page = pages().page("index.html").content.decode()
    assert set() == set(re.findall(rf'="/web/(?!{pages().version}/)[^"]*', page))


def test_each_bundle_carries_the_integrity_values_of_the_files_that_it_loads_later() -> None:
    for loader, names in (("widget.js", LATER), ("turns.js", LATEST)):
        for name in names:
            digest = hashlib.sha256(pages().packed[name].content).digest()
            value = base64.b64encode(digest).decode()
            assert f'"{name}":"sha256-{value}"' in pages().packed[loader].content.decode()


async def test_the_bundled_widget_matches_its_integrity_value(server: Server) -> None:
    async with aiohttp.ClientSession(server.url) as http:
        for path, cache in (
            ("/widget.js", "no-cache"),
            (f"/web/{pages().version}/widget.js", "public, max-age=31536000, immutable"),
        ):
            async with http.get(path) as response:
                digest = hashlib.sha384(await response.read()).digest()
                assert pages().integrity == f"sha384-{base64.b64encode(digest).decode()}"
                assert cache == response.headers["Cache-Control"]
                assert "*" == response.headers["Access-Control-Allow-Origin"]
                assert "gzip" == response.headers["Content-Encoding"]
                etag = response.headers["ETag"]
            async with http.get(path, headers={"If-None-Match": etag}) as response:
                assert 304 == response.status
        async with http.get("/web/0123456789abcdef/widget.js") as response:
            assert 404 == response.status
        async with http.get("/web/../server/app.py") as response:
            assert 404 == response.status


async def test_source_files_are_served_unchanged(server: Server) -> None:
    source = Pages()._sources["client.js"]
    async with aiohttp.ClientSession(server.url, auto_decompress=False) as http:
        async with http.get("/web/client.js", headers={"Accept-Encoding": "identity"}) as response:
            assert source == await response.read()
            assert "text/javascript; charset=utf-8" == response.headers["Content-Type"]
        async with http.get("/web/client.js", headers={"Accept-Encoding": "gzip"}) as response:
            assert source == gzip.decompress(await response.read())


# Sites that may load the files


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("https://holdline.example", True),
        ("http://HOLDLINE.example", True),
        ("https://shop.example", True),
        ("http://shop.example", False),
        ("https://shop.example:8443", False),
        ("https://shop.example.evil.example", False),
        ("https://holdline.example.evil.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_a_site_is_allowed_by_its_exact_origin(origin: str | None, allowed: bool) -> None:
    assert allowed == Origins([HERE]).allows(origin, "holdline.example")


@pytest.mark.parametrize("wrong", ["shop.example", "https://shop.example/", "*"])
def test_an_origin_that_no_browser_sends_stops_the_start(wrong: str) -> None:
    with pytest.raises(ConfigError, match="HOLDLINE_ALLOWED_ORIGINS contains"):
        Config.from_environ({"HOLDLINE_ALLOWED_ORIGINS": f"{HERE}, {wrong}"})


async def test_a_foreign_site_is_refused_with_a_reason(server: Server) -> None:
    foreign = {"Origin": "https://evil.example"}
    async with aiohttp.ClientSession(server.url) as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect("/v1/responses", headers=foreign)
        assert 403 == refused.value.status
        async with http.post("/v1/responses", json={"input": "x"}, headers=foreign) as response:
            error = (await response.json())["error"]
            assert (403, "origin_not_allowed") == (response.status, error["code"])
            assert "HOLDLINE_ALLOWED_ORIGINS=https://evil.example" in error["message"]
            assert "Access-Control-Allow-Origin" not in response.headers
        async with http.get("/origin", headers=foreign) as response:
            assert {
                "origin": "https://evil.example",
                "allowed": False,
                "setting": "HOLDLINE_ALLOWED_ORIGINS",
            } == await response.json()
            assert "*" == response.headers["Access-Control-Allow-Origin"]


async def test_the_servers_own_site_is_allowed(server: Server) -> None:
    own = {"Origin": server.url}
    async with aiohttp.ClientSession(server.url) as http:
        async with http.ws_connect("/v1/responses", headers=own) as socket:
            assert not socket.closed
        async with http.get("/v1/models", headers=own) as response:
            assert 200 == response.status


async def test_an_allowed_site_receives_cors_headers(system: System) -> None:
    server = await system.server(HOLDLINE_ALLOWED_ORIGINS=f"https://other.example,{HERE}")
    there = {"Origin": HERE}
    async with aiohttp.ClientSession(server.url) as http:
        async with http.ws_connect("/v1/responses", headers=there) as socket:
            assert not socket.closed
        async with http.get("/v1/models", headers=there) as response:
            assert HERE == response.headers["Access-Control-Allow-Origin"]
            assert "Origin" in response.headers["Vary"]
        asked = {**there, "Access-Control-Request-Method": "POST"}
        async with http.options("/v1/responses", headers=asked) as response:
            assert 204 == response.status
            assert HERE == response.headers["Access-Control-Allow-Origin"]
            assert "Idempotency-Key" in response.headers["Access-Control-Allow-Headers"]


def test_the_size_of_the_widget_is_bounded() -> None:
    """Limits the compressed size up to the first paint, with `marked`, and with all modules."""
    pages = Pages()
    marked = pages._assets["vendor/marked/marked.esm.js"]
    first, with_marked = len(pages.widget.packed), len(pages.widget.packed) + len(marked.packed)
    whole = first + len(pages.packed["turns.js"].packed)
    print(f"first paint {first}, with marked {with_marked}, with all that draws {whole} bytes gzip")
    assert with_marked <= 30 * 1024
