"""JSON Schema and the generated reference."""

from __future__ import annotations

import json

import pytest

from ctgen.recipe.reference import reference
from ctgen.recipe.schema import descriptions, json_schema
from ctgen.recipe.settings import SETTINGS


def test_the_schema_knows_every_component_and_setting(host):
    schema = json.loads(json.dumps(json_schema(host)))
    backbone = schema["properties"]["backbone"]["anyOf"]
    assert backbone[0]["enum"] == ["fakes:net", "fakes:other-net", "net", "other-net"]
    net = next(item for item in backbone if item.get("title") == "net")
    assert net["properties"]["use"]["enum"] == ["fakes:net", "net"]
    assert net["additionalProperties"] is False and net["required"] == ["use"]
    assert net["properties"]["depth"] == {"default": 4, "minimum": 1, "type": "integer"}
    assert net["properties"]["patch"]["description"] == "Latent cells per token along h and w."
    assert schema["properties"]["metrics"]["type"] == "array"
    assert schema["additionalProperties"] is False
    for section, model in SETTINGS.items():
        assert set(schema["properties"][section]["properties"]) == set(model.model_fields)


def test_every_reference_in_the_schema_resolves(host):
    schema = json_schema(host)
    text = json.dumps(schema)
    used = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert used == set(schema["$defs"]) == {"Part"}


def test_the_schema_can_be_limited_to_plugins(host):
    assert json_schema(host, plugins={"nobody"})["properties"]["backbone"]["anyOf"][0]["enum"] == []


def test_the_schema_accepts_right_recipes_and_refuses_wrong_ones(host, fakes):
    jsonschema = pytest.importorskip("jsonschema")
    import yaml

    schema = json_schema(host)
    right = yaml.safe_load(fakes.FULL.replace("1e-4", "1.0e-4"))
    jsonschema.validate(right, schema)
    for wrong in ({"backbone": {"use": "net", "depht": 3}}, {"backbone": "nett"}, {"trian": {}}, {"train": {"lr": 0}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**right, **wrong}, schema)


def test_every_setting_is_described():
    for section, model in SETTINGS.items():
        assert set(descriptions(model)) == set(model.model_fields), section
        assert model.__doc__


def test_the_reference_names_every_field(host, fakes):
    page = reference(host)
    for component in host.registry:
        for name in component.config.model_fields:
            assert f"| `{name}` |" in page
    assert "#### backbone: net" in page and "Plugin `fakes`: a network." in page
    assert "Latent cells per token along h and w." in page
    assert "needs `autoencoder`, `text_encoder`, `backbone`, `schedule`, `rollout`" in page
    assert "| `cache` | true/false | `True` |" not in page and "*Not in fingerprints.*" in page
    assert page == reference(host), "the same every time"
