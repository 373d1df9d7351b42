# SPDX-License-Identifier: Apache-2.0
"""Functions of the given files that are longer than 50 lines or take more than 5 parameters; exit 1 if there is any.

C++ is read by its indentation, as clang-format leaves it: a definition begins at its first line and ends at the first
brace that closes in the same column. Lambdas count with the function around them."""
import ast
import re
import sys

MOST_LINES, MOST_PARAMETERS = 50, 5
DEFINITION = re.compile(r"( *)(?!namespace|class|struct|enum|union|using|static_assert|template|return|if|for|while|switch|"
                        r"else|do|case|#|//)[\w~:<>,&*\[\] ]+?(operator\W+)?\(")


def parameters(signature):  # the text behind the opening parenthesis
    depth, commas, empty = 0, 0, True
    for c in re.sub(r"//.*|->|<<|>=|<=", " ", signature):
        depth += (c in "([{<") - (c in ")]}>")
        if depth < 0:
            break
        commas += c == "," and depth == 0
        empty = empty and c.isspace()
    return 0 if empty else commas + 1


def of_cpp(text):  # (name, first line from 1, lines, parameters) of each definition
    lines, i = re.sub(r"__launch_bounds__\([^)]*\) ", "", text).split("\n"), 0
    while i < len(lines):
        begin, match = i, DEFINITION.match(lines[i])
        i += 1
        if not match:
            continue
        body = begin
        while body < len(lines) - 1 and not re.search(r"[{};]$", lines[body]):
            body += 1
        if not lines[body].endswith("{"):
            continue
        close = match[1] + "}"
        i = next((n for n in range(body + 1, len(lines)) if lines[n].startswith(close)), body) + 1
        head = "\n".join(lines[begin:body + 1])[match.end():]
        yield match[0].split()[-1].rstrip("("), begin + 1, i - begin, parameters(head)


def of_python(text):
    for f in ast.walk(ast.parse(text)):
        if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)):
            every = f.args.posonlyargs + f.args.args
            count = len(every) - (bool(every) and every[0].arg in ("self", "cls"))
            yield f.name, f.lineno, f.end_lineno - f.lineno + 1, count


status = 0
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for name, line, length, count in (of_python if path.endswith(".py") else of_cpp)(text):
        if length > MOST_LINES or count > MOST_PARAMETERS:
            print(f"{path}:{line}: {name}: {length} lines, {count} parameters (at most {MOST_LINES}, {MOST_PARAMETERS})")
            status = 1
sys.exit(status)
