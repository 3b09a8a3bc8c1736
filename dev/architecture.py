"""Draws the two pictures of docs/architecture.md: `python -m dev.architecture`."""

import ast
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = (
    *("admin", "bench", "command", "dev", "holdline_client"),
    *("jobs", "runtime", "server", "torture", "worker"),
)

INK, GREY, LINE = "#111827", "#4b5563", "#6b7280"
WHITE, BLUE, GREEN, VIOLET, AMBER, ROSE, PALE = (
    *("#ffffff", "#dbeafe", "#dcfce7", "#ede9fe"),
    *("#fef3c7", "#ffe4e6", "#f9fafb"),
)
LINE_HEIGHT = 15

ROOMS = {
    "server": "app, responses, metrics",
    "server/websocket": "sockets, sessions, acks",
    "server/http": "HTTP API, event streams, pages",
    "server/http/frontends": "AI SDK, AG-UI",
    "server/http/documents": "OpenAPI, AsyncAPI",
    "server/live": "relay, feeds, followers",
    "server/console": "the state of the service",
    "server/access": "API keys, tokens, owners",
    "server/api": "requests, events, errors",
    "server/api/schema": "shapes of all messages",
    "worker": "claims, attempts, flusher, leases",
    "worker/upstream": "models, streams, failures",
    "worker/upstream/chat": "Chat Completions endpoints",
    "worker/upstream/responses": "Responses endpoints",
    "worker/webhooks": "signs and sends webhooks",
    "worker/push": "encrypts and sends pushes",
    "jobs": "queue, records, turns",
    "jobs/config": "settings, the models file",
    "jobs/log": "append, read, compact",
    "jobs/redis": "connections, subscriber",
    "jobs/scripts": "a Lua script per transition",
}
# The coordinates in ROUTES, BOXES and GRIDS assume that each package has its minimum height. If the
# folders of a package need more, `rooms` makes its box higher and moves everything below down.
# The points of the arrow for each pair of packages in which the first imports the second.
ROUTES = {
    ("command", "admin"): [(335, 76), (335, 100)],
    ("command", "jobs"): [(620, 44), (628, 44), (628, 664), (620, 664)],
    ("command", "worker"): [(90, 76), (90, 168)],
    ("command", "server"): [(580, 76), (580, 168)],
    ("command", "runtime"): [(50, 54), (7, 54), (7, 816), (50, 816)],
    ("admin", "jobs"): [(320, 144), (320, 594)],
    ("admin", "server"): [(470, 144), (470, 168)],
    ("admin", "worker"): [(180, 144), (180, 168)],
    ("admin", "runtime"): [(130, 122), (20, 122), (20, 803), (50, 803)],
    ("worker", "jobs"): [(180, 570), (180, 594)],
    ("worker", "runtime"): [(50, 358), (33, 358), (33, 790), (50, 790)],
    ("server", "jobs"): [(470, 570), (470, 594)],
    ("server", "runtime"): [(620, 508), (637, 508), (637, 790), (620, 790)],
    ("jobs", "runtime"): [(335, 756), (335, 780)],
    ("dev", "server"): [(660, 298), (620, 298)],
    ("command", "holdline_client"): [(620, 50), (660, 50)],
    ("dev", "command"): [(660, 270), (644, 270), (644, 68), (620, 68)],
    ("bench", "command"): [(660, 670), (652, 670), (652, 60), (620, 60)],
    ("bench", "jobs"): [(660, 648), (620, 648)],
    ("bench", "worker"): [(660, 613), (648, 613), (648, 582), (250, 582), (250, 570)],
    ("bench", "runtime"): [(725, 690), (725, 806), (620, 806)],
}
BOXES = {
    "command": (50, 32, 570, 44, AMBER),
    "admin": (130, 100, 410, 44, AMBER),
    "worker": (50, 168, 260, 402, GREEN),
    "server": (330, 168, 290, 402, BLUE),
    "jobs": (50, 594, 570, 162, VIOLET),
    "runtime": (50, 780, 570, 46, AMBER),
    "holdline_client": (660, 16, 130, 100, WHITE),
    "dev": (660, 248, 130, 84, WHITE),
    "torture": (660, 420, 130, 96, WHITE),
    "bench": (660, 594, 130, 96, WHITE),
}
# The grid in which a package's folders are drawn: left, top, width of a column, number of columns.
GRIDS = {"worker": (60, 202, 240, 1), "server": (340, 202, 270, 1), "jobs": (60, 626, 176, 3)}
ABOUT = {
    "command": "the command holdline, which starts and manages every part",
    "admin": "keys, tenants, users' data, audit log, doctor",
    "worker": "calls the models",
    "server": "serves the clients",
    "jobs": "everything in Redis, shared by servers and workers",
    "runtime": "event loops, logging, supervision; knows nothing of jobs",
    "holdline_client": "the Python client; imports no other package",
    "dev": "make run, the wheel, the pictures",
    "torture": "tests any server under faults; imports no other package",
    "bench": "benchmarks; measures running processes",
}

STEPS = [
    ("client", "sends the prompt with an idempotency key, so that a resend is harmless"),
    ("server", "submits: one script writes the record, the log and the queue entry"),
    ("server", "subscribes to the log, and sends its first events to the client"),
    ("worker", "claims the job under a lease; only this claim may append to the log"),
    ("worker", "calls the model, and appends the output; Redis notifies the servers"),
    ("server", "sends the entries after the cursor; if some are missing, it reads the log"),
    ("worker", "appends the last event, which is sent like the others; compacts the log"),
]
# For each kind of fault, and for each step at which the fault may happen: the consequence, and the
# step at which the path continues.
LANES = {
    "A socket dies": {
        1: ("Before the first event, the client sends the prompt again with the same key.", 2),
        2: ("The server finds the response of that key, and creates no second job.", 3),
        5: ("The worker continues. It does not know which clients follow.", 5),
        6: ("The client reconnects to any server, and sends its last sequence number.", 6),
    },
    "A worker dies": {
        4: ("Before the claim, the job stays in the queue for another worker.", 4),
        5: (
            "The lease expires, and a rescue queues the job again, up to the third failure.",
            4,
        ),
        6: ("Clients get the event holdline:restarted. The old claim cannot append.", 6),
        7: ("After the last event, the response is complete. Its log is not compacted.", 7),
    },
    "Redis dies": {
        2: ("New prompts get 503. The client sends the prompt again, with the same key.", 1),
        5: ("The call continues. The worker buffers output, and retries for two minutes.", 5),
        6: (
            "Sockets stay open. Later, the server reads the log from each cursor.",
            6,
        ),
        7: (
            "If Redis lost the end of a log, its worker writes it again, with the same numbers.",
            5,
        ),
    },
}
ACTORS = {"client": WHITE, "server": BLUE, "worker": GREEN}
ROW, TOP = 98, 50


def imports(root: Path = ROOT) -> dict[str, set[str]]:
    """Returns each folder that contains modules, with the set of folders that it imports from."""
    found: dict[str, set[str]] = {}
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        folder = path.parent.relative_to(root)
        targets = found.setdefault(folder.as_posix(), set())
        for module in _modules(ast.parse(path.read_bytes()), folder.parts):
            if module[0] in PACKAGES:
                # An import may end with the names of a module and of an object in the module.
                while not root.joinpath(*module).is_dir():
                    module = module[:-1]  # noqa: PLW2901 - The loop shortens its own name.
                targets.add("/".join(module))
        targets.discard(folder.as_posix())
    return found


def _modules(tree: ast.AST, folder: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (tuple(alias.name.split(".")) for alias in node.names)
            case ast.ImportFrom():
                base = folder[: len(folder) - node.level + 1] if node.level else ()
                base += tuple((node.module or "").split(".")) if node.module else ()
                yield from ((*base, alias.name) for alias in node.names)
            case _:
                pass


def arrows(found: Mapping[str, set[str]]) -> set[tuple[str, str]]:
    """Returns the pairs of different packages in which the first imports the second."""
    pairs = {
        (folder.split("/")[0], other.split("/")[0]) for folder in found for other in found[folder]
    }
    return {(one, other) for one, other in pairs if one != other}


def rooms(found: Mapping[str, set[str]]) -> str:
    """Returns an SVG of the packages, their folders and all imports between them.

    Raises:
        KeyError: a folder or an import between two packages has no place in the picture.
    """
    # Maps the bottom of a box to the additional height that its folders need.
    growth: dict[int, int] = {}

    def down(y: int) -> int:
        return y + sum(more for bottom, more in growth.items() if y >= bottom)

    folders = []
    for package, (_, y, *_) in GRIDS.items():
        end, drawn = _grid(package, down(y), found)
        bottom = BOXES[package][1] + BOXES[package][3]
        growth[bottom] = growth.get(bottom, 0) + max(0, end - down(bottom))
        folders += drawn
    boxes = []
    for name, (x, y, width, height, colour) in BOXES.items():
        top = down(y)
        boxes.append(box(x, top, width, down(y + height) - top, colour))
        boxes.append(text(x + 10, top + 20, [name], bold=True, size=14))
        if width < 200:
            boxes.append(text(x + 10, top + 38, textwrap.wrap(ABOUT[name], 17)))
        else:
            boxes.append(text(x + 22 + 10 * len(name), top + 20, [ABOUT[name]]))
    legend = text(
        50, down(846), ["An arrow points to the imported package or folder."], colour=GREY
    )
    lines = [_arrow([(x, down(y)) for x, y in ROUTES[one]]) for one in sorted(arrows(found))]
    title = "The packages, their folders and the imports between them"
    return picture(down(860), title, [*boxes, *folders, legend, *lines])


def _grid(package: str, top: int, found: Mapping[str, set[str]]) -> tuple[int, list[str]]:
    """Returns the bottom of a package's folders, including a margin, and their SVGs."""
    x, _, width, columns = GRIDS[package]
    folders = [name for name in found if name.split("/")[0] == package]
    ends, drawn = [top] * columns, []
    for nth, folder in enumerate(sorted(folders, key=list(ROOMS).index)):
        column = nth % columns
        spot = (x + (width + 10) * column, ends[column], width)
        height, room = _room(folder, spot, found[folder])
        ends[column] += height + 6
        drawn.append(room)
    return max(ends) + 4, drawn


def _room(folder: str, spot: tuple[int, int, int], targets: set[str]) -> tuple[int, str]:
    """Returns the height and the SVG of one folder, with the folders that it imports from."""
    x, y, width = spot
    package, _, _ = folder.partition("/")
    inside = sorted(other for other in targets if other.split("/")[0] == package)
    uses = textwrap.wrap(f"\u2192 {', '.join(map(_name, inside))}", 34 if width < 250 else 42)
    about = [ROOMS[folder]] if width < 250 else []
    lines = text(x + 8, y + 31, about)
    if not about:
        lines = text(x + 8 + 8 * len(_name(folder)) + 8, y + 16, [ROOMS[folder]])
    if inside:
        lines += text(x + 8, y + 31 + LINE_HEIGHT * len(about), uses, colour=GREY)
    height = 24 + LINE_HEIGHT * (len(about) + len(uses) * bool(inside))
    return height, box(x, y, width, height, WHITE) + text(
        x + 8, y + 16, [_name(folder)], bold=True
    ) + lines


def _name(folder: str) -> str:
    return folder.partition("/")[2] or f"{folder}/*.py"


def path() -> str:
    """Returns an SVG of the path of one prompt, with a column for each kind of fault."""
    drawn = [text(10, 30, ["The path of one prompt"], bold=True, size=15)]
    for nth, (actor, words) in enumerate(STEPS, 1):
        y = TOP + ROW * (nth - 1)
        drawn.append(box(10, y, 220, ROW - 18, ACTORS[actor]))
        drawn.append(text(20, y + 20, [f"{nth}  {actor}"], bold=True))
        drawn.append(text(20, y + 37, textwrap.wrap(words, 30)))
        if nth < len(STEPS):
            drawn.append(_arrow([(120, y + ROW - 18), (120, y + ROW)]))
    for nth, (title, cells) in enumerate(LANES.items()):
        x = 248 + 185 * nth
        drawn.append(box(x - 4, 8, 181, TOP + ROW * len(STEPS) - 18, PALE))
        drawn.append(text(x + 8, 30, [title], bold=True, size=15))
        for step, (words, back) in cells.items():
            y = TOP + ROW * (step - 1)
            drawn.append(box(x, y, 173, ROW - 14, ROSE))
            lines = textwrap.wrap(words, 25)
            drawn.append(text(x + 8, y + 16, lines))
            drawn.append(text(x + 8, y + 76, [f"\u2192 step {back}"], bold=True))
    return picture(TOP + ROW * len(STEPS), "The path of one prompt, and its failures", drawn)


def picture(height: int, title: str, drawn: Sequence[str]) -> str:
    """Returns an SVG with a white background, which is readable on light and dark pages."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 {height}" width="800"'
        f' height="{height}" role="img" font-family="Helvetica, Arial, sans-serif">'
        f"<title>{title}</title>"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8"'
        f' markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>'
        f'<rect width="800" height="{height}" rx="8" fill="{WHITE}"/>'
    )
    return "\n".join([head, *drawn, "</svg>", ""])


def box(x: int, y: int, width: int, height: int, colour: str) -> str:
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{colour}"'
        f' stroke="{LINE}"/>'
    )


def text(
    x: int,
    y: int,
    lines: Sequence[str],
    *,
    bold: bool = False,
    size: int = 12,
    colour: str = INK,
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return "".join(
        f'<text x="{x}" y="{y + LINE_HEIGHT * nth}" font-size="{size}"{weight} fill="{colour}">'
        f"{escape(line)}</text>"
        for nth, line in enumerate(lines)
    )


def _arrow(points: Sequence[tuple[int, int]]) -> str:
    line = "L".join(f"{x} {y}" for x, y in points)
    return (
        f'<path d="M{line}" fill="none" stroke="{LINE}" stroke-width="2" marker-end="url(#head)"/>'
    )


def pictures() -> dict[str, str]:
    """Returns the SVG text of each picture, by its file name in docs/images."""
    return {"architecture-rooms.svg": rooms(imports()), "architecture-path.svg": path()}


if __name__ == "__main__":
    for name, drawn in pictures().items():
        (ROOT / "docs" / "images" / name).write_text(drawn)
