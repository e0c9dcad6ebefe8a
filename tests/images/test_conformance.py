"""Every variant of `conformance.py` is read as its independent reference says, or refused by name."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from sempre.errors import InputError
from sempre.images import read_micrograph
from sempre.images.read import count_pages
from tests.images.conformance import VARIANTS, Variant, page_of_formats

RSCIIO = (".dm3", ".ser", ".emd")


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.id)
def test_pixels_and_size(tmp_path, variant: Variant):
    if variant.suffix in RSCIIO:
        pytest.importorskip("rsciio")
    path = tmp_path / f"a{variant.suffix}"
    want = variant.write(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        if isinstance(want, str):
            with pytest.raises(InputError, match=want):
                read_micrograph(path, page=variant.page)
            return
        micrograph = read_micrograph(path, page=variant.page)
    assert micrograph.pixels.shape == want.shape
    assert micrograph.pixels.dtype.isnative and micrograph.pixels.dtype.kind in "uif"
    np.testing.assert_allclose(micrograph.pixels.astype(float), want.astype(float), atol=variant.within, rtol=0)
    assert micrograph.pages == count_pages(path) == variant.pages
    if variant.size is None:
        assert micrograph.pixel_size_nm is None
    else:
        assert micrograph.pixel_size == pytest.approx(variant.size, rel=1e-3)


def test_the_table_is_long_enough_and_its_names_are_its_own():
    assert len(VARIANTS) >= 120
    assert len({variant.id for variant in VARIANTS}) == len(VARIANTS)


def test_the_page_of_formats_is_the_table():
    page = Path(__file__).parents[2] / "docs/formats.md"
    assert page.read_text(encoding="utf-8") == page_of_formats(), "python -m tests.images.conformance"
