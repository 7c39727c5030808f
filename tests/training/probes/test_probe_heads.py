"""Stacked heads are separate probes: forwards, backwards and through the optimiser."""

import copy
import importlib

import pytest
import torch
import torch.nn.functional as F

from models.attentive_probe import AnticipationClassifier, AttentiveClassifier
from models.config import AttentiveProbeConfig
from models.errors import CheckpointMismatchError, InvalidInputError
from models.probe_file import open_probe
from models.timm_encoder import import_timm
from training.probes.fitting import accuracy, fit_heads, grid, predict, update
from training.probes.head_optimiser import HeadAdamW
from training.probes.heads import AttentiveHeads, LinearHeads, draw_heads, mean_feature
from training.probes.losses import anticipation, cross_entropy, focal

HEADS, CLASSES, WIDTH = 3, 5, 48
RATES, DECAYS = torch.tensor([3e-3, 1e-3, 3e-4]), torch.tensor([0.0, 0.1, 0.8])


def config(depth):
    return AttentiveProbeConfig(embed_dim=WIDTH, num_heads=4, depth=depth)


def tokens_and_labels(samples=4):
    """Ten tokens a sample; of many samples norms go into the weights, of few into the tokens."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(samples, 10, WIDTH, generator=generator) * 3 + 1
    return tokens, torch.randint(0, CLASSES, (samples,), generator=generator)


def scrambled(stack):
    """Norms and biases that are not what they are drawn as, so that all of them count."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return stack


def separate(stack):
    """The same heads, each a module of its own."""
    probes = []
    for head in range(stack.count):
        if len(stack.outputs) == 3:
            probe = AnticipationClassifier(stack.config, *stack.outputs)
        else:
            probe = AttentiveClassifier(stack.config, stack.outputs[0])
        probe.load_state_dict(stack.state_of(head))
        probes.append(probe)
    return probes


@pytest.mark.parametrize("outputs", [(CLASSES,), (3, 4, 5)])
@pytest.mark.parametrize("samples", [4, 40])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_stacked_heads_answer_as_separate_probes(depth, outputs, samples):
    stack = scrambled(draw_heads(config(depth), WIDTH, outputs, HEADS, seed=0))
    tokens, _ = tokens_and_labels(samples)
    answers = stack(tokens)
    for head, probe in enumerate(separate(stack)):
        alone = probe(tokens)
        alone = alone if isinstance(alone, tuple) else (alone,)
        for question, expected in enumerate(alone):
            torch.testing.assert_close(answers[question][head], expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("depth", [1, 4])
def test_stacked_heads_learn_as_separate_probes_do(depth):
    stack = scrambled(draw_heads(config(depth), WIDTH, (CLASSES,), HEADS, seed=0))
    probes = separate(stack)
    tokens, labels = tokens_and_labels()
    together = HeadAdamW(stack.parameters(), RATES, DECAYS)
    alone = [
        torch.optim.AdamW(probe.parameters(), lr=float(rate), weight_decay=float(decay))
        for probe, rate, decay in zip(probes, RATES, DECAYS, strict=True)
    ]
    for _ in range(3):
        losses = update(stack, together, tokens, labels)
        for head, (probe, optimiser) in enumerate(zip(probes, alone, strict=True)):
            optimiser.zero_grad()
            loss = F.cross_entropy(probe(tokens), labels)
            torch.testing.assert_close(losses[head], loss.detach(), atol=1e-4, rtol=1e-4)
            loss.backward()
            optimiser.step()
    answers = predict(stack, tokens)
    for head, probe in enumerate(probes):
        torch.testing.assert_close(answers[head], probe(tokens), atol=2e-3, rtol=2e-3)


def test_one_step_of_the_optimiser_is_a_step_of_every_heads_adamw():
    torch.manual_seed(0)
    values, gradients = torch.randn(HEADS, 4, 3), torch.randn(5, HEADS, 4, 3)
    stacked = torch.nn.Parameter(values.clone())
    together = HeadAdamW([stacked], RATES, DECAYS)
    single = [torch.nn.Parameter(value.clone()) for value in values]
    alone = [
        torch.optim.AdamW([parameter], lr=float(rate), weight_decay=float(decay))
        for parameter, rate, decay in zip(single, RATES, DECAYS, strict=True)
    ]
    for gradient in gradients:
        stacked.grad = gradient.clone()
        together.step()
        for parameter, optimiser, part in zip(single, alone, gradient, strict=True):
            parameter.grad = part.clone()
            optimiser.step()
    for head, parameter in enumerate(single):
        torch.testing.assert_close(stacked[head], parameter, atol=1e-7, rtol=1e-6)


def test_recomputed_activations_give_the_same_gradients():
    stack = draw_heads(config(4), WIDTH, (CLASSES,), HEADS, seed=0)
    saving = copy.deepcopy(stack)
    saving.checkpoint_activations = True
    tokens, labels = tokens_and_labels()
    for one in (stack, saving):
        cross_entropy(one(tokens)[0], labels).sum().backward()
    for first, second in zip(stack.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad)


def test_linear_heads_see_the_normed_mean_of_the_tokens():
    stack = LinearHeads(WIDTH, (CLASSES,), HEADS)
    tokens, _ = tokens_and_labels()
    expected = F.linear(
        F.layer_norm(tokens.mean(1), (WIDTH,)),
        stack.probe.linear.weight[1],
        stack.probe.linear.bias[1],
    )
    torch.testing.assert_close(stack(tokens)[0][1], expected)
    torch.testing.assert_close(mean_feature(tokens), F.layer_norm(tokens.mean(1), (WIDTH,)))


def test_heads_travel_as_probes_that_stand_alone():
    stack = scrambled(draw_heads(config(1), WIDTH, (CLASSES,), HEADS, seed=0))
    other = draw_heads(config(1), WIDTH, (CLASSES,), HEADS, seed=1)
    other.load_heads([stack.state_of(head) for head in range(HEADS)])
    tokens, _ = tokens_and_labels()
    assert torch.equal(other(tokens)[0], stack(tokens)[0])


def test_a_probe_of_another_list_of_classes_is_refused():
    stack = AttentiveHeads(config(1), (CLASSES + 1,), 1)
    other = AttentiveHeads(config(1), (CLASSES,), 1)
    with pytest.raises(CheckpointMismatchError, match=r"linear\.weight"):
        stack.load_heads([other.state_of(0)])
    with pytest.raises(InvalidInputError, match="1 heads, the stack 2"):
        AttentiveHeads(config(1), (CLASSES,), 2).load_heads([other.state_of(0)])


@pytest.mark.parametrize("stack", [AttentiveHeads(config(1), (2,), 1), LinearHeads(WIDTH, (2,), 1)])
def test_tokens_of_another_width_are_refused_by_a_stack(stack):
    with pytest.raises(InvalidInputError, match=f"expected .*{WIDTH}"):
        stack(torch.zeros(2, 4, WIDTH + 1))


def test_focal_loss_is_that_of_torchvision():
    import_timm()  # teaches torchvision to load beside a torch of another build
    sigmoid_focal_loss = importlib.import_module("torchvision.ops").sigmoid_focal_loss
    torch.manual_seed(0)
    logits, labels = torch.randn(HEADS, 6, CLASSES) * 3, torch.randint(0, CLASSES, (6,))
    wanted = F.one_hot(labels, CLASSES).float()
    for head in range(HEADS):
        expected = sigmoid_focal_loss(logits[head], wanted, reduction="sum")
        torch.testing.assert_close(focal(logits, labels)[head], expected)
    labels = torch.stack([labels] * 3, dim=1)
    torch.testing.assert_close(anticipation([logits] * 3, labels), 3 * focal(logits, labels[:, 0]))


def test_heads_fit_what_tokens_say():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    tokens = torch.randn(40, 3, WIDTH, generator=generator)
    tokens[:, 1, 0] += 6.0 * labels
    stack = draw_heads(config(1), WIDTH, (2,), 2, seed=0)
    fit_heads(stack, tokens, labels, grid([1e-2, 1e-7], [0.01]), steps=20, batch_size=16)
    scores = accuracy(predict(stack, tokens), labels)
    assert scores[0] > 0.95 > scores[1]


def test_a_stack_of_published_heads_gives_the_reference_logits(shared_dir, tmp_path):
    vectors = torch.load(shared_dir / "golden" / "attentive_probe.pt", weights_only=True)
    torch.save(vectors["checkpoint"], tmp_path / "probe.pt")
    file = open_probe(tmp_path / "probe.pt", num_heads=4)
    stack = AttentiveHeads(file.config, file.classes, 3)
    stack.load_heads([file.heads[0]] * 3, file.source)
    for logits in stack(vectors["tokens"])[0]:
        torch.testing.assert_close(logits, vectors["logits"], atol=1e-4, rtol=0)
