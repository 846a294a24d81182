"""What a user gets: public names, a silent import, three dependencies, a wheel that works by itself."""

from __future__ import annotations

import ast
import email
import importlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import seqaug as sa

ROOT = Path(__file__).resolve().parents[1]

# Other people's code calls these. A name that goes, or one that comes by accident, fails here.
PUBLIC = {
    # operators
    "Edit", "Augmentation", "Operator", "Crop", "Mask", "Reorder", "Substitute", "Insert", "Delete", "Swap",
    "TimeCrop", "TimeMask", "TimeReorder", "TimeSubstitute", "TimeInsert", "RepeatPad", "gap_variance",
    # features and rows
    "FeatureMask", "DroppedFeatures", "prefixes", "windows", "Expansion",
    # policies
    "Policy", "Compose", "SomeOf", "Maybe", "LengthPolicy", "VariancePolicy", "EachOnce", "AdaptivePolicy",
    # mixing
    "MixupOp", "Mix", "Mixed", "CrossMixup", "Pair", "SoftTarget",
    # losses
    "BCELoss", "BPRLoss", "GBCELoss", "FocalLoss", "SoftmaxFocalLoss", "CELoss", "ICELoss", "SampledSoftmaxLoss",
    "SCELoss", "RECELoss", "InfoNCELoss", "functional",
    # around them
    "ShardedTable", "SparseTable", "gather_rows", "split_rows", "top_items", "target_ranks",
    "ItemSimilarity", "RefreshNeighbours", "UniformNegatives", "PopularityNegatives", "InBatchNegatives", "pad_sequences", "lengths",
    "Packed", "PackedEdit", "PackedMix", "PackedPair", "pack", "Collate", "check_batch", "inspect",
}  # fmt: skip


def python(code: str, *options: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh interpreter that sees nothing but what is installed."""
    return subprocess.run(
        [sys.executable, "-I", *options, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300
    )


def project() -> dict[str, str]:
    """Single values of the [project] table, without a TOML parser, which Python 3.10 has not."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project]\n")[1].split("\n[")[0]
    return dict(re.findall(r'^([\w-]+) = "([^"]*)"$', text, re.MULTILINE))


def test_public_names() -> None:
    assert set(sa.__all__) == PUBLIC, "a new name goes into PUBLIC and into docs/api.md"
    assert sa.__all__ == sorted(sa.__all__)
    assert all(hasattr(sa, name) for name in PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_name_is_documented(name: str) -> None:
    doc = getattr(sa, name).__doc__ or ""
    assert doc.strip()
    assert not isinstance(getattr(sa, name), type) or ">>> " in doc, f"{name} has no example"
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert re.search(rf"seqaug\.{name}\b", reference), f"{name} is missing in docs/api.md"


def test_type_checkers_know_what_calling_gives() -> None:
    """pyright takes torch's Any for the result unless __call__ is a function; tests/user_types.py is checked by mypy alone."""
    for path in (ROOT / "seqaug").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and "def forward(self" in ast.unparse(node):
                assert "@calls(forward)\n        def __call__(self)" in ast.unparse(node), (
                    f"{path.name}: {node.name}"
                )


def test_import_is_silent_with_warnings_as_errors() -> None:
    done = python("import seqaug", "-W", "error")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_import_takes_little_beyond_torch() -> None:
    """Processor time, so that a busy machine does not count."""
    code = (
        "import time, torch; start = time.process_time(); import seqaug; print(time.process_time() - start)"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.3


def test_library_imports_nothing_but_its_dependencies() -> None:
    allowed = sys.stdlib_module_names | {"torch", "einops", "typing_extensions", "seqaug"}
    found = {}
    for path in (ROOT / "seqaug").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                names = [node.module or ""]
            for name in names:
                if name.split(".")[0] not in allowed:
                    found[name] = path.name
    assert not found


def test_works_without_numpy() -> None:
    code = """
import sys
sys.modules["numpy"] = None  # importing it is an error from here on
import torch, seqaug as sa
items = sa.pad_sequences([[1, 2, 3], [4, 5]], length=4)
policy = sa.Policy([sa.Crop(0.2, 0.7), sa.Mask(0.2, 0.7, mask_id=9), sa.Reorder(0.2, 0.7)])
table = torch.nn.Embedding(10, 4)
mixed = sa.MixupOp(policy)(items, table)
sa.ICELoss(catalog=slice(1, 9))(mixed.embeddings, table.weight, items, weight=mixed.weight).backward()
sa.ItemSimilarity.from_sequences(items, num_items=8, k=2)
print(table.weight.grad.isfinite().all().item())
"""
    done = python(code)
    assert done.stdout == "True\n", done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist, so that the sdist is complete."""
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(out.glob("*.tar.gz"))) == 1
    (path,) = out.glob("*.whl")
    return path


def test_wheel_holds_the_library_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "seqaug").rglob("*.py")}
    assert {name for name in names if not name.startswith("seqaug-")} == modules | {"seqaug/py.typed"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_wheel_needs_three_packages_at_run_time(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        metadata = email.message_from_string(archive.read(name).decode())
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(re.split(r"[<>=]", line)[0] for line in needed) == ["einops", "torch", "typing-extensions"]
    assert set(metadata.get_all("Provides-Extra", [])) == {"examples", "test", "docs", "bench", "dev"}
    assert metadata["License-Expression"] == "Apache-2.0"


def test_wheel_imports_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(tmp_path / "site"),
    ]
    subprocess.run([sys.executable, *install, str(wheel)], check=True, timeout=300)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import seqaug; "
        "print(seqaug.__file__, seqaug.__version__)"
    )
    done = python(code, "-W", "error", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "site" / "seqaug" / "__init__.py"), project()["version"]]


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def test_versions_agree() -> None:
    version = project()["version"]
    changelog = re.findall(
        r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    citation = re.findall(
        r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE
    )
    readme = re.findall(
        r"^  version = \{(.+)\},$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    released, text = changelog[0], (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [*citation, *readme] == [released] * 2
    if text.split("## [Unreleased]\n")[1].split("\n## [")[0].strip():
        # What has changed since a release must not be taken for it.
        following, dev = version.rsplit(".", 1)
        assert dev == "dev0" and numbers(following) > numbers(released)
    else:
        assert version == released


def test_release_notes_are_the_section_of_the_changelog() -> None:
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ +(awk .+) > notes\.md$", workflow, re.MULTILINE)
    run = ["bash", "-c", f"GITHUB_REF_NAME=v0.1.0; {command}"]
    notes = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert notes.strip().startswith("### Added") and "## [" not in notes


def test_reference_names_what_can_be_imported() -> None:
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for path in re.findall(r"^\.\. auto(?:class|function):: (\S+)$", reference, re.MULTILINE):
        module, name = path.rsplit(".", 1)
        assert not re.search(r"\._", path) and hasattr(importlib.import_module(module), name), path


def test_map_of_the_code_names_every_file() -> None:
    page = (
        (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("## Which file holds what")[1]
    )
    page = page.split("\n## ")[0]
    folders = [
        path.relative_to(ROOT) for path in (ROOT / "seqaug").iterdir() if (path / "__init__.py").exists()
    ]
    files = [path.relative_to(ROOT) for path in (ROOT / "seqaug").glob("*.py") if path.name != "__init__.py"]
    tools = [path.relative_to(ROOT) for part in ("docs", "benchmarks") for path in (ROOT / part).glob("*.py")]
    missing = [path for path in files + tools if f"`{path.as_posix()}`" not in page]
    missing += [path for path in folders if f"`{path.as_posix()}/`" not in page]
    known = {"docs/conf.py", "benchmarks/epochs.py"}
    known |= {
        f"benchmarks/train_{name}.py" for name in ("rectools", "replay", "seqaug")
    }  # named by their pattern
    assert {path.as_posix() for path in missing} <= known
