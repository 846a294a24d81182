"""Would the tests notice? Small changes of the library, one at a time, each against the tests that run the changed line.

    python -m pytest -n 2 --cov --cov-context=test --durations=0 -vv > runs/tests.log        # who runs which line, how long it takes
    python tests/mutants.py --coverage .coverage --durations runs/tests.log --sample 400

The changes are cosmic-ray's; places are drawn, and one of the changes that can be made there. Each is made in a copy of the
project, where the tests run in order of their time until one fails, in a fork of a process that has imported torch. What
survives meets ``ELSEWHERE`` as well. Results are kept as they come, and a stopped run goes on.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import itertools
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "seqaug"
RESULTS = ROOT / "docs" / "mutants.json"
# Not what a change of the code can break: other packages' protocols, and names that are re-exported.
OUTSIDE = ("integrations/replay.py", "__init__.py")
# Where code runs out of sight of coverage: compiled, or in other processes.
ELSEWHERE = (
    "tests/test_compile.py",
    "tests/test_fake_device.py",
    "tests/test_losses_accelerator.py",
    "tests/test_sharding.py",
    "tests/test_golden_draws.py",
)
PATIENCE = 5.0  # a mutant may take so many times as long as the tests do, and a minute


@dataclass(frozen=True)
class Mutant:
    """One change: the ``occurrence``-th place of a file that an operator of cosmic-ray can change."""

    path: Path
    operator: str
    occurrence: int
    place: tuple[int, int]  # line and column

    @property
    def name(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.operator.removeprefix('core/')}:{self.occurrence}"

    def source(self) -> str:
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        changed = mutate_code(self.path.read_text(), get_operator(self.operator)(), self.occurrence)
        if changed is None:
            raise RuntimeError(f"expected a change, got none for {self.name}")
        return changed

    def difference(self) -> str:
        """The changed lines, before and after."""
        lines = difflib.ndiff(self.path.read_text().splitlines(), self.source().splitlines())
        return "\n".join(line.rstrip() for line in lines if line[:2] in ("- ", "+ "))


def mutants() -> Iterator[Mutant]:
    """All of them, but for changes of annotations, which are never run."""
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.plugins import get_operator, operator_names

    for path in sorted(LIBRARY.rglob("*.py")):
        if path.relative_to(LIBRARY).as_posix().endswith(OUTSIDE):
            continue
        tree, silent = get_ast_from_path(path), annotations(path)
        for name in sorted(operator_names()):
            if get_operator(name).arguments():
                continue
            operator = get_operator(name)()
            places = [place for node in ast_nodes(tree) for place in operator.mutation_positions(node)]
            for occurrence, (begin, _) in enumerate(places):
                if not any(first <= begin < last for first, last in silent):
                    yield Mutant(path, name, occurrence, begin)


def draw(count: int, chance: random.Random) -> tuple[list[Mutant], int]:
    """One mutant each of so many places, and how many places there are."""
    at: dict[tuple[Path, tuple[int, int]], list[Mutant]] = {}
    for mutant in mutants():
        at.setdefault((mutant.path, mutant.place), []).append(mutant)
    order = chance.sample(sorted(at), len(at))
    chosen = (chance.choice(at[place]) for place in order)
    return list(itertools.islice(filter(compiles, chosen), count)), len(at)


def compiles(mutant: Mutant) -> bool:
    """``f(a, *, b)`` does not, once its star is another operator."""
    try:
        compile(mutant.source(), str(mutant.path), "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def annotations(path: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where the annotations of a file, its overloads and what only type checkers import begin and end."""
    found: list[ast.AST] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation is not None:
            found.append(node.annotation)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found += [node.returns] if node.returns is not None else []
            if any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list):
                found += [node, *node.decorator_list]
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            found.append(node)
    return [
        ((part.lineno, part.col_offset), (part.end_lineno or part.lineno, part.end_col_offset or 0))  # type: ignore[attr-defined]
        for part in found
    ]


def times_of(log: Path) -> dict[str, float]:
    """Seconds of each test, set-up included, as ``pytest --durations=0 -vv`` prints them."""
    seconds: dict[str, float] = {}
    for took, test in re.findall(r"^ *([\d.]+)s (?:call|setup) +(.+?) *$", log.read_text(), re.MULTILINE):
        seconds[test] = seconds.get(test, 0.0) + float(took)
    return seconds


class Runners:
    """Which tests run a line of the library, quickest first."""

    def __init__(self, coverage: Path, seconds: dict[str, float]) -> None:
        from coverage import CoverageData

        self.seconds = seconds
        data = CoverageData(str(coverage))
        data.read()
        self.lines: dict[str, dict[int, set[str]]] = {}
        for file in data.measured_files():
            place = re.sub(r".*/(seqaug/)", r"\1", file)
            self.lines[place] = {
                line: {test.split("|")[0] for test in tests if test}
                for line, tests in data.contexts_by_lineno(file).items()
            }

    def of(self, mutant: Mutant, limit: float) -> list[str]:
        """Tests of the line, or of the whole file if no test is known to run it, as many as ``limit`` seconds allow."""
        lines = self.lines.get(mutant.path.relative_to(ROOT).as_posix(), {})
        tests = lines.get(mutant.place[0]) or set().union(*lines.values())
        chosen: list[str] = []
        for test in sorted(tests, key=lambda test: (self.seconds.get(test, 0.0), test)):
            limit -= self.seconds.get(test, 0.0) + 0.005
            if limit < 0 and chosen:
                break
            chosen.append(test)
        return chosen


def outcome(mutant: Mutant, tests: list[str], seconds: float) -> str:
    """``killed``, ``timeout`` or ``survived`` (as without any tests): the mutant in place of its file of the copy, which is the working directory."""
    place = Path(mutant.path.relative_to(ROOT))
    own = place.read_text()
    place.write_text(mutant.source())
    try:
        return outcome_here(tests, seconds)
    finally:
        place.write_text(own)


def outcome_here(tests: list[str], seconds: float) -> str:
    """The same of the copy as it is."""
    if not tests:
        return "survived"
    child = os.fork()
    if child == 0:
        os.setsid()
        os._exit(run(tests))
    end = time.monotonic() + 60 + PATIENCE * seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return "survived" if status == 0 else "killed"
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def run(tests: list[str]) -> int:
    """pytest's exit code, silently; a failure is all that is asked for, not the smallest one."""
    import pytest
    from hypothesis import Phase, settings

    settings.register_profile(
        "mutants", deadline=None, max_examples=30, derandomize=True, database=None,
        phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov"]
    return int(pytest.main([*options, "--hypothesis-profile=mutants", *tests]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--coverage", type=Path, required=True, help="data of coverage with a context per test"
    )
    parser.add_argument(
        "--durations", type=Path, required=True, help="what pytest --durations=0 -vv has printed"
    )
    parser.add_argument("--sample", type=int, default=400, help="how many mutants, drawn from all of them")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of tests per mutant at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    import torch  # before the forks, so that each has it

    torch.set_num_threads(1)
    copy = Path(tempfile.mkdtemp(prefix="mutants-"))
    for part in ("seqaug", "tests", "examples", "docs", "README.md", "CHANGELOG.md", "pyproject.toml"):
        source = ROOT / part
        shutil.copytree(source, copy / part) if source.is_dir() else shutil.copy(source, copy)
    os.chdir(copy)
    sys.dont_write_bytecode = True  # no stale bytecode of another mutant
    sys.path[:0] = [str(copy), str(copy / "examples"), str(copy / "tests")]
    os.environ |= {"PYTHONPATH": os.pathsep.join(sys.path[:3]), "PYTHONDONTWRITEBYTECODE": "1"}
    chance = random.Random(args.seed)
    drawn, places = draw(args.sample, chance)
    runners = Runners(args.coverage, times_of(args.durations))
    known = sorted(
        runners.seconds.keys() & {test for mutant in drawn for test in runners.of(mutant, args.limit)}
    )
    check = chance.sample(known, min(300, len(known)))
    if outcome_here(check, sum(runners.seconds[test] for test in check)) != "survived":
        raise SystemExit(
            "expected tests to pass without a mutant, but one of these fails: " + " ".join(check)
        )
    kept = json.loads(args.out.read_text()) if args.out.exists() else {"mutants": {}}
    found: dict[str, dict[str, object]] = kept["mutants"]
    for number, mutant in enumerate(drawn):
        if mutant.name in found:
            continue
        tests = runners.of(mutant, args.limit)
        begin = time.monotonic()
        result = outcome(mutant, tests, sum(runners.seconds.get(test, 0.0) for test in tests))
        if result == "survived":
            result = outcome(mutant, list(ELSEWHERE), args.limit)
        found[mutant.name] = {"line": mutant.place[0], "outcome": result, "tests": len(tests)}
        if result == "survived":
            found[mutant.name]["change"] = mutant.difference()
        print(
            f"{number + 1:4}/{len(drawn)} {result:9} {time.monotonic() - begin:6.1f} s {len(tests):4} tests {mutant.name}",
            flush=True,
        )
        part = args.out.with_suffix(".part")
        part.write_text(json.dumps({"places": places, "seed": args.seed, "mutants": found}, indent=1) + "\n")
        part.replace(args.out)
    outcomes = [str(entry["outcome"]) for entry in found.values()]
    killed = sum(outcome in ("killed", "timeout") for outcome in outcomes)
    print(f"{killed} of {len(outcomes)} killed ({killed / len(outcomes):.1%}), drawn from {places} places")


if __name__ == "__main__":
    main()
