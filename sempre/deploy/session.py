"""Open a network on the processor that the user has: onnxruntime's providers under short names."""

from pathlib import Path
from typing import TYPE_CHECKING

from sempre.errors import InputError

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "openvino": "OpenVINOExecutionProvider"}
PACKAGES = {"cpu": "onnxruntime", "cuda": "onnxruntime-gpu", "openvino": "onnxruntime-openvino"}


def open_session(
    model: Path, threads: int | None = None, provider: str = "cpu", device: str | None = None
) -> "onnxruntime.InferenceSession":
    """A session of a `model.onnx`.

    Args:
        threads: of the processor; None lets onnxruntime take every core.
        provider: "cpu", "cuda" or "openvino".
        device: for cuda the GPU's number, for openvino its name of a device ("CPU", "GPU", "NPU", "AUTO"); None is the
            provider's first choice.

    Raises:
        InputError: for threads that cannot be, for a provider or a device that is not there, and a model that cannot be
            loaded. What was asked for runs or is an error; onnxruntime would quietly take the CPU.
    """
    import onnxruntime  # where a session is opened, so that the command's --help need not wait for it

    if threads is not None and threads < 1:
        raise InputError(f"{threads} threads cannot compute: give 1 or more")
    offered = onnxruntime.get_available_providers()
    wanted, device_options = _available(provider, offered), _device_options(provider, device)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors only
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[wanted], provider_options=[device_options])
    except Exception as error:  # onnxruntime's exceptions have no common class of their own
        where = f" by {provider}{f' on device {device}' if device else ''}" if provider != "cpu" else ""
        raise InputError(f"{model} cannot be loaded{where}: {error}; a newer onnxruntime may help") from error
    if wanted not in session.get_providers():
        raise InputError(
            f"the provider {provider} did not start{f' on device {device}' if device else ''}: look for its driver and"
            " libraries, or take the provider cpu"
        )
    return session


def _available(provider: str, offered: list[str]) -> str:
    if provider not in PROVIDERS:
        raise InputError(f"the provider '{provider}' is unknown: give {', '.join(PROVIDERS)}")
    if PROVIDERS[provider] not in offered:
        here = ", ".join(name for name, full in PROVIDERS.items() if full in offered)
        raise InputError(
            f"the provider {provider} is not in this onnxruntime, which has {here}: pip uninstall onnxruntime, then"
            f" pip install {PACKAGES[provider]}"
        )
    return PROVIDERS[provider]


def _device_options(provider: str, device: str | None) -> dict[str, str]:
    if device is None:
        return {}
    if provider == "cuda":
        if not device.isascii() or not device.isdigit():
            raise InputError(f"the device '{device}' is no GPU of cuda: give its number, 0 for the first")
        return {"device_id": device}
    if provider == "openvino":
        return {"device_type": device.upper()}
    raise InputError(f"the device '{device}' is not for the provider cpu: give the provider cuda or openvino with it")
