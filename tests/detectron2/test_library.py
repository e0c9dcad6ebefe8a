import sys

import pytest

from finetune.detectron2_mask_rcnn import main
from sempre.errors import InputError


def test_without_detectron2_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "detectron2", None)
    monkeypatch.setattr("sys.argv", ["detectron2_mask_rcnn.py", "data=my_set"])
    with pytest.raises(
        InputError, match=r"^detectron2 cannot be imported \(.*\): install it with `make detectron2`"
    ) as error:
        main()
    assert "\n" not in str(error.value)
