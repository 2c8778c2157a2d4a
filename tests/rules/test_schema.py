"""The contract of the published JSON Schema: made from the models, and of one mind with them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from jsonschema import Draft202012Validator

from proxy.rules.loading import validation
from proxy.rules.loading.loader import loads
from proxy.rules.tools import commands
from tests.rules import golden_files, strategies

CONFIG = Path(__file__).parents[2] / "config"
VALIDATOR = Draft202012Validator(json.loads(commands.schema()))
FILES = [CONFIG / "rules.yaml", *sorted((CONFIG / "examples").glob("*.yaml"))]


@pytest.fixture(scope="module")
def schema():
    return json.loads((CONFIG / "rules.schema.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def validator(schema):
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_published_file_is_what_the_models_say():
    """Made anew by `nocache-proxy schema > config/rules.schema.json`."""
    assert (CONFIG / "rules.schema.json").read_text("utf-8") == commands.schema() + "\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_shipped_files_are_valid_for_an_independent_reader(validator, path):
    assert list(validator.iter_errors(yaml.safe_load(path.read_bytes()))) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_shipped_files_name_the_schema_for_editors(path):
    first_line = path.read_text("utf-8").splitlines()[0]
    name = first_line.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / name).resolve() == CONFIG / "rules.schema.json"


def test_every_key_is_described(schema):
    models = [schema, *schema["$defs"].values()]
    keys = [(model.get("title"), name, key) for model in models for name, key in model["properties"].items()]
    assert len(keys) >= 40
    assert [name for _, name, key in keys if not key.get("description", "").endswith((".", ":", ")"))] == []


def test_every_key_of_the_models_is_in_the_schema(schema):
    named = {name for model in (schema, *schema["$defs"].values()) for name in model["properties"]}
    assert {name for model in validation._MODELS.values() for name in model.model_fields} == named


_SHAPE = re.compile("unknown key|is missing")
SHAPES = [g for g in golden_files.read_all("golden") if _SHAPE.search(g.expected) and b"\t" not in g.data]


@pytest.mark.parametrize("golden", SHAPES, ids=lambda golden: golden.name)
def test_an_editor_marks_unknown_and_missing_keys_too(validator, golden):
    assert not validator.is_valid(yaml.safe_load(golden.data))


def test_anchors_have_a_place(validator):
    assert validator.is_valid({"version": 1, "rules": [], "x-shared": {"anything": [1]}})
    assert not validator.is_valid({"version": 1, "rules": [], "shared": {}})


@settings(max_examples=150, deadline=None)
@given(strategies.rules_files())
def test_what_loads_is_valid(tree):
    loads(yaml.safe_dump(tree).encode(), "rules.yaml")
    assert VALIDATOR.is_valid(tree)
