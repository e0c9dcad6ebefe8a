"""The cells of a study, their names and commands, what waits for what, and what it costs."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from sempre.config import read_options
from sempre.errors import InputError
from sempre.study.cells import study_jobs, submission, write_jobs
from sempre.study.cost import curve_lines, memory_lines, plan_summary
from sempre.study.design import StudyOptions, image_counts, plan_cells

ROOT = Path(__file__).parents[2]
OPTIONS = StudyOptions(
    name="s",
    arms=["none", "imagenet", "fcmae"],
    sizes=["atto", "pico"],
    methods=["mask_rcnn", "dense"],
    image_exponents=[-1],
    label_shares=[0.5],
    fcmae=["epochs=10", "batch=8", "warmup_epochs=1", "validate_every=5"],
    densecl=["epochs=10", "batch=8"],
    mask_rcnn=["epochs=4", "batch=2"],
    dense=["epochs=2", "batch=4", "crops_an_epoch=40"],
)


def plan(options: StudyOptions = OPTIONS, images: int = 20, labelled: int = 10):
    return plan_cells(options, Path("my_set"), Path("store.h5"), images, labelled)


def test_every_method_arm_size_and_repeat_is_a_cell_and_the_curves_of_one_size():
    names = [cell.name for cell in plan()]
    assert len(set(names)) == len(names)
    assert [name for name in names if name.startswith("fcmae")] == [
        "fcmae-atto",
        "fcmae-pico",
        *[f"fcmae-atto-n{count}" for count in (1, 2, 4, 8)],
    ]
    assert {
        f"dense-{size}-{arm}-{seed}" for size in ("atto", "pico") for arm in ("none", "fcmae") for seed in (0, 1)
    } == {name for name in names if name.startswith("dense")}
    curve = {name for name in names if name.startswith("mask_rcnn-atto-fcmae")}
    assert curve == {
        f"mask_rcnn-atto-fcmae{part}-{seed}" for part in ("", "-l5", "-n1", "-n2", "-n4", "-n8") for seed in (0, 1)
    }


@pytest.mark.parametrize("file", sorted((ROOT / "configs/studies").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_shipped_study_is_made_of_commands_that_the_recipes_take(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    cells = plan(read_options(StudyOptions, [str(file)]), images=24_751, labelled=91)
    first_of_each_kind = {(cell.recipe, cell.arm, cell.images > 0, cell.labels > 0): cell for cell in reversed(cells)}
    read = {}
    for cell in first_of_each_kind.values():
        recipe, *arguments = cell.command
        read[cell.name] = read_options(import_module(recipe.removesuffix(".py").replace("/", ".")).Options, arguments)
    if file.stem == "paper":
        fcmae = read["fcmae-atto"]
        assert (fcmae.epochs, fcmae.crop, fcmae.mask_ratio) == (15_000, 640, 0.5)


def test_a_cell_starts_from_the_backbone_that_it_needs():
    cells = {cell.name: cell for cell in plan()}
    cell = cells["mask_rcnn-atto-fcmae-n4-1"]
    assert cell.needs in cells
    assert {"backbone=runs/s/fcmae-atto-n4/backbone", "seed=1", "architecture=convnextv2_atto"} <= set(cell.command)
    assert "image_count=4" in cells[cell.needs].command


def test_fewer_images_are_pretrained_on_for_as_many_steps():
    cells = {cell.name: cell for cell in plan()}  # 16 of 20 images are trained on: 2 steps an epoch
    assert cells["fcmae-atto"].steps == 20
    assert {"epochs=20", "warmup_epochs=2", "validate_every=10"} <= set(cells["fcmae-atto-n2"].command)


def test_image_net_is_left_out_without_its_file_and_taken_with_it(tmp_path):
    assert not [cell for cell in plan() if cell.arm == "imagenet"]
    (tmp_path / "atto.pt").touch()
    (tmp_path / "pico.safetensors").touch()
    own = replace(OPTIONS, imagenet=f"{tmp_path}/{{size}}.pt")
    cells = [cell for cell in plan(own) if cell.arm == "imagenet"]
    assert {cell.size for cell in cells} == {"atto"}
    assert f"backbone={tmp_path}/atto.pt" in cells[0].command
    timm = [c for c in plan(replace(own, imagenet=f"{tmp_path}/{{size}}.safetensors")) if c.arm == "imagenet"]
    assert {"backbone=imagenet", f"imagenet_weights={tmp_path}/pico.safetensors"} <= set(timm[0].command)


def test_jobs_wait_for_each_other_and_a_task_is_a_line(tmp_path):
    cells = plan()
    jobs = study_jobs(
        cells, tmp_path, Path("/sempre"), ["data/prepare.py"], ["tools/study.py", "run=report"], at_once=3
    )
    assert [(job.name, job.after) for job in jobs] == [
        ("prepare", ""),
        ("pretrain", "prepare"),
        ("finetune", "pretrain"),
        ("report", "finetune"),
    ]
    script = write_jobs(jobs, tmp_path, Path("/sempre")).read_text()
    assert "--dependency=afterany:$pretrain --array=0-27%3" in submission(jobs[2])
    assert submission(jobs[2]) in script
    lines = (tmp_path / "jobs/finetune.txt").read_text().splitlines()
    assert len(lines) == jobs[2].tasks == 28
    assert lines[0].startswith("/sempre/finetune/mask_rcnn.py ")
    assert lines[0].endswith("name=s/mask_rcnn-atto-none-0")


def test_the_plan_says_what_it_takes(tmp_path):
    one = replace(OPTIONS, arms=["none"], sizes=["atto"], methods=["dense"], curve_methods=[], repeats=1)
    told = plan_summary(plan(replace(one, seconds_a_step={"dense": 179.0})), one, tmp_path, 2)
    assert any("says nothing" in line for line in told), "the options that are told have no seconds a step"
    stated = replace(one, seconds_a_step={"dense": 179.0}, measured_on="a loaf of bread")
    told = plan_summary(plan(stated), stated, tmp_path, 2)  # 20 steps and 20 s: an hour
    assert told[1] == "finetune: 1 cells, 1.0 hours of one GPU or process"
    assert told[2].startswith("in all 1.0 hours (0.5 with 2 at a time)")
    assert "stated, of a loaf of bread" in told[3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ["magic"]}, "arms=magic is unknown"),
        ({"sizes": []}, r"sizes=\[\] is empty"),
        ({"detail_size": "huge"}, "detail_size=huge is none of"),
        ({"label_shares": [1.5]}, r"label_shares=\[1.5\] is out of range"),
        ({"fcmae": ["epochs=3"]}, "does not say batch"),
        ({"dense": ["nowhere.yaml"]}, "dense=nowhere.yaml is neither a YAML file nor key=value"),
    ],
)
def test_what_cannot_be_planned_is_said(change, message):
    with pytest.raises(InputError, match=message):
        plan(replace(OPTIONS, **change))


def test_image_counts_are_powers_of_two_below_all():
    assert image_counts(OPTIONS, images=25_000) == [2**s for s in range(15)]
    assert image_counts(replace(OPTIONS, image_exponents=[0, 3, 20]), images=100) == [1, 8]
    assert image_counts(replace(OPTIONS, image_exponents=[]), images=100) == []


CLUSTER = {"gpus_a_node": 4, "nodes": {"pretrain": 2, "fcmae-pico": 4, "finetune": 1}, "hours": {"pretrain": 48}}


def test_cells_of_other_nodes_and_hours_are_arrays_of_their_own(tmp_path):
    options = replace(OPTIONS, **CLUSTER, accumulation={"fcmae-pico": 2})
    cells = plan(options, images=200)
    jobs = study_jobs(cells, tmp_path, Path("/sempre"), ["data/prepare.py"], ["tools/study.py"], 3, options)
    assert [job.name for job in jobs] == ["prepare", "pretrain_1", "pretrain_2", "finetune", "report"]
    assert [job.after for job in jobs] == ["", "prepare", "pretrain_1", "pretrain_2", "finetune"]
    assert {"--nodes=2", "--time=48:00:00"} <= set(jobs[1].command)
    assert {"--nodes=4", "--time=48:00:00"} <= set(jobs[2].command)
    assert "--nodes=1" in jobs[3].command and not any("--time" in flag for flag in jobs[3].command)
    script = write_jobs(jobs, tmp_path, Path("/sempre")).read_text()
    assert "--dependency=afterok:$prepare" in script and "--dependency=afterany:$pretrain_2" in script
    (pico,) = (tmp_path / "jobs/pretrain_2.txt").read_text().splitlines()
    assert "accumulation=2" in pico and "name=s/fcmae-pico" in pico
    listed = [line for n in (1, 2) for line in (tmp_path / f"jobs/pretrain_{n}.txt").read_text().splitlines()]
    assert len(listed) == sum(cell.stage == "pretrain" for cell in cells)


def test_numbers_of_images_below_the_processes_are_left_out_with_a_word():
    options = replace(OPTIONS, **CLUSTER)  # eight processes for Atto
    assert image_counts(options, images=100) == [8, 16, 32, 64]
    told = curve_lines(plan(options, images=100), options)
    assert any("numbers of images below 8 are left out" in line for line in told)


def test_equal_epochs_are_those_of_all_images_and_the_cost_of_equal_steps_is_told():
    cells = {cell.name: cell for cell in plan(replace(OPTIONS, equal="epochs"))}
    assert not any(argument.startswith("epochs=20") for argument in cells["fcmae-atto-n2"].command)
    assert "image_count=2" in cells["fcmae-atto-n2"].command and cells["fcmae-atto-n2"].steps == 10
    assert "takes 4.0 times the pretraining on all" in curve_lines(plan(), OPTIONS)[0]


def test_repeats_begin_with_several_subsets_of_each_number_of_images():
    cells = {cell.name: cell for cell in plan(replace(OPTIONS, image_repeats=2, repeats=4))}
    assert {"image_seed=1", "seed=1", "image_count=4"} <= set(cells["fcmae-atto-n4-s1"].command)
    assert [cells[f"mask_rcnn-atto-fcmae-n4-{seed}"].needs for seed in range(4)] == [
        "fcmae-atto-n4",
        "fcmae-atto-n4-s1",
        "fcmae-atto-n4",
        "fcmae-atto-n4-s1",
    ]


def test_what_does_not_fit_into_a_gpu_is_refused_before_it_is_submitted(monkeypatch):
    monkeypatch.chdir(ROOT)
    paper = read_options(StudyOptions, ["configs/studies/paper.yaml"])
    (fcmae,) = [line for line in memory_lines(plan(paper, 24_751, 59), paper) if line.startswith("fcmae")]
    assert "GB a GPU" in fcmae and "(huge)" in fcmae
    for change in ({"nodes": {"pretrain": 2}}, {"gpu_gigabytes": 12.0}):
        small = replace(paper, **change)
        with pytest.raises(InputError, match=r"of \w+ would need about \d+ GB a GPU, and gpu_gigabytes is"):
            memory_lines(plan(small, 24_751, 59), small)
    with pytest.raises(InputError, match="nodes says something of fcmae-giant"):
        plan(replace(OPTIONS, nodes={"fcmae-giant": 3}))
