"""detectron2 itself, which is on no package index and is built by `make detectron2`."""

from types import ModuleType

from sempre.errors import one_input_error


def import_detectron2() -> ModuleType:
    """detectron2 with its compiled operators.

    Raises:
        InputError: when it is absent or ill-installed.
    """
    with one_input_error(
        lambda reason: (
            f"detectron2 cannot be imported ({reason}): install it with `make detectron2`, or do without it "
            "with finetune/mask_rcnn.py"
        )
    ):
        import detectron2
        import detectron2._C
        import detectron2.modeling
    return detectron2
