"""Makes simple observations about a piece of code, such as its longest line.

Python code is parsed. In other languages, only lines, braces and a few patterns are examined. Of a
diff with numbered lines, only the added lines are examined.
"""

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

LONG_LINE = 100
LONG_FUNCTION = 30
DEEP = 4

NESTING = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
    ast.Match,
)
FENCE = re.compile(r"```([\w+#-]*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
MARKS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
NOISE = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
HEAD = re.compile(
    r"\b(?:function|func|fn)\s+(\w+)[^{};]{0,500}\{"
    r"|\b(?:const|let|var)\s+(\w+)\s*=\s*(?:async\s*)?(?:\([^{};]{0,500}\)|\w+)\s*=>\s*\{"
)
LOOKS_LIKE_CODE = re.compile(
    r"^\s*(?:def |class |import |from \w+ import|async def |@\w+|function |const |let |fn |func "
    r"|#include|package |public |if .*[:{]$|for .*[:{]$|return\b)",
    re.MULTILINE,
)


# A line of a diff as the page /review writes it: the number in the new file, a sign and the text.
DIFF_LINE = re.compile(r" *(\d+) ([ +])(.*)")
SCRIPT = frozenset({"js", "javascript", "ts", "typescript", "jsx", "tsx"})
# Faults that one line shows, in code without strings and comments: the languages, the pattern, the
# severity and the text. A fault without languages applies to all but Python, which is parsed.
PATTERNS: tuple[tuple[frozenset[str], re.Pattern[str], str, str], ...] = (
    (SCRIPT, re.compile(r"[^=!]==(?!=)"), "medium", "`==` converts its operands: use `===`"),
    (SCRIPT, re.compile(r"\.innerHTML\s*="), "high", "`innerHTML` runs markup in the text"),
    (SCRIPT, re.compile(r"\bvar\s"), "low", "`var` is visible in the whole function: use `let`"),
    (SCRIPT, re.compile(r"\bconsole\.log\("), "low", "a `console.log` is left over"),
    (frozenset(), re.compile(r"\beval\("), "high", "`eval` runs whatever text it is given"),
    (frozenset(), re.compile(r"\bcatch\b[^{]*\{\s*\}"), "medium", "the error is dropped silently"),
    (frozenset(), re.compile(r"\b(?:strcpy|gets)\("), "high", "this writes past the buffer's end"),
    (
        frozenset({"rs", "rust"}),
        re.compile(r"\.unwrap\(\)"),
        "medium",
        "`unwrap` panics on an error",
    ),
)


@dataclass(frozen=True)
class Fault:
    """A fault in a piece of code; the severity is high, medium or low."""

    line: int
    severity: str
    text: str


@dataclass(frozen=True)
class Function:
    name: str
    line: int
    length: int


@dataclass(frozen=True)
class Observations:
    """The observations about a piece of code; line numbers start at 1."""

    language: str
    lines: int
    functions: tuple[Function, ...]
    depth: int
    marks: tuple[tuple[int, str], ...]
    long_lines: tuple[int, ...]
    faults: tuple[Fault, ...]

    @property
    def longest(self) -> Function | None:
        return max(self.functions, key=lambda function: function.length, default=None)


def split(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Returns the prose of a message, and its pieces of code as tuples of language and code.

    The language may be "". Code is normally in fenced blocks. If a message has no fenced blocks,
    but at least three lines of which two look like code, its code begins at the first of these two.
    """
    blocks = [(match[1].lower(), match[2]) for match in FENCE.finditer(text)]
    if blocks:
        return FENCE.sub(" ", text), blocks
    if text.count("\n") >= 2 and len(LOOKS_LIKE_CODE.findall(text)) >= 2:
        first = LOOKS_LIKE_CODE.search(text)
        start = first.start() if first else 0
        return text[:start], [("", text[start:].strip("\n"))]
    return text, []


def observe(code: str, language: str = "") -> Observations:
    """Returns the observations about code, or about the added lines of a numbered diff."""
    code = code.rstrip("\n")
    if language == "diff":
        return _observe_diff(code)
    tree, fault = _parse(code) if language in {"", "py", "python", "python3"} else (None, None)
    lines = code.split("\n") if code else []
    functions: tuple[Function, ...]
    if tree is not None:
        language, functions, depth = "Python", tuple(_functions(tree)), _depth(tree)
        faults = tuple(sorted(_faults(tree), key=lambda one: one.line))
    elif language and fault:
        language, functions, depth, faults = "Python", (), 0, (fault,)
    else:
        plain = NOISE.sub(lambda match: "\n" * match[0].count("\n"), code)
        pairs, depth = _braces(plain)
        functions, faults = tuple(_braced(plain, pairs)), tuple(_faults_of_lines(plain, language))
    return Observations(
        language=language or "an unnamed language",
        lines=len(lines),
        functions=functions,
        depth=depth,
        marks=_marks(enumerate(lines, 1)),
        long_lines=tuple(n for n, line in enumerate(lines, 1) if len(line) > LONG_LINE),
        faults=faults,
    )


def _observe_diff(code: str) -> Observations:
    found = [match for line in code.split("\n") if (match := DIFF_LINE.match(line))]
    added = [(int(match[1]), match[3]) for match in found if match[2] == "+"]
    faults = [
        Fault(number, fault.severity, fault.text)
        for number, line in added
        for fault in _faults_of_lines(NOISE.sub("", line), "diff")
    ]
    return Observations(
        language="a diff",
        lines=len(added),
        functions=(),
        depth=0,
        marks=_marks(added),
        long_lines=tuple(number for number, line in added if len(line) > LONG_LINE),
        faults=tuple(faults),
    )


def _marks(lines: Iterable[tuple[int, str]]) -> tuple[tuple[int, str], ...]:
    return tuple((number, match[1]) for number, line in lines for match in MARKS.finditer(line))


def _faults_of_lines(plain: str, language: str) -> Iterator[Fault]:
    """Yields the faults that single lines show. `plain` is code without strings and comments."""
    for number, line in enumerate(plain.split("\n"), 1):
        for languages, pattern, severity, text in PATTERNS:
            if (not languages or language in languages) and pattern.search(line):
                yield Fault(number, severity, text)


def _parse(code: str) -> tuple[ast.Module | None, Fault | None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code), None
    except SyntaxError as error:
        return None, Fault(error.lineno or 1, "high", f"Python cannot parse it: {error.msg}")
    except (ValueError, RecursionError, MemoryError):
        return None, Fault(1, "high", "Python cannot parse it")


def _functions(tree: ast.Module) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            yield Function(node.name, node.lineno, length)


def _depth(tree: ast.Module) -> int:
    """Returns the maximum nesting depth of blocks; an `elif` is as deep as its `if`."""
    deepest = 0
    nodes: list[tuple[ast.AST, int]] = [(tree, 0)]
    while nodes:
        node, outer = nodes.pop()
        depth = outer + isinstance(node, NESTING)
        deepest = max(deepest, depth)
        nodes += [
            (child, outer if _is_elif(node, child) else depth)
            for child in ast.iter_child_nodes(node)
        ]
    return deepest


def _is_elif(node: ast.AST, child: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]


def _faults(tree: ast.Module) -> Iterator[Fault]:
    for node in ast.walk(tree):
        match node:
            case ast.ExceptHandler(type=None):
                text = "a bare `except:` also catches Ctrl-C and SystemExit"
                yield Fault(node.lineno, "medium", text)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                for default in [*node.args.defaults, *node.args.kw_defaults]:
                    if isinstance(default, ast.List | ast.Dict | ast.Set):
                        text = f"`{node.name}` shares one default value between all its calls"
                        yield Fault(default.lineno, "high", text)
            case ast.Compare(ops=[ast.Eq() | ast.NotEq()], comparators=[ast.Constant(value=None)]):
                text = "`None` is compared with `==` or `!=` instead of `is`"
                yield Fault(node.lineno, "low", text)
            case ast.Call(func=ast.Name(id="eval" | "exec" as name)):
                yield Fault(node.lineno, "high", f"`{name}` runs whatever text it is given")
            case ast.Assert(test=ast.Tuple(elts=[_, *_])):
                text = "this assert holds a tuple and can never fail"
                yield Fault(node.lineno, "medium", text)
            case _:
                pass


def _braces(plain: str) -> tuple[dict[int, int], int]:
    """Returns the position of the closing brace for each opening brace, and the nesting depth."""
    pairs, opened, deepest = {}, [], 0
    for place, character in enumerate(plain):
        if character == "{":
            opened.append(place)
            deepest = max(deepest, len(opened))
        elif character == "}" and opened:
            pairs[opened.pop()] = place
    return pairs, deepest


def _braced(plain: str, pairs: Mapping[int, int]) -> Iterator[Function]:
    """Yields the functions of a language with braces.

    `plain` is code without strings and comments.
    """
    for match in HEAD.finditer(plain):
        if (end := pairs.get(match.end() - 1)) is not None:
            line = plain.count("\n", 0, match.start()) + 1
            yield Function(match[1] or match[2], line, plain.count("\n", match.start(), end) + 1)
