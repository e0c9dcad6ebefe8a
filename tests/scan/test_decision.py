import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from sempre.errors import InputError
from sempre.frozen.prototypes import Clicks
from sempre.scan.priorities import ThinkOptions, decide, mixed, patches_at, priorities, taught
from tests.scan.conftest import STRANGE

NOWHERE = np.zeros((0, 2))


def clicks(*points, negative=NOWHERE) -> Clicks:
    return Clicks(np.array(points, np.float64).reshape(-1, 2), np.asarray(negative, np.float64))


def test_one_click_finds_the_other_place_of_its_kind(patches):
    (row, column), other = STRANGE
    probability = taught(patches, clicks((row * 16 + 8, column * 16 + 8))).reshape(16, 16)
    ranks = np.argsort(-probability.ravel())[:2]
    assert {tuple(np.unravel_index(rank, (16, 16))) for rank in ranks} == {(row, column), other}


def test_a_negative_click_takes_it_back(patches):
    (first, second) = ((row * 16 + 8, column * 16 + 8) for row, column in STRANGE)
    vectors = patches.vectors.reshape(16, 16, 5).copy()
    vectors[STRANGE[1]][2] += 8  # what tells the two apart
    apart = type(patches)(patches.grid, vectors.reshape(-1, 5))
    before = taught(apart, clicks(first))[patches_at(apart, np.array([second]))]
    after = taught(apart, clicks(first, negative=[second]))[patches_at(apart, np.array([second]))]
    assert before > 0.5 > after


def test_the_teacher_is_scikit_learns_and_never_learns_from_near_the_click(patches):
    click = np.array([[56.0, 72.0]])
    far = np.flatnonzero(np.linalg.norm(patches.centres - click, axis=1) >= 64)
    drawn = np.sort(np.random.default_rng(5).permutation(far)[:20])
    chosen = np.concatenate([patches_at(patches, click), drawn])
    scaled = patches.vectors / patches.vectors.std(axis=0)
    model = LogisticRegression(C=10, class_weight="balanced", max_iter=1000)
    model.fit(scaled[chosen], [1] + [0] * 20)
    np.testing.assert_allclose(
        taught(patches, clicks(*click), seed=5), model.predict_proba(scaled)[:, 1], rtol=1e-4, atol=1e-6
    )


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_priorities_lie_in_0_to_1_and_keep_the_order(scores):
    found = priorities(np.array(scores))
    assert ((found >= 0) & (found <= 1)).all()
    order = np.argsort(scores, kind="stable")
    assert (np.diff(found[order]) >= 0).all()


def test_a_mixture_is_the_weighted_mean():
    parts = {"anomaly": np.array([0.0, 1.0]), "clicks": np.array([1.0, 0.5])}
    np.testing.assert_allclose(mixed(parts, {"anomaly": 1, "clicks": 3}), [0.75, 0.625])
    with pytest.raises(InputError, match="weights name text, which is not there"):
        mixed(parts, {"text": 1})
    with pytest.raises(InputError, match="all weights are 0"):
        mixed(parts, {"anomaly": 0})


def test_a_click_leaves_the_other_parts_as_they_were(preview, patches):
    options = ThinkOptions()
    first = decide(preview, patches, options)
    assert first.weights == {"anomaly": 1.0}
    again = decide(preview, patches, options, clicks((56, 72)), known=first.parts)
    assert again.parts["anomaly"] is first.parts["anomaly"]
    assert set(again.weights) == {"anomaly", "clicks"}
    with pytest.raises(InputError, match="nothing is left to decide by"):
        decide(preview, patches, ThinkOptions(anomaly_weight=0))
    with pytest.raises(InputError, match="the point y=300 x=5 is outside"):
        decide(preview, patches, options, clicks((300, 5)))


def test_text_without_a_model_gets_one_line_that_says_which_and_where(preview, patches, tmp_path):
    options = ThinkOptions(text=["cracks"])
    with pytest.raises(InputError, match=r"needs CLIP's weights: give their folder, clip=FOLDER"):
        decide(preview, patches, options)
    options = ThinkOptions(text=["cracks"], clip=str(tmp_path))
    with pytest.raises(
        InputError, match=r"config\.json is not there: copy a model such as openai/clip-vit-base"
    ) as error:
        decide(preview, patches, options)
    assert "\n" not in str(error.value)
