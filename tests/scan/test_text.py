"""Search by text, with a tiny CLIP of random weights in a local folder."""

import numpy as np
import pytest
import torch

from sempre.errors import InputError
from sempre.frozen.encoder import Grid
from sempre.scan.preview import prepare
from sempre.scan.text import MEAN, STD, Clip, text_scores

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = {"[UNK]": 0, "cracks": 1, "particles": 2, "round": 3, "<start>": 4, "<end>": 5}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "<start> $A <end>", special_tokens=[("<start>", 4), ("<end>", 5)]
    )
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**sizes, "vocab_size": 6, "max_position_embeddings": 8, "bos_token_id": 4, "eos_token_id": 5},
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    transformers.CLIPModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_words_and_patches_are_those_of_the_library(folder):
    clip = Clip(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    directions = clip.patches(pixels, np.array([[16.0, 16.0], [32.0, 40.0]]), 32)
    words = clip.words(["round particles", "cracks"])
    assert directions.shape == words.shape == (2, 8)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, rtol=1e-5)
    grey = torch.from_numpy(pixels[16:48, 24:56]).float()[None, None] / 255
    image = (grey - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    tokens = torch.tensor([[4, 1, 5]])
    with torch.inference_mode():
        out = clip.model(input_ids=tokens, pixel_values=image)
    np.testing.assert_allclose(directions[1], out.image_embeds[0], atol=1e-5)
    np.testing.assert_allclose(words[1], out.text_embeds[0], atol=1e-5)


def test_text_scores_are_cosines_or_odds_and_patches_are_embedded_once(folder, tmp_path, monkeypatch):
    preview = prepare(np.random.default_rng(1).normal(100, 20, (96, 64)))
    grid = Grid(96, 64, 96, 64, 32)
    alone = text_scores(preview, grid, 32, ["cracks"], [], folder, tmp_path)
    assert alone.shape == (6,)
    assert (np.abs(alone) <= 1).all()
    monkeypatch.setattr(Clip, "patches", lambda *_: pytest.fail("the patches were embedded again"))
    odds = text_scores(preview, grid, 32, ["cracks"], ["particles"], folder, tmp_path)
    other = text_scores(preview, grid, 32, ["particles"], ["cracks"], folder, tmp_path)
    np.testing.assert_allclose(odds + other, 1)
    several = text_scores(preview, grid, 32, ["cracks", "round"], [], folder, tmp_path)
    assert (several >= alone - 1e-6).all()


def test_a_folder_without_weights_or_of_another_model(folder, tmp_path):
    with pytest.raises(InputError, match=r"tokenizer\.json is not there"):
        for name in ("config.json", "model.safetensors"):
            (tmp_path / name).write_bytes((folder / name).read_bytes())
        Clip(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="holds no CLIP model"):
        Clip(tmp_path)
