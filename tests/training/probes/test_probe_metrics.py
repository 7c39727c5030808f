"""Numbers of an evaluation, as laws."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidInputError
from training.probes.metrics import (
    class_mean_recall,
    confusion_matrix,
    hits,
    mean_over_classes,
    wilson_interval,
)
from training.probes.neighbours import neighbour_scores
from training.probes.pictures import draw_confusion


@given(total=st.integers(1, 1000), share=st.floats(0, 1))
def test_an_interval_holds_the_share_and_narrows(total, share):
    correct = round(share * total)
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= correct / total <= high <= 1
    wide_low, wide_high = wilson_interval(correct * 4, total * 4)
    assert wide_high - wide_low <= high - low


def test_class_mean_recall_counts_every_class_alike():
    labels = torch.tensor([0] * 98 + [1, 2])
    scores = torch.zeros(100, 10)
    scores[:, 0] = 1.0  # always the frequent class first, and nothing else above the rest
    scores[:, 5:9] = 0.5
    assert hits(scores, labels, 5).float().mean() == pytest.approx(0.98)
    assert class_mean_recall(scores, labels) == pytest.approx(1 / 3)


def test_recall_at_five_does_not_change_when_samples_of_a_class_are_repeated():
    torch.manual_seed(0)
    scores, labels = torch.rand(40, 12), torch.arange(40) % 7
    often = torch.cat([torch.arange(40), *[(labels == 3).nonzero().squeeze(1)] * 4])
    assert class_mean_recall(scores[often], labels[often]) == pytest.approx(
        class_mean_recall(scores, labels)
    )


def test_recall_at_five_is_the_plain_definition():
    torch.manual_seed(1)
    scores, labels = torch.rand(60, 9), torch.randint(0, 6, (60,))
    recalls = []
    for label in range(6):
        rows = scores[labels == label]
        found = [label in row.argsort(descending=True)[:5].tolist() for row in rows]
        recalls.append(sum(found) / len(found))
    assert class_mean_recall(scores, labels) == pytest.approx(sum(recalls) / 6)


def test_classes_that_cannot_be_asked_about_take_no_place():
    labels = torch.tensor([5, 6])
    scores = torch.tensor([[9.0, 8, 7, 6, 5, 1, 0], [9.0, 8, 7, 6, 5, 0, 1]])
    assert class_mean_recall(scores, labels) == 0.0
    assert class_mean_recall(scores, labels, classes=[5, 6]) == 1.0


def test_a_confusion_matrix_counts_every_pair():
    labels, predictions = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 2, 1, 2, 0])
    assert confusion_matrix(labels, predictions, 3).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    assert mean_over_classes(labels == predictions, labels) == pytest.approx((0.5 + 1 + 0.5) / 3)


def test_neighbours_vote_as_a_plain_search_does():
    generator = torch.Generator().manual_seed(0)
    references = torch.randn(50, 8, generator=generator)
    labels = torch.randint(0, 4, (50,), generator=generator)
    queries = torch.randn(9, 8, generator=generator)
    votes = neighbour_scores(queries, references, labels, 4, neighbours=[1, 7], temperature=0.1)
    assert votes.shape == (2, 9, 4)
    for number, query in enumerate(queries):
        similar = torch.cosine_similarity(query[None], references)
        nearest = similar.argsort(descending=True)[:7]
        assert votes[0, number].argmax() == labels[nearest[0]]
        expected = torch.zeros(4)
        for row in nearest:
            expected[labels[row]] += ((similar[row] - similar.max()) / 0.1).exp()
        torch.testing.assert_close(votes[1, number], expected)


def test_a_training_sample_is_its_own_nearest_neighbour():
    references, labels = torch.randn(20, 6), torch.arange(20)
    votes = neighbour_scores(references * 3, references, labels, 20, neighbours=[1])
    assert torch.equal(votes[0].argmax(dim=1), labels)


def test_more_neighbours_than_there_are_all_vote():
    references, labels = torch.randn(3, 6), torch.arange(3)
    votes = neighbour_scores(references, references, labels, 3, neighbours=[3, 100])
    torch.testing.assert_close(votes[0], votes[1])
    with pytest.raises(InvalidInputError, match=r"R >= 1"):
        neighbour_scores(references, references[:0], labels[:0], 3, neighbours=[1])


def test_of_many_classes_the_worst_mistakes_are_told_in_words():
    names = [f"class {number}" for number in range(100)]
    matrix = 5 * torch.eye(100, dtype=torch.int64)
    matrix[3, 7], matrix[7, 3], matrix[99, 0] = 4, 2, 9
    page = draw_confusion(matrix, names)
    assert "<svg" not in page
    told = re.findall(r"<th>(.*?)</th><td class='number'>(.*?)</td>", page)
    assert told == [
        ("class 99 taken for class 0", "9"),
        ("class 3 taken for class 7", "4"),
        ("class 7 taken for class 3", "2"),
    ]
