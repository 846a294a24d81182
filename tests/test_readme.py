"""The pages tell the truth: their code runs, their commands exist, their tables are those of the committed results."""

from __future__ import annotations

import importlib.util
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """(first line, text) of every block of one language."""
    text = page.read_text(encoding="utf-8")
    return [(text[: m.start(2)].count("\n"), m[2]) for m in FENCE.finditer(text) if m[1] == language]


def run_page(page: Path, seed: int = 0) -> dict[str, Any]:
    """Run the Python of a page from top to bottom in one namespace; line numbers are those of the page."""
    torch.manual_seed(seed)
    namespace: dict[str, Any] = {"__name__": page.stem}
    for line, code in blocks(page, "python"):
        exec(compile("\n" * line + code, str(page), "exec"), namespace)
    return namespace


def ids(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=ids)
def test_code_of_the_page_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What torchrun tells a process that is alone.
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": 0, "WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))
    run_page(page)


def examples_of(page: Path) -> list[Any]:
    import doctest

    parser = doctest.DocTestParser()
    return [parser.get_doctest(code, {}, ids(page), str(page), line) for line, code in blocks(page, "pycon")]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "pycon")], ids=ids)
def test_printed_values_of_the_page_are_right(page: Path) -> None:
    import doctest

    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    namespace: dict[str, Any] = {}
    for examples in examples_of(page):
        examples.globs = namespace
        runner.run(examples, clear_globs=False)
    assert runner.tries > 0
    assert runner.failures == 0


class Encoder(nn.Module):
    """The least that the README's snippet asks of a model."""

    def __init__(self, num_items: int, features: int = 8) -> None:
        super().__init__()
        self.item_embedding = nn.Embedding(num_items + 2, features, padding_idx=0)
        self.layers = nn.GRU(features, features, batch_first=True)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.layers(vectors)[0]


def test_training_step_of_the_readme_learns() -> None:
    namespace = run_page(ROOT / "README.md")
    num_items = namespace["V"]
    row = torch.arange(1, 41).unfold(0, 9, 1)  # (rows, 9): every item is followed by the next one
    items, target = row[:, :-1], row[:, 1:]
    model = Encoder(num_items)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        loss = namespace["training_step"](model, items, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    # From ln(V) for each of the two terms down to well below it.
    assert losses[0] == pytest.approx(2 * torch.log(torch.tensor(float(num_items))).item(), rel=0.15)
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("name", ["main", "tests"])
def test_readme_has_the_two_commands(name: str) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"^<!-- command: {name} -->\n```bash\n(.+)\n```$", text, re.MULTILINE)
    assert len(found) == 1
    steps = [shlex.split(step) for step in found[0].split("&&")]
    assert steps[0] == ["python3", "-m", "venv", ".venv"]
    assert all(step[0].startswith(".venv/bin/") for step in steps[1:])


def commands() -> list[str]:
    """Every command of the pages that starts one of the project's own scripts."""
    found = set()
    for page in PAGES:
        for _, code in blocks(page, "bash"):
            for line in code.replace("\\\n", " ").splitlines():
                for step in line.split("#")[0].split("&&"):
                    if re.search(r"python3? (examples|benchmarks|docs)/", step):
                        found.add(" ".join(step.split()))
    return sorted(found)


@pytest.mark.parametrize("command", commands())
def test_commands_of_the_pages_exist(command: str) -> None:
    words = shlex.split(command)
    script = next(word for word in words if word.endswith(".py"))
    assert (ROOT / script).is_file()
    options = {word.split("=")[0] for word in words if word.startswith("--")}
    if options:
        known = subprocess.run(
            [sys.executable, script, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        assert not {option for option in options if not re.search(rf"{option}\b", known)}


def test_results_on_the_pages_are_those_committed() -> None:
    results = load(ROOT / "docs" / "results_table.py")
    for page, table in results.pages().items():
        text = page.read_text(encoding="utf-8")
        assert text == results.replaced(text, "results", table), "run: python docs/results_table.py --write"


def test_tables_of_benchmarks_are_those_of_the_measurements() -> None:
    benchmarks = load(ROOT / "docs" / "benchmarks_table.py")
    text = benchmarks.PAGE.read_text(encoding="utf-8")
    for section, make in benchmarks.SECTIONS.items():
        assert text == benchmarks.replaced(text, section, make()), (
            "run: python docs/benchmarks_table.py --write"
        )


@pytest.mark.parametrize("name", ["scaling", "reliability"])
def test_tables_of_a_page_are_those_of_the_measurements(name: str) -> None:
    tables = load(ROOT / "docs" / f"{name}_table.py")
    text = tables.PAGE.read_text(encoding="utf-8")
    for section, made in tables.sections().items():
        assert text == tables.replaced(text, section, made), f"run: python docs/{name}_table.py --write"


def test_the_tables_of_losses_are_made_from_json() -> None:
    tables = load(ROOT / "docs" / "losses_table.py")
    for page, parts in tables.pages().items():
        text = page.read_text(encoding="utf-8")
        for section, part in parts.items():
            assert text == tables.replaced(text, section, part), "run: python docs/losses_table.py --write"


def test_table_of_results_averages_seeds_and_names_the_options() -> None:
    results = load(ROOT / "docs" / "results_table.py")
    run = {
        "epochs": 10, "epoch_seconds": 11.9, "commit": "c" * 40, "protocol": "p", "machine": {"cpu": "x", "threads": 2}
    }  # fmt: skip

    def line(name: str, seed: int, value: float | None, leak: bool = False) -> SimpleNamespace:
        found = None if value is None else run | {"test": dict.fromkeys(results.FIGURES, value)}
        return SimpleNamespace(
            data="Beauty", name=name, shown=name.upper(), seed=seed, options=("--system", name),
            settings=SimpleNamespace(leak=leak), result=lambda: found,
        )  # fmt: skip

    runs = [
        line("b", 0, 0.3),
        line("a", 0, 0.1),
        line("a", 1, 0.2),
        line("c", 0, None),
        line("d", 0, 0.4, leak=True),
    ]
    published = {"label": "published", "figures": {"Beauty": {"t": [0.08, 0.05]}}}
    lines = results.table(results.rows_of(runs), published).splitlines()
    assert lines[2].split(" | ")[1:4] == ["t, published", "", "0.0800"]
    assert lines[3].split(" | ")[1:3] == ["**A**", "0.1500 ± 0.0707"]
    assert lines[3].endswith("| 10 | 2 | 0, 1 | `--system a` |")
    assert lines[4].split(" | ")[1:3] == ["**B**", "0.3000"]
    assert lines[5:] == [
        "",
        "Protocol: p; the epoch is chosen on validation.  ",
        "Machine: x, 2 threads.  ",
        "±: standard deviation over seeds. Epochs: trained, patience included. Training minutes: epochs times the median epoch, without",
        "first stages, on machines, threads and precisions that differ between rows.  ",
        "Commit: cccccccccc. The settings of every run: `docs/results/`.",
    ]


def test_links_of_the_pages_lead_somewhere() -> None:
    missing = []
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" not in target and not target.startswith("#"):
                file = page.parent / target.split("#")[0]
                missing += [] if file.exists() else [f"{ids(page)}: {target}"]
    assert not missing


def test_facts_end_with_one_line_where_there_are_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["facts.py", "no-such-data"])
    with pytest.raises(SystemExit, match="^error: expected .* got 'no-such-data'"):
        load(ROOT / "docs" / "facts.py").main()


def test_facts_are_counted_right() -> None:
    from recsys.datasets import Dataset

    rows = [[user % 5 + step for step in range(1, 9)] for user in range(40)]
    names = [str(number) for number in range(40)]
    data = Dataset("chains", rows, num_items=12, users=names, items=names[:12])
    found = dict(load(ROOT / "docs" / "facts.py").facts(data))
    # Every training input has five items, and a chain never goes back.
    assert found["rows of at most 5 items"] == 1.0
    for operator in ("Crop", "Delete"):
        assert found[f"{operator}, padded on the left: slots that show the future"] == 0.0
        assert found[f"{operator}, padded on the right: slots that show the future"] > 0.15
    assert 0.0 < found["Reorder, padded on the left: slots that show their own target"] < 0.3
