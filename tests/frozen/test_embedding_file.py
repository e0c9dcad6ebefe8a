import pytest

from sempre.errors import InputError
from sempre.frozen.embedding_file import Embeddings
from tests.fuzzing.model_seeds import embedding_files


def test_embeddings_that_hdf5_does_not_survive_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    content = bytearray(embedding_files()[0])
    path.write_bytes(content)
    with Embeddings(path) as embeddings:
        assert len(embeddings) == 1
    content[content.index(b"\x19\1\1") + 1] = 255  # an attribute's type: neither a text nor a list
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.h5 is damaged: HDF5 finds no end in it or crashes"):
        Embeddings(path)
