"""Stages the npm package `@holdline/client`: the client, the widget and React components.

`python -m dev.npm FOLDER` fills an empty folder. `npm pack` makes the package from it. The modules
are those of `web/`, in their own files, so that bundlers can leave out what a program does not use.
Only two things differ, because bundlers cannot follow them: a stylesheet is a module, and
`place.js` names the modules that the widget loads later. TypeScript writes the types; it must have
been installed by `make check-web`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import TYPE_CHECKING, Final

from dev.notices import licence_expression, notice
from dev.staging import StagingError, main
from server.http.static import ENTRY, HIGHLIGHT, LATER, LATEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).parent.parent
TSC: Final = ROOT / "tests/web/node_modules/.bin/tsc"
TYPES: Final = ROOT / "tests/web/node_modules/@types"
NAME: Final = "@holdline/client"
PLACE: Final = "place.js"
# The modules that programs import, by the path after the name of the package.
ENTRIES: Final = {
    ".": "client.js",
    "./conversations": "conversations.js",
    "./widget": ENTRY,
    "./react": "react.js",
    "./ag-ui": "ag-ui.js",
    "./ai-sdk": "ai-sdk.js",
    "./push": "push.js",
    "./push-worker": "push-worker.js",
}
# A bundler must keep these modules although nothing that they export is used.
EFFECTS: Final = (ENTRY, "chat-widget.js", "push-worker.js")

_IMPORT: Final = re.compile(r'(?:^|\s)from "(\./[^"]+|\.\./[^"]+)"|import\("(\./[^"]+)"\)')
_SHEET: Final = re.compile(r'from "([^"]+\.css)" with \{ type: "css" \}')

PLACE_SOURCE: Final = """\
// @ts-check
/** The root URL of the server if the element has no attribute `server`: the page's own host. */
export const HOME = "/";

/** The modules that are loaded on demand. @type {{{{[name: string]: () => Promise<any>}}}} */
const MODULES = {{
{modules}
}};

/** Loads a module on demand. @param {{string}} name @returns {{Promise<any>}} */
export async function load(name) {{
  const module = MODULES[name];
  if (!module) throw new Error(`The package has no module ${{name}}.`);
  return module();
}}
"""


def stage(target: Path, root: Path = ROOT) -> None:
    """Fills `target`, an empty or missing folder, with the sources of the package and its types.

    Raises:
        StagingError: a module is missing, or TypeScript has found an error.
    """
    web = root / "web"
    later = (*LATER, *LATEST, *_highlighters(web))
    for name in _closure(web, (*ENTRIES.values(), *later)):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if name == PLACE:
            lines = [f'  {json.dumps(it)}: () => import("./{it}"),' for it in later]
            place.write_text(PLACE_SOURCE.format(modules="\n".join(lines)))
        elif name.endswith(".css"):
            Path(f"{place}.js").write_text(_sheet_module((web / name).read_text()))
        else:
            source = (web / name).read_text()
            place.write_text(_SHEET.sub(r'from "\1.js"', source))
    for types in web.glob("vendor/**/*.d.*ts"):
        shutil.copyfile(types, target / types.relative_to(web))
    for licence in web.glob("vendor/*/LICENSE"):
        shutil.copyfile(licence, target / licence.relative_to(web))
    shutil.copyfile(web / "vendor/VERSIONS", target / "vendor/VERSIONS")
    shutil.copyfile(root / "LICENSE", target / "LICENSE")
    (target / "NOTICE").write_text(notice(root))
    shutil.copyfile(root / "docs/javascript.md", target / "README.md")
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    manifest = _manifest(project["version"], licence_expression(root))
    (target / "package.json").write_text(json.dumps(manifest, indent=2) + "\n")
    _write_types(target)


def _manifest(version: str, licence: str) -> dict[str, object]:
    return {
        "name": NAME,
        "version": version,
        "description": "The client and the chat widget of Holdline: "
        "an answer survives a lost connection, a reload and a restarted server.",
        "license": licence,
        "type": "module",
        "engines": {"node": ">=22"},
        "exports": {
            path: {"types": f"./{_typed(name)}", "default": f"./{name}"}
            for path, name in ENTRIES.items()
        },
        "sideEffects": [f"./{name}" for name in EFFECTS],
        "peerDependencies": {"react": ">=18"},
        "peerDependenciesMeta": {"react": {"optional": True}},
    }


def _typed(name: str) -> str:
    return f"{name.removesuffix('.js')}.d.ts"


def _highlighters(web: Path) -> Iterator[str]:
    for path in sorted((web / "vendor/highlight").rglob("*.js")):
        name = path.relative_to(web).as_posix()
        if HIGHLIGHT.fullmatch(name):
            yield name


def _closure(web: Path, entries: Sequence[str]) -> set[str]:
    """Returns the names of the entries and of all modules and stylesheets that they import."""
    found: set[str] = set()
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            source = (web / name).read_text()
        except FileNotFoundError:
            raise StagingError(f"web/{name} is imported, but does not exist") from None
        if name.endswith(".js") and not name.startswith("vendor/"):
            waiting += [
                normpath(join(dirname(name), match[1] or match[2]))
                for match in _IMPORT.finditer(source)
            ]
    return found


def _sheet_module(css: str) -> str:
    return (
        "const sheet = new CSSStyleSheet();\n"
        f"sheet.replaceSync({json.dumps(css, ensure_ascii=False)});\n"
        "export default sheet;\n"
    )


def _write_types(target: Path) -> None:
    """Writes the types beside the modules, so that they find each other by the same names."""
    if not TSC.exists():
        raise StagingError("TypeScript is missing: install Node.js, and run `make check-web`")
    config = target / "tsconfig.json"
    config.write_text(json.dumps(_compiler(tuple(ENTRIES.values()))))
    done = subprocess.run(
        [TSC, "--project", config], capture_output=True, text=True, check=False, timeout=300
    )
    config.unlink()
    if done.returncode:
        raise StagingError(f"TypeScript has found errors:\n{done.stdout}{done.stderr}")


def _compiler(entries: Sequence[str]) -> dict[str, object]:
    """Returns the settings of TypeScript. `make check` has checked the types of the modules."""
    return {
        "compilerOptions": {
            "declaration": True,
            "emitDeclarationOnly": True,
            "allowJs": True,
            "strict": True,
            "target": "es2022",
            "module": "esnext",
            "moduleResolution": "bundler",
            "lib": ["es2023", "dom", "dom.iterable"],
            "types": [],
            "paths": {"react": [str(TYPES / "react")]},
        },
        "files": entries,
    }


if __name__ == "__main__":
    sys.exit(main("npm", __doc__, stage, None))
