from pathlib import Path

import numpy as np
import pytest
import tifffile
import timm
import torch

from sempre.data.sources import FolderSource, open_source
from sempre.data.store_writer import StoredImage, StoreWriter
from sempre.errors import InputError
from sempre.frozen import extract as extraction
from sempre.frozen.embedding_file import Embeddings
from sempre.frozen.encoder import open_encoder
from sempre.frozen.extract import ExtractionOptions, extract, file_percentiles
from sempre.models.backbones import BackboneDetails, save_backbone

ATTO = "random:convnextv2_atto"


@pytest.fixture
def folder(tmp_path):
    """Five micrographs of two shapes; the last is a copy of the first."""
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number, shape in enumerate([(64, 96), (64, 96), (70, 50), (64, 96)]):
        tifffile.imwrite(tmp_path / f"images/{number}.tif", random.integers(0, 255, shape, dtype=np.uint8))
    (tmp_path / "images/copy.tif").write_bytes((tmp_path / "images/0.tif").read_bytes())
    return tmp_path / "images"


@pytest.fixture
def options(tmp_path):
    return ExtractionOptions(embeddings=str(tmp_path / "embeddings"), workers=0, batch=2)


def test_cells_are_those_of_the_network_for_each_image(folder, options):
    encoder, source = open_encoder(ATTO), open_source(folder)
    with extract(source, encoder, options) as embeddings:
        assert len(embeddings) == 4, "a copy is embedded once"
        for index, sha256 in enumerate(source.sha256s):
            embedding = embeddings[sha256]
            pixels = torch.from_numpy(source.read(index)[0])[None, None].float() / 255
            height, width = pixels.shape[2:]
            padded = torch.nn.functional.pad((pixels - 0.5) / 0.25, (0, -width % 32, 0, -height % 32), "reflect")
            with torch.no_grad():
                expected = encoder.network.forward_features(padded)[0].permute(1, 2, 0).numpy()
            assert embedding.cells.shape == (embedding.grid.rows, embedding.grid.columns, 320)
            np.testing.assert_allclose(embedding.cells, expected, atol=2e-3 * np.abs(expected).max())


def test_no_number_of_workers_changes_a_result(folder, options, tmp_path):
    source, encoder = open_source(folder), open_encoder(ATTO)
    with extract(source, encoder, options) as alone:
        options.workers, options.embeddings = 2, str(tmp_path / "other")
        with extract(source, encoder, options) as shared:
            for sha256 in source.sha256s:
                np.testing.assert_array_equal(alone[sha256].cells, shared[sha256].cells)


def test_nothing_is_extracted_twice(folder, options, monkeypatch):
    encoder = open_encoder(ATTO)
    source = FolderSource(folder, files=sorted(folder.glob("*.tif"))[:2])
    extract(source, encoder, options).close()
    read = []
    monkeypatch.setattr(
        FolderSource, "read", lambda self, index, of=FolderSource.read: read.append(index) or of(self, index)
    )
    whole = open_source(folder)
    extract(whole, encoder, options).close()
    known = set(source.sha256s)
    assert sorted(read) == [index for index, sha256 in enumerate(whole.sha256s) if sha256 not in known][: len(read)]
    read.clear()
    extract(whole, encoder, options).close()
    assert not read


def test_another_backbone_layer_or_size_has_a_file_of_its_own(folder, options, tmp_path):
    source = open_source(folder)
    paths = {extract(source, open_encoder(ATTO, seed=seed), options).path for seed in (0, 1)}
    paths.add(extract(source, open_encoder(ATTO, layer=-2), options).path)
    options.size = 48
    paths.add(extract(source, open_encoder(ATTO), options).path)
    assert len(paths) == 4


def test_sizes(folder, options):
    source = open_source(folder)
    options.size = 48
    with extract(source, open_encoder(ATTO, layer=1), options) as embeddings:
        grid = embeddings[source.sha256s[0]].grid
        assert (grid.input_height, grid.input_width, grid.cell, grid.rows, grid.columns) == (32, 48, 8, 4, 6)
    options.pixel_size_nm = 3.0
    with pytest.raises(InputError, match="disagree: choose one"):
        extract(source, open_encoder(ATTO), options)
    options.size = 0
    with pytest.raises(InputError, match="does not say its pixel size"):
        extract(source, open_encoder(ATTO), options)


def test_a_vision_transformer_gives_the_tokens_that_timm_gives(folder, options):
    network = "vit_tiny_patch16_224"
    encoder, source = open_encoder(f"random:{network}"), open_source(folder)
    reference = timm.create_model(network, in_chans=1, num_classes=0, dynamic_img_size=True)
    reference.load_state_dict(encoder.network.state_dict())
    with extract(source, encoder, options) as embeddings:
        embedding = embeddings[source.sha256s[0]]
        pixels = torch.from_numpy(source.read(0)[0])[None, None].float() / 255
        with torch.no_grad():
            tokens = reference.eval().forward_features((pixels - 0.5) / 0.25)[0].numpy()
        np.testing.assert_allclose(embedding.class_token, tokens[0], atol=1e-4)
        np.testing.assert_allclose(embedding.cells.reshape(-1, 192), tokens[1:], atol=1e-2)


@pytest.mark.parametrize("own", [(1.0, 99.0), (2.0, 98.0)])
def test_percentiles_are_adopted_or_refused(folder, options, tmp_path, own):
    network = timm.create_model("convnextv2_atto", in_chans=1, num_classes=0)
    normalisation = {"percentiles": list(own), "mean": 0.5, "std": 0.25}
    details = BackboneDetails("convnextv2_atto", 1, "fcmae", "", 0.1, {}, normalisation=normalisation)
    save_backbone(tmp_path / "backbone", network, details)
    encoder = open_encoder(str(tmp_path / "backbone"))
    assert file_percentiles(options, encoder) == own
    with StoreWriter(tmp_path / "store.h5", (2.0, 98.0)) as writer:
        writer.append(StoredImage("a.tif", "a" * 64, 1, 1, np.eye(64, dtype=np.uint8) * 255))
        writer.finish()
    source = open_source(tmp_path / "store.h5")
    if own == (2.0, 98.0):
        extract(source, encoder, options).close()
    else:
        with pytest.raises(InputError, match=r"percentiles 2 and 98.*by 1 and 99.*percentiles=\[2,98\]"):
            extract(source, encoder, options)
    extract(source, open_encoder(ATTO), options).close()
    options.percentiles = [2.0, 98.0]
    extract(source, encoder, options).close()
    assert file_percentiles(options, encoder) == (2, 98)
    options.percentiles = [5.0, 95.0]
    with pytest.raises(InputError, match=r"2 and 98, which cannot be changed to percentiles=\[5.0, 95.0\]"):
        extract(source, encoder, options)
    options.percentiles = [98.0, 2.0]
    with pytest.raises(InputError, match="are no range"):
        file_percentiles(options, encoder)


def test_what_was_embedded_is_written_after_so_many_px(folder, options, monkeypatch):
    """Cells that wait for the end would hold memory, and be lost with the process."""
    options.batch = 1
    monkeypatch.setattr(extraction, "COMMIT_PIXELS", 2 * 64 * 96)
    embedded = []

    def embed(batch, *others):
        if len(embedded) == 3:
            raise RuntimeError("the third is the last")
        embedded.append(batch)
        return embed_whole(batch, *others)

    embed_whole = extraction.embed_batch
    monkeypatch.setattr(extraction, "embed_batch", embed)
    with pytest.raises(RuntimeError):
        extract(open_source(folder), open_encoder(ATTO), options)
    (file,) = Path(options.embeddings).glob("*.h5")
    with Embeddings(file) as kept:
        assert len(kept) == 2
