"""Save corrected labels as a labelled set, and improve the model on it: the recipe and the export as processes."""

from pathlib import Path
from typing import cast

import streamlit as st

from sempre.app.kept import Upload, default, value
from sempre.app.messages import show_error
from sempre.app.segmenting import Found
from sempre.data.labelled_folder import save_labelled
from sempre.deploy.released import DEFAULT
from sempre.errors import InputError
from sempre.files import read_json
from sempre.training.background import BackgroundTraining, training_job

FOLDER, NAME = "labelled", "improved"
BATCH = 4
# For few steps on few micrographs: a low rate, and an average over the last ten steps or so.
SHORT = ["epochs=1", "validate_every=0", "workers=0", f"batch={BATCH}", "rate=5e-4", "warmup=0.1", "average=0.9"]
FIRST_PACE = 12.0  # steps a minute, until a run has shown what this machine does
PERIOD = 1.0  # s between two looks at a training


def set_folder() -> Path:
    """The folder of the labelled set, by default one beside where the cockpit was started."""
    return Path(str(value("labelled_set", "")).strip() or FOLDER).expanduser().absolute()


def improved_bundles() -> list[str]:
    """The bundles that were made of the labelled set, the newest first."""
    made = [path.parent for path in set_folder().glob("runs/*/bundle/model.json")]
    return [str(path) for path in sorted(made, key=lambda path: path.stat().st_mtime, reverse=True)]


def show_saving(file: Upload, found: Found) -> None:
    """Where corrected micrographs are saved, and *Improve the model*."""
    st.subheader("Save and improve")
    st.text_input(
        "Labelled set",
        key=default("labelled_set", str(Path(FOLDER).absolute())),
        help="a folder; images/ and labels/ are made in it",
    )
    if st.button("Save to the labelled set"):
        try:
            labels, size = found.segmentation.labels, found.pixel_size
            save_labelled(set_folder(), file.path.stem, found.pixels, labels, (size.x, size.y) if size else None)
            st.success(f"{file.path.stem} is saved in {set_folder()}")
        except (InputError, OSError) as error:
            show_error(error)
    count = len(list((set_folder() / "labels").glob("*.tif")))
    st.caption(f"{count} micrographs are in the labelled set. Save two or more: one is kept to test the new model.")
    minutes = cast(
        float,
        st.number_input(
            "Minutes to train",
            0.1,
            1000.0,
            step=1.0,
            key=default("training_minutes", 6.0),
            help="an estimate: the first training assumes a slow processor, later ones take the pace of the last",
        ),
    )
    training: BackgroundTraining | None = st.session_state.get("training")
    running = training is not None and training.running
    if st.button("Improve the model", type="primary", disabled=running or count < 2):
        try:
            steps = max(1, round(minutes * pace(set_folder())))
            options = [f"start={DEFAULT}", *SHORT, f"crops_an_epoch={BATCH * steps}"]
            job = training_job(set_folder(), next_name(set_folder()), options)
            st.session_state["training"] = training = BackgroundTraining(job)
            st.rerun()
        except (InputError, OSError) as error:
            show_error(error)
    if training is not None:
        if running:
            st.fragment(_show_running, run_every=PERIOD)(training)
        else:
            _show_ended(training)


def _show_running(training: BackgroundTraining) -> None:
    if not training.running:
        st.rerun()
    what, done, of = training.progress()
    text = f"{training.job.run.name}: {what}" + (f", step {done} of {of}" if of else "")
    st.progress(min(done / of, 1.0) if of else 0.0, text)
    if st.button("Cancel the training", disabled=training.cancelled):
        with st.spinner("Cancelling"):
            training.cancel()
        st.rerun()


def _show_ended(training: BackgroundTraining) -> None:
    name = training.job.run.name
    if not training.failed:
        st.success(f"{name} is in the list of models: choose it and segment again.")
    elif training.cancelled:
        st.info(f"{name} was cancelled.")
        if st.button("Go on with the training"):
            st.session_state["training"] = BackgroundTraining(training.job)
            st.rerun()
    else:
        st.error(training.failed, icon=":material/error:")


def next_name(folder: Path) -> str:
    """The first of improved_1, improved_2, … that is no run of the labelled set yet."""
    number = 1
    while (folder / "runs" / f"{NAME}_{number}").exists():
        number += 1
    return f"{NAME}_{number}"


def pace(folder: Path) -> float:
    """Steps a minute of the newest training of the labelled set, by its own count; `FIRST_PACE` without one."""
    logs = list(folder.glob(f"runs/{NAME}_*/repeat-0/checkpoints/last/progress.json"))
    for path in sorted(logs, key=lambda path: path.stat().st_mtime, reverse=True):
        progress = read_json(path)
        if progress.get("step") and progress.get("seconds"):
            return 60 * progress["step"] / progress["seconds"]
    return FIRST_PACE
