import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from sempre.errors import InputError
from sempre.frozen.tasks import (
    balanced_accuracy,
    linear_probe,
    nearest,
    retrieval_accuracy,
    separation,
    vote,
)


def data(seed: int, classes: int = 3) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    return (
        random.normal(size=(30, 6)),
        random.integers(0, classes, 30),
        random.normal(size=(11, 6)),
        random.integers(0, classes, 11),
    )


@given(st.integers(0, 1000), st.integers(1, 30))
def test_neighbours_and_votes_are_scikit_learns_and_numpys(seed, k):
    bank, bank_labels, queries, labels = data(seed)
    found = nearest(bank, queries, k)
    unit, unit_queries = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (bank, queries))
    np.testing.assert_array_equal(found, np.argsort(-unit_queries @ unit.T, axis=1)[:, :k])
    reference = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(bank, bank_labels)
    np.testing.assert_array_equal(vote(bank_labels[found]), reference.predict(queries))
    predicted = vote(bank_labels[found])
    if set(predicted) <= set(labels):
        assert balanced_accuracy(predicted, labels) == pytest.approx(balanced_accuracy_score(labels, predicted))
    shares = {label: [] for label in labels}
    for row, label in zip(found, labels, strict=True):
        shares[label].append(sum(bank_labels[position] == label for position in row) / k)
    expected = np.mean([np.mean(values) for values in shares.values()])
    assert retrieval_accuracy(bank_labels[found], labels) == pytest.approx(expected)


@given(st.integers(0, 1000))
def test_separation_is_the_ratio_of_the_scatters(seed):
    bank, labels, *_ = data(seed)
    between = within = 0.0
    for label in set(labels):
        rows = bank[labels == label]
        between += len(rows) * np.sum((rows.mean(0) - bank.mean(0)) ** 2)
        within += sum(np.sum((row - rows.mean(0)) ** 2) for row in rows)
    assert separation(bank, labels) == pytest.approx(between / within)


def test_degenerate_cases():
    bank = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert np.isnan(separation(bank, np.zeros(2)))
    assert separation(bank, np.array([0, 1])) == float("inf")
    assert np.isnan(balanced_accuracy(np.zeros(0), np.zeros(0)))
    with pytest.raises(InputError, match="k=3 neighbours cannot be found among 2 embeddings"):
        nearest(bank, bank, 3)


def test_the_probe_finds_a_line():
    bank, *_ = data(0)
    labels = (bank[:, 0] > 0.1 * bank[:, 1]).astype(int)
    assert balanced_accuracy(linear_probe().fit(bank, labels).predict(bank), labels) > 0.95
