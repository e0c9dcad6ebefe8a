import json

import numpy as np
from PIL import Image

from sempre.report.chain_page import write_chain_report


def test_the_chain_is_on_one_page_and_in_one_summary(write_run, disc_set, tmp_path):
    chain = tmp_path / "chain"
    (chain / "pretraining/figures").mkdir(parents=True)
    lines = [{"step": 1, "kind": kind, "time": 0.0, "loss": 0.5} for kind in ("train", "validation")]
    for folder in ("pretraining", "ours/repeat-0"):
        (chain / folder).mkdir(parents=True, exist_ok=True)
        (chain / folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(chain / "pretraining/figures/reconstructions.png")
    write_run(chain / "otsu", {"a": (0, 1), "b": ()})
    write_run(chain / "ours", {"a": (0, 1, 2), "b": (2,)})
    arms = {"Otsu": "otsu", "Ours": "ours"}
    summary = write_chain_report(chain, disc_set.folder, arms, {"pretrain": 2.0, "fine-tune": 3.0})
    assert summary == json.loads((chain / "summary.json").read_text())
    assert list(summary["arms"]) == ["Otsu", "Ours"]
    ours = summary["arms"]["Ours"]
    assert (ours["samples"], ours["samples_aji_plus"]["a"], ours["correct"]["mean"]) == (2, 1.0, 4)
    assert sum(ours["size_bins"]["found"]) == 4
    assert summary["error_reduction_rate"]["Ours"]["Otsu"] > 0
    assert (summary["pretraining_validation_loss"], summary["seconds"]["total"]) == (0.5, 5.0)
    page = (chain / "report.html").read_text()
    for text in ("Otsu", "Ours", "By size", "By micrograph", "Pretraining", "Held-out micrographs", "Time"):
        assert text in page
