import onnxruntime
import pytest

from sempre.deploy.session import open_session
from sempre.errors import InputError


class FakeSession:
    """In place of onnxruntime's; `started` are the providers that came up."""

    started = None

    def __init__(self, model, options, providers, provider_options):
        self.providers, self.provider_options = providers, provider_options

    def get_providers(self):
        return self.started or [*self.providers, "CPUExecutionProvider"]


@pytest.fixture
def every_provider(monkeypatch):
    names = ["CUDAExecutionProvider", "OpenVINOExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(onnxruntime, "InferenceSession", FakeSession)
    monkeypatch.setattr(FakeSession, "started", None)
    return FakeSession


@pytest.mark.parametrize(
    ("provider", "device", "full", "passed_on"),
    [
        ("cpu", None, "CPUExecutionProvider", {}),
        ("cuda", None, "CUDAExecutionProvider", {}),
        ("cuda", "1", "CUDAExecutionProvider", {"device_id": "1"}),
        ("openvino", "gpu", "OpenVINOExecutionProvider", {"device_type": "GPU"}),
    ],
)
def test_the_provider_and_its_device_are_passed_on(every_provider, provider, device, full, passed_on):
    session = open_session("model.onnx", provider=provider, device=device)
    assert (session.providers, session.provider_options) == ([full], [passed_on])


def test_a_provider_that_is_not_installed_says_what_to_install(any_bundle, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(InputError, match=r"which has cpu: .* pip install onnxruntime-gpu"):
        open_session(any_bundle() / "model.onnx", provider="cuda")


def test_a_provider_that_does_not_start_is_not_replaced_by_the_cpu(every_provider):
    every_provider.started = ["CPUExecutionProvider"]
    with pytest.raises(InputError, match="cuda did not start on device 3"):
        open_session("model.onnx", provider="cuda", device="3")


@pytest.mark.parametrize(
    ("provider", "device", "complaint"),
    [("tpu", None, "'tpu' is unknown"), ("cpu", "0", "not for the provider cpu"), ("cuda", "first", "give its number")],
)
def test_unusable_choices(every_provider, provider, device, complaint):
    with pytest.raises(InputError, match=complaint):
        open_session("model.onnx", provider=provider, device=device)
