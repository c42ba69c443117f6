"""Reads a regression file as psql would: statements, what is copied in, variables, and the few commands that matter.

Commands of psql that only show something (`\\d`, `\\pset`, `\\echo`) are left out.
"""

import re

TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<line>--[^\n]*)|(?P<block>/\*)
    |(?P<escape>[eE]'(?:[^'\\]|''|\\.)*')|(?P<text>'(?:[^']|'')*')|(?P<name>"(?:[^"]|"")*")
    |(?P<dollar>\$(?:[A-Za-z_\x80-\uffff][A-Za-z_0-9\x80-\uffff]*)?\$)
    |(?P<variable>:'[A-Za-z_0-9]+'|:"[A-Za-z_0-9]+"|:[A-Za-z_][A-Za-z_0-9]*)|(?P<cast>::)
    |(?P<word>[A-Za-z_\x80-\uffff][A-Za-z_0-9$\x80-\uffff]*)|(?P<command>\\[^\n]*)|(?P<other>.)""",
    re.X | re.S,
)
COPY_IN = re.compile(r"^\s*copy\b.*\bfrom\s+(stdin|stdout)\b", re.I | re.S)

NO_DATA = re.compile(r";[ \t]*$|^--|^(copy|insert|select)\b", re.I | re.M)


class Step:
    """One thing to do: `kind` is "sql", "set", "getenv", "connect" or "gset"."""

    def __init__(self, kind, text="", line=0, pieces=(), copied=b"", prefix=""):
        self.kind, self.text, self.line = kind, text, line
        self.pieces, self.copied, self.prefix = list(pieces), copied, prefix

    def sql(self, variables):
        """The text with psql's variables put in."""
        return "".join(piece if kind == "text" else replaced(piece, variables) for kind, piece in self.pieces).strip()


def replaced(piece, variables):
    name = piece[1:].strip("'\"")
    if name not in variables:
        return piece
    value = variables[name]
    if piece[1] == "'":
        return "'" + value.replace("'", "''") + "'"
    if piece[1] == '"':
        return '"' + value.replace('"', '""') + '"'
    return value


def steps(text):
    """The steps of a file."""
    found, pieces, depth, atomic, words, at = [], [], 0, 0, [], 0
    start = 0

    def add(kind, piece):
        pieces.append((kind, piece))

    def finish(suffix_kind=None, prefix=""):
        nonlocal pieces, depth, atomic, words, at
        line = text.count("\n", 0, start) + 1
        body = "".join(piece for _, piece in pieces)
        if body.strip() and words:
            copied = b""
            if COPY_IN.match(uncommented(body)):
                at, copied = copy_data(text, at)
            found.append(Step("gset" if suffix_kind else "sql", body.strip(), line, pieces, copied, prefix))
        pieces, depth, atomic, words = [], 0, 0, []

    while at < len(text):
        match = TOKEN.match(text, at)
        kind, token = match.lastgroup, match.group()
        if not words and kind != "space":
            start = at
        at = match.end()
        if kind == "block":
            at = block_end(text, at)
            add("text", text[match.start() : at])
        elif kind == "dollar":
            end = text.find(token, at)
            at = len(text) if end < 0 else end + len(token)
            words.append("$")
            add("text", text[match.start() : at])
        elif kind == "command":
            name = re.match(r"\\(\S+)\s*(.*)", token + " ")
            word, rest = name.group(1), name.group(2).strip()
            if word == ";" or word.startswith(";"):
                at = match.start() + 2
                add("text", ";")
            elif word == "gset":
                finish("gset", rest)
            elif word.startswith("g") or word in ("crosstabview", "watch"):
                finish()
            elif word in ("set", "getenv", "c", "connect"):
                kinds = {"set": "set", "getenv": "getenv", "c": "connect", "connect": "connect"}
                found.append(Step(kinds[word], rest, text.count("\n", 0, match.start()) + 1))
            elif word == "copy":
                statement = "copy " + rest.rstrip(";")
                statement = re.sub(r"\bpstdin\b", "stdin", statement)
                copied = b""
                if COPY_IN.match(statement):
                    at, copied = copy_data(text, at)
                    found.append(Step("sql", statement, text.count("\n", 0, match.start()) + 1, [("text", statement)], copied))
            elif word == "r":
                pieces, depth, words = [], 0, []
        elif kind == "variable":
            words.append(token)
            add("variable", token)
        elif token == ";" and depth == 0 and atomic == 0:
            finish()
        else:
            if kind not in ("space", "line"):
                words.append(token.lower() if kind == "word" else "")
            if token in "([":
                depth += 1
            elif token in ")]":
                depth = max(depth - 1, 0)
            elif kind == "word" and words[0] == "create" and {"function", "procedure"} & set(words[:4]):
                if token.lower() == "begin" or (token.lower() == "case" and atomic):
                    atomic += 1
                elif token.lower() == "end" and atomic:
                    atomic -= 1
            add("text", token)
    finish()
    return found


def uncommented(text):
    """The text from its first word on."""
    return re.sub(r"^(\s|--[^\n]*\n|/\*.*?\*/)+", "", text, flags=re.S)


def block_end(text, at):
    depth = 1
    while depth and at < len(text):
        match = re.compile(r"/\*|\*/").search(text, at)
        if not match:
            return len(text)
        depth += 1 if match.group() == "/*" else -1
        at = match.end()
    return at


def copy_data(text, at):
    """The lines behind a COPY FROM STDIN, up to `\\.`; none where statements follow: one that fails has no data."""
    behind = text.find("\n", at) + 1
    if NO_DATA.search(text, behind, max(text.find("\n\\.", behind - 1), behind)):
        return at, b""
    at = behind
    lines = []
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line, at = text[at:end], end + 1
        if line == "\\.":
            break
        lines.append(line + "\n")
    return at, "".join(lines).encode()
