"""transformers' ModelTesterMixin, run on both models: what its maintainers ask of every model."""

import sys
import unittest
from unittest import mock

import pytest
import torch
from transformers import ViTConfig

from neuron_vit3d import NeuronViT3DConfig, NeuronViT3DForSegmentation, NeuronViT3DModel
from support.tiny_models import tiny_block
from support.transformers_tests import model_tester_mixin


pytestmark = pytest.mark.mixin
ModelTesterMixin = model_tester_mixin()
SIDE = 16


class ModelTester:
    """Makes what ModelTesterMixin asks of a model's own tests: a tiny configuration, and inputs."""

    batch_size, num_hidden_layers, hidden_size, num_attention_heads = 2, 2, 32, 2
    seq_length = encoder_seq_length = (SIDE // 8) ** 2 + 1
    is_training = True

    def prepare_config_and_inputs_for_common(self):
        backbone_config = ViTConfig(
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=64,
            image_size=SIDE,
            patch_size=8,
        )
        config = NeuronViT3DConfig(
            backbone_config=backbone_config, num_slices=3, decoder_hidden_size=8, stem_sizes=[4, 8, 8]
        )
        return config, {"pixel_values": tiny_block(batch=self.batch_size, height=SIDE, width=SIDE)}


class NeuronViT3DTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (NeuronViT3DModel, NeuronViT3DForSegmentation)
    _is_composite = True  # the 2D model has a configuration of its own
    test_can_init_all_missing_weights_before_2023 = True  # asked of every model since
    # Of text models: tables of tokens and of positions, one row each.
    test_resize_embeddings = test_resize_position_embeddings = False

    def setUp(self):
        self.model_tester = ModelTester()
        # The mixin knows models without a loss by this table, which lists transformers' own only.
        names = sys.modules[ModelTesterMixin.__module__].MODEL_MAPPING_NAMES
        patch = mock.patch.dict(names, {NeuronViT3DConfig.model_type: NeuronViT3DModel.__name__})
        patch.start()
        self.addCleanup(patch.stop)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
        if return_labels and model_class is NeuronViT3DForSegmentation:
            inputs["labels"] = torch.ones(2, 1, SIDE, SIDE, dtype=torch.long)
        return inputs

    def test_model_get_set_embeddings(self):
        """What reads the picture is a convolution, as in transformers' own vision models, and no table of tokens."""
        for model_class in self.all_model_classes:
            model = model_class(self.model_tester.prepare_config_and_inputs_for_common()[0])
            assert isinstance(model.get_input_embeddings(), torch.nn.Conv2d)
            assert model.get_output_embeddings() is None

    def test_model_weights_reload_no_missing_tied_weights(self):
        self.skipTest("a checkpoint without weights of its encoder is refused, and no weights are tied")
