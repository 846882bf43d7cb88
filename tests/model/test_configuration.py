"""NeuronViT3DConfig: what it makes of a 2D configuration, what it refuses, and that it survives its JSON file."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForSemanticSegmentation

from neuron_vit3d import NeuronViT3DConfig, NeuronViT3DForSegmentation
from support.tiny_models import config_2d, tiny_config, tiny_model


def test_slices_enter_the_2d_transformer_as_channels_and_the_callers_config_stays_as_it_is():
    backbone_config = config_2d()
    config = NeuronViT3DConfig(backbone_config=backbone_config, num_slices=7, num_channels=2)
    assert config.backbone_config.num_channels == 14
    assert backbone_config.num_channels == 3
    assert (config.patch_size, config.image_size) == (8, 32)


def test_default_is_a_vit_base_over_five_slices():
    config = NeuronViT3DConfig()
    assert config.backbone_config.model_type == "vit"
    assert (config.backbone_config.hidden_size, config.backbone_config.num_channels) == (768, 5)
    assert config.out_indices == [3, 6, 9, 12]
    assert config.id2label == {0: "background", 1: "neuron"}
    assert config.label2id == {"background": 0, "neuron": 1}


@pytest.mark.parametrize(
    ("depth", "indices"), [(1, [1, 1, 1, 1]), (2, [1, 1, 2, 2]), (4, [1, 2, 3, 4]), (24, [6, 12, 18, 24])]
)
def test_default_depths_are_evenly_spread(depth, indices):
    assert NeuronViT3DConfig(backbone_config=config_2d(num_hidden_layers=depth)).out_indices == indices


def test_backbone_config_may_be_a_dict():
    config = NeuronViT3DConfig(backbone_config=config_2d("dinov2").to_dict())
    assert config.backbone_config.model_type == "dinov2"
    assert config.backbone_config.num_channels == 5


def test_labels_may_be_counted_or_named():
    assert tiny_config(num_labels=3).num_labels == 3
    config = tiny_config(id2label={0: "background", 1: "axon", 2: "dendrite"})
    assert config.num_labels == 3
    assert config.label2id == {"background": 0, "axon": 1, "dendrite": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_slices": 4}, "num_slices must be odd and positive.* got 4"),
        ({"num_slices": 0}, "num_slices must be odd and positive.* got 0"),
        ({"num_slices": -3}, "num_slices must be odd and positive.* got -3"),
        ({"num_slices": 5, "num_output_slices": 2}, "num_output_slices must be odd and positive.* got 2"),
        ({"num_slices": 3, "num_output_slices": 5}, "num_output_slices must be at most num_slices = 3; got 5"),
        ({"num_channels": 0}, "num_channels must be at least 1; got 0"),
        ({"inflation": "sum"}, "inflation must be one of center, average; got 'sum'"),
        ({"out_indices": [1, 2, 3]}, r"out_indices must be four numbers in 0\.\.4; got \[1, 2, 3\]"),
        ({"out_indices": [1, 2, 3, 5]}, r"out_indices must be four numbers in 0\.\.4; got \[1, 2, 3, 5\]"),
        ({"stem_sizes": [16, 32]}, r"stem_sizes must be empty or three channel counts.*; got \[16, 32\]"),
        ({"decoder_hidden_size": 6}, "decoder_hidden_size must be a positive multiple of 4; got 6"),
        ({"num_labels": 1}, "num_labels must be at least 2, background included; got 1"),
        ({"backbone_config": {"model_type": "nope"}}, "backbone_config: cannot inflate a model of type 'nope'"),
        ({"backbone_config": {}}, "backbone_config: cannot inflate a model of type None"),
        ({"image_mean": []}, "image_mean must be a number, or a list with one number per colour; got an empty list"),
        ({"num_slice": 5}, r"has no field 'num_slice' \(value 5\); did you mean num_slices\?"),
        ({"temperature_of_tea": 5}, r"has no field 'temperature_of_tea' \(value 5\)$"),
    ],
)
def test_impossible_sizes_are_a_value_error_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        NeuronViT3DConfig(**{"backbone_config": config_2d(), "num_slices": 3, **changes})
    assert "\n" not in str(caught.value)


TOLD = "kept, but without effect: NeuronViT3DConfig has no field 'num_slicse' (value 7); did you mean num_slices?"


def test_a_saved_field_that_does_not_exist_is_kept_and_told_of(tmp_path, caplog):
    tiny_config().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_slicse": 7}))
    doors = [
        NeuronViT3DConfig.from_pretrained,
        AutoConfig.from_pretrained,
        lambda folder: NeuronViT3DConfig.from_dict(json.loads(path.read_text())),
        lambda folder: NeuronViT3DConfig.from_json_file(path),
    ]
    for number, door in enumerate(doors, 1):
        config = door(tmp_path)
        assert caplog.messages == [TOLD] * number
        assert (config.num_slices, config.num_slicse) == (3, 7)
    config, unused = NeuronViT3DConfig.from_pretrained(tmp_path, num_labels=3, tea=1, return_unused_kwargs=True)
    assert (config.num_labels, config.num_slicse, unused) == (3, 7, {"tea": 1})
    config.save_pretrained(tmp_path)
    assert NeuronViT3DConfig.from_pretrained(tmp_path).num_slicse == 7


def test_a_model_whose_configuration_has_one_more_field_comes_back(tmp_path, caplog):
    model = tiny_model()
    model.config.num_slicse = 7
    model.save_pretrained(tmp_path)
    for number, door in enumerate((NeuronViT3DForSegmentation, AutoModelForSemanticSegmentation), 1):
        assert door.from_pretrained(tmp_path).config.num_slicse == 7
        assert caplog.messages == [TOLD] * number


def test_fields_of_transformers_are_not_told_of(tmp_path, caplog):
    config = tiny_config()
    config.use_cache, config.return_dict = False, True
    config.save_pretrained(tmp_path)
    NeuronViT3DConfig.from_pretrained(tmp_path)
    assert caplog.messages == []


SIZES = st.fixed_dictionaries(
    {
        "num_slices": st.sampled_from([3, 5, 9]),
        "num_output_slices": st.sampled_from([1, 3]),
        "num_channels": st.integers(1, 4),
        "num_labels": st.integers(2, 4),
        "inflation": st.sampled_from(["center", "average"]),
        "out_indices": st.none() | st.lists(st.integers(0, 4), min_size=4, max_size=4).map(tuple),
        "stem_sizes": st.sampled_from([(), (4, 8, 8), [2, 2, 2]]),
        "decoder_hidden_size": st.sampled_from([4, 64]),
        "semantic_loss_ignore_index": st.sampled_from([255, -100]),
        "image_mean": st.sampled_from([0.5, 0, [0.485, 0.456, 0.406], (0.25,)]),
    }
)


@settings(max_examples=25, deadline=None)
@given(sizes=SIZES, family=st.sampled_from(["vit", "dinov2", "dinov3_vit", "beit"]))
def test_json_holds_all_of_it(sizes, family):
    config = tiny_config(family, **sizes)
    again = NeuronViT3DConfig.from_dict(json.loads(config.to_json_string()))
    assert again.to_dict() == config.to_dict()
    assert type(again.backbone_config) is type(config.backbone_config)
    assert all(
        getattr(again, name) == value or value is None or list(value) == getattr(again, name)
        for name, value in sizes.items()
    )


def test_auto_config_reads_what_was_saved(tmp_path):
    config = tiny_config("dinov3_vit", num_labels=4, num_output_slices=3)
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is NeuronViT3DConfig
    assert again.to_dict() == {**config.to_dict(), "_name_or_path": str(tmp_path)}


def test_where_the_2d_model_lay_is_not_told():
    backbone_config = config_2d()
    backbone_config.name_or_path = "somewhere/private"
    config = NeuronViT3DConfig(backbone_config=backbone_config)
    assert "somewhere" not in config.to_json_string()
    assert backbone_config.name_or_path == "somewhere/private"


def test_a_masked_autoencoder_is_taken_as_the_vit_that_its_encoder_is():
    config = NeuronViT3DConfig(backbone_config=config_2d("vit_mae", layer_norm_eps=1e-5, qkv_bias=False))
    backbone = config.backbone_config
    assert (backbone.model_type, backbone.hidden_size, backbone.num_hidden_layers) == ("vit", 32, 4)
    assert (backbone.layer_norm_eps, backbone.qkv_bias, backbone.image_size) == (1e-5, False, 32)


def test_a_backbone_that_cannot_be_inflated_is_refused():
    with pytest.raises(ValueError, match="backbone_config: cannot inflate a model of type 'swin'"):
        NeuronViT3DConfig(backbone_config={"model_type": "swin"})


def test_the_pipeline_of_a_checkpoints_own_code_is_not_asked_for_where_the_package_is():
    # transformers would then demand trust_remote_code=True for what the package has registered itself.
    config = NeuronViT3DConfig(custom_pipelines={"neuron-segmentation": {}}, auto_map={"AutoConfig": "x.Y"})
    assert not hasattr(config, "custom_pipelines")
    assert config.auto_map == {"AutoConfig": "x.Y"}
